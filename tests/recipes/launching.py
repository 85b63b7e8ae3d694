"""How the tests run a recipe: launched as people do, or in this process to see what it refuses."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path


REPOSITORY = Path(__file__).parents[2]


def launch(recipe: str, topology: str, out: Path, *words: str) -> subprocess.CompletedProcess:
    """A recipe's debug run, launched without a network on CPU processes."""
    config = f"recipes/accelerate_configs/{topology}.yaml"
    command = ["accelerate.commands.launch", "--config_file", config, "--main_process_port", "0"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1"}
    del env["HF_HUB_DISABLE_PROGRESS_BARS"]  # people don't set it either
    script, debug = REPOSITORY / "recipes" / f"{recipe}.py", REPOSITORY / "recipes" / recipe / "debug.yaml"
    done = subprocess.run(
        [sys.executable, "-m", *command, script, "--config", debug, "--output_dir", out, *words],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-15000:]
    return done


def run(monkeypatch, recipe: str, *words: object, config: str = "debug") -> None:
    """A recipe's debug run, or another of its configs, in this process."""
    script = REPOSITORY / "recipes" / f"{recipe}.py"
    path = REPOSITORY / "recipes" / recipe / f"{config}.yaml"
    monkeypatch.setattr(sys, "argv", [str(script), "--config", str(path), *map(str, words)])
    runpy.run_path(str(script), run_name="__main__")


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())
