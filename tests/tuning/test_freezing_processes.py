"""Two real gloo processes must unfreeze as one does: a layer that wakes up late has its gradients averaged too."""

import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file


REPOSITORY = Path(__file__).parents[2]


def launch(folder: Path, processes: int) -> Path:
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    command = [sys.executable, *(launcher if processes == 2 else []), "-m", "tests.tuning.unfreezing_processes"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, str(folder), str(processes)], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_two_processes_give_the_weights_of_one(tmp_path):
    one, two = launch(tmp_path / "one", 1), launch(tmp_path / "two", 2)
    expected = load_file(one / "rank-0.safetensors")
    ranks = [load_file(two / f"rank-{rank}.safetensors") for rank in (0, 1)]
    for name, value in expected.items():
        assert ranks[0][name].equal(ranks[1][name]), f"the ranks drift apart at {name}"
        assert (ranks[0][name] - value).abs().max() < 1e-5
