"""Two real gloo processes must train peers as one does."""

import pytest
import torch

from .test_exactness import assert_same_gradient
from .test_two_processes import launch
from .tiny_mutual import PAIRS


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return launch(folder / "one", 1, "mutual_processes"), launch(folder / "two", 2, "mutual_processes")


def test_there_really_are_two_processes(runs):
    assert [run["world"] for run in runs] == [1, 2]


@pytest.mark.parametrize("task", PAIRS)
def test_gradients_logs_and_metrics_are_equal(runs, task):
    one, two = runs
    assert_same_gradient(torch.tensor(two["gradients"][task]), torch.tensor(one["gradients"][task]))
    assert two["logs"][task] == pytest.approx(one["logs"][task], rel=1e-4)
    assert two["metrics"][task] == pytest.approx(one["metrics"][task], rel=1e-3)


def test_resume_is_exact_on_every_process(runs):
    for run in runs:
        assert run["resume_equal"]
        assert run["weights"] == [run["weights"][0]] * run["world"]
        assert run["best_peers"] == [run["best_peers"][0]] * run["world"]
