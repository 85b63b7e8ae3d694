"""What is measured while a GAN trains, against definitions, and without touching the training."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from hf_genkit.evaluation.gan_probes import (
    detect_failure,
    dominant_cycle,
    oscillation,
    sample_diversity,
    spectral_norms,
)


# ---- Diversity ----


def test_diversity_is_the_mean_distance_of_two_different_samples():
    pixels = torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    distances = [(pixels[i] - pixels[j]).norm().item() for i in range(7) for j in range(i)]
    assert sample_diversity(pixels) == pytest.approx(sum(distances) / len(distances), rel=1e-6)
    assert sample_diversity(pixels.bfloat16()) == pytest.approx(sample_diversity(pixels), rel=1e-2)


def test_identical_samples_have_no_diversity():
    assert sample_diversity(torch.full((8, 1, 4, 4), 0.3)) == 0


def test_one_sample_has_no_pair():
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        sample_diversity(torch.zeros(1, 1, 4, 4))


# ---- Spectral norms and gradients ----


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 5, 2), nn.Flatten(), nn.Linear(5, 40), nn.Linear(40, 1)
    )  # fmt: skip


def test_spectral_norms_are_the_largest_singular_values_of_linear_and_convolutional_layers():
    module = network()
    norms = spectral_norms(module)
    matrices = {
        "0": module[0].weight.flatten(1),
        "2": module[2].weight.transpose(0, 1).flatten(1),
        "4": module[4].weight,
        "5": module[5].weight,
    }
    assert norms == pytest.approx({name: torch.linalg.svdvals(w.detach())[0].item() for name, w in matrices.items()})


def spectrally_normalised(iterations):
    module = network()
    for index in (0, 2, 4):
        nn.utils.parametrizations.spectral_norm(module[index], n_power_iterations=iterations)
    return module.train()


def test_a_spectrally_normalised_layer_has_norm_1():
    norms = spectral_norms(spectrally_normalised(50))
    assert [norms["0"], norms["2"], norms["4"]] == pytest.approx([1, 1, 1], abs=1e-3)


def test_probing_does_not_advance_the_power_iteration_of_a_module_in_training():
    module = spectrally_normalised(1)
    before = copy.deepcopy(module.state_dict())
    spectral_norms(module)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(part.training for part in module.modules())


def test_a_module_without_weights_has_no_norms():
    assert spectral_norms(nn.ReLU()) == {}


# ---- Oscillation ----

TIME = np.arange(240)
CYCLES = {
    "sine": np.sin(2 * np.pi * TIME / 30),
    "sine on a slope": np.sin(2 * np.pi * TIME / 30) + 0.05 * TIME,
    "sawtooth": TIME / 30 % 1,
    "spikes": (TIME % 30 < 4).astype(float),
    "flip": (-1.0) ** TIME,
}


def noises(seed, n):
    noise = np.random.default_rng(seed).normal(size=n)
    smooth = noise.copy()
    for i in range(1, n):
        smooth[i] += 0.9 * smooth[i - 1]
    return {"white": noise, "smooth": smooth, "walk": noise.cumsum(), "drift": noise + np.linspace(0, 20, n)}


@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_of_any_shape_is_seen_with_its_period(name):
    strength, period = dominant_cycle(CYCLES[name])
    assert strength > 0.9
    remainder = period % (2 if name == "flip" else 30)
    assert period > 0
    assert remainder == 0


def test_a_cycle_under_as_much_noise_is_seen_in_a_long_log():
    noise = np.random.default_rng(0).normal(size=2000)
    assert oscillation(np.sin(2 * np.pi * np.arange(2000) / 200) + 0.7 * noise) > 0.8


@pytest.mark.parametrize("n", [20, 60, 400, 3000])
@pytest.mark.parametrize("kind", ["white", "smooth", "walk", "drift"])
def test_noise_is_no_oscillation(kind, n):
    strengths = [oscillation(noises(seed, n)[kind]) for seed in range(60 if n < 1000 else 10)]
    assert np.median(strengths) < 0.35
    assert np.mean(np.array(strengths) >= 0.6) <= 0.05


@pytest.mark.parametrize(
    "series", [[], [1.0], [1.0, 2.0] * 9, [0.5] * 50, np.linspace(1, 0, 50), [math.nan] * 50], ids=str
)
def test_nothing_to_see(series):
    assert oscillation(series) == 0


# ---- Failure ----


def log(*diversities, **entry):
    start = [{"generator_loss": 0.7, "discriminator_loss": 0.6, "step": 0, **entry}]
    return start + [{"sample_diversity": value, "step": 10 * n} for n, value in enumerate(diversities, 1)]


@pytest.mark.parametrize("key", ["generator_loss", "discriminator_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_a_failure(key, value):
    assert detect_failure([*log(1.0), {key: value, "step": 120}]) == f"{key} became {value} at step 120."


@pytest.mark.parametrize("low", [0.01, math.nan])
def test_lost_diversity_is_a_failure_after_patience(low):
    assert detect_failure(log(0.02, 0.8, low, low)) is None
    sentence = detect_failure(log(0.02, 0.8, low, low, low))
    assert "below 0.1 for 3 logs" in sentence
    assert "at step 50" in sentence
    assert detect_failure(log(0.8, low, low, 0.5, low)) is None
    assert detect_failure(log(0.8, low), patience=1) is not None
    assert detect_failure(log(0.8, 0.4, 0.4, 0.4), min_diversity=0.5) is not None
    assert detect_failure(log(0.4, 0.4, 0.4, 0.4), min_diversity=0.5) is None


def test_a_fresh_generator_has_time_to_become_diverse():
    assert detect_failure(log(*[0.01] * 50)) is None
    assert detect_failure(log(0.05, 0.15, 0.05, 0.05, 0.05)) is None
    assert detect_failure(log(0.05, 0.35, 0.05, 0.05, 0.05)) is not None


def test_entries_of_evaluations_and_logs_without_steps_are_no_trouble():
    assert detect_failure([]) is None
    assert detect_failure([{"eval_loss": math.nan}, {"sample_diversity": 1.0}]) is None
    assert "at log 2" in detect_failure([{"generator_loss": 1.0}, {"generator_loss": math.nan}])
