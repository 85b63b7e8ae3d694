"""Two real gloo processes must train as one does: gradients, logs, metrics, cache, augmentation and resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .test_exactness import assert_same_gradient
from .tiny import CONFIGS
from .tiny_distillation import HEADS
from .tiny_finetuning import MODELS


REPOSITORY = Path(__file__).parents[2]


def launch(folder, processes, script="two_processes"):
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    command = [sys.executable, *(launcher if processes == 2 else []), "-m", f"tests.trainers.{script}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, str(folder), str(processes)], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return launch(folder / "one", 1), launch(folder / "two", 2)


def test_there_really_are_two_processes(runs):
    assert [run["world"] for run in runs] == [1, 2]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_and_logs_are_equal(runs, kind, accumulation):
    one, two = (torch.tensor(run["gradients"][f"{kind}-{accumulation}"]) for run in runs)
    assert_same_gradient(two, one)
    one, two = (run["gradients"][f"{kind}-{accumulation}-logged"] for run in runs)
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("kind", [*MODELS, "adapter"])
def test_finetuning_with_uneven_labels_is_that_of_one_process(runs, kind):
    one, two = (run["finetuning"][kind] for run in runs)
    assert_same_gradient(torch.tensor(two["gradient"]), torch.tensor(one["gradient"]))
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-3)


@pytest.mark.parametrize("kind", [*HEADS, "projectors", "top-k"])
def test_distillation_of_every_head_is_that_of_one_process(runs, kind):
    one, two = (run["distillation"][kind] for run in runs)
    assert_same_gradient(torch.tensor(two["gradient"]), torch.tensor(one["gradient"]))
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-3)


def test_metrics_count_no_sample_twice(runs):
    one, two = runs
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
    assert two["teacher"] == pytest.approx(one["teacher"])


def test_second_epoch_runs_no_teacher_on_either_process(runs):
    """24 samples in batches of 4 on each process: three batches, all in the first epoch."""
    one, two = runs
    assert (one["teacher_calls"], two["teacher_calls"]) == (3, 3)
    assert two["cached_losses"] == pytest.approx(two["plain_losses"], abs=1e-5)


def test_augmentation_does_not_depend_on_the_process(runs):
    one, two = runs
    assert two["augmented_losses"] == pytest.approx(one["augmented_losses"], rel=1e-4)


def test_resume_is_exact_on_two_processes(runs):
    assert [run["resume_equal"] for run in runs] == [True, True]


def test_teacher_beside_a_sharded_student_is_sharded_too(runs):
    found = runs[1]["sharded_teacher"]
    assert found["sharded"]
    assert found["difference"] < 1e-5


def test_sequences_of_other_lengths_on_each_process(runs):
    one, two = runs
    assert two["token_teacher"] == pytest.approx(one["token_teacher"])
    assert two["token_metrics"] == pytest.approx(one["token_metrics"], rel=1e-3)


def test_every_process_ends_with_the_best_model(runs):
    for run in runs:
        assert run["best_weights"] == [run["best_weights"][0]] * run["world"]
        assert run["best"][0] == pytest.approx(run["best"][1], rel=1e-5)
