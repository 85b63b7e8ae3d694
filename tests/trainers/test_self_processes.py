"""Two real gloo processes must distil as one does: an average that drifts apart, or means over a part, would show."""

import numpy as np
import pytest
import torch

from .self_processes import RUNS, main
from .test_exactness import assert_same_gradient
from .test_two_processes import launch


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self")
    (folder / "one").mkdir()
    return main(folder / "one", 1), launch(folder / "two", 2, "self_processes")


@pytest.mark.parametrize("name", RUNS)
def test_weights_average_and_logs_are_those_of_one_process(runs, name):
    one, two = (run[name] for run in runs)
    assert [one["world"], two["world"]] == [1, 2]
    assert two["equal"], "the processes have drifted apart"
    if name == "batch_norm":  # sees a part of the batch on each process
        return
    assert_same_gradient(torch.tensor(two["gradient"]), torch.tensor(one["gradient"]))
    assert np.allclose(two["weights"], one["weights"], atol=1e-4)
    assert np.allclose(two["logs"], one["logs"], rtol=1e-3, atol=1e-4)
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-3)
