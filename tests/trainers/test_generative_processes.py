"""Two real gloo processes must train generative models as one does: noise by rank, or buffers that drift, would show."""

import numpy as np
import pytest
import torch

from .generative_processes import RUNS
from .test_exactness import assert_same_gradient
from .test_two_processes import launch


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generative")
    return launch(folder / "one", 1, "generative_processes"), launch(folder / "two", 2, "generative_processes")


def test_there_really_are_two_processes(runs):
    assert [run["world"] for run in runs] == [1, 2]


@pytest.mark.parametrize("name", RUNS)
def test_weights_gradients_and_logs_are_those_of_one_process(runs, name):
    one, two = runs
    assert two["equal"][name], "the processes have drifted apart"
    assert_same_gradient(torch.tensor(two["gradients"][name]), torch.tensor(one["gradients"][name]))
    assert np.allclose(two["weights"][name], one["weights"][name], atol=1e-4)
    assert np.allclose(two["logs"][name], one["logs"][name], rtol=1e-3, atol=1e-4)


def test_a_codebook_is_the_same_on_both_processes(runs):
    assert runs[1]["equal"]["vq_vae"]


@pytest.mark.parametrize("name", ["vae_metrics", "gan_metrics", "diffusion_metrics"])
def test_evaluation_and_scores_of_pictures_are_those_of_one_process(runs, name):
    one, two = runs
    assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5)


def test_encodings_and_anomaly_scores_come_in_order(runs):
    one, two = runs
    assert np.allclose(two["means"], one["means"], atol=1e-5)
    assert np.allclose(two["scores"], one["scores"], atol=1e-3)
