"""Targets and weights of diffusion losses, against diffusers' own formulas."""

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler

from hf_genkit.losses.diffusion import PREDICTIONS, WEIGHTINGS, diffusion_loss, edm_coefficients


def levels(count=6):
    """A variance-preserving ladder of noise levels, as `alpha` and `sigma`."""
    angle = torch.linspace(0.1, 1.5, count).view(-1, 1, 1, 1)
    return angle.cos(), angle.sin()


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 1, 4, 4, generator=generator), torch.randn(6, 1, 4, 4, generator=generator)


def test_the_target_of_v_is_diffusers_velocity(pair):
    scheduler = DDPMScheduler()
    timesteps = torch.tensor([0, 10, 100, 500, 900, 999])
    kept = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    target = PREDICTIONS["v"].target(*pair, kept.sqrt(), (1 - kept).sqrt(), 0.5)
    assert torch.allclose(target, scheduler.get_velocity(*pair, timesteps), atol=1e-6)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_an_error_of_the_prediction_moves_the_picture_by_its_scale(pair, name):
    """min-SNR weights rest on these scales: a wrong one weights the noise levels wrongly and shows nowhere else."""
    x0, noise = pair
    alpha, sigma = levels()
    if name == "flow":
        alpha = 1 - sigma
    if name == "edm":
        alpha = torch.ones_like(sigma)
    noisy = alpha * x0 + sigma * noise
    output = PREDICTIONS[name].target(x0, noise, alpha, sigma, 0.5) + 0.01

    c_skip, c_out, _ = edm_coefficients(sigma, 0.5)
    picture_of = {
        "epsilon": lambda out: (noisy - sigma * out) / alpha,
        "x0": lambda out: out,
        "v": lambda out: alpha * noisy - sigma * out,
        "flow": lambda out: noisy - sigma * out,
        "edm": lambda out: c_skip * noisy + c_out * out,
    }
    moved = (picture_of[name](output) - x0).abs()
    assert torch.allclose(moved, (0.01 * PREDICTIONS[name].scale(alpha, sigma, 0.5)).expand_as(moved), atol=2e-5)


def test_the_edm_target_is_what_diffusers_turns_into_the_picture(pair):
    scheduler = EDMEulerScheduler(sigma_data=0.7)
    _, sigma = levels()
    output = PREDICTIONS["edm"].target(*pair, torch.ones_like(sigma), sigma, 0.7)
    found = scheduler.precondition_outputs(pair[0] + sigma * pair[1], output, sigma)
    assert torch.allclose(found, pair[0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("epsilon", lambda snr, gamma: snr.clamp(max=gamma) / snr),
        ("x0", lambda snr, gamma: snr.clamp(max=gamma)),
        ("v", lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1)),
    ],
)
def test_min_snr_weights_are_the_published_ones(name, published):
    alpha, sigma = levels()
    scale = PREDICTIONS[name].scale(alpha, sigma, 0.5)
    weights = WEIGHTINGS["min_snr"](alpha, sigma, scale, 5.0)
    assert torch.allclose(weights, published((alpha / sigma) ** 2, 5.0), rtol=1e-5)


def test_noise_free_levels_have_no_infinite_weight(pair):
    """SNR is infinite where sigma is 0, as flows reach: infinity times zero would be NaN."""
    alpha, sigma = torch.ones(6, 1, 1, 1), torch.zeros(6, 1, 1, 1)
    loss, _ = diffusion_loss(pair[0], *pair, alpha, sigma, prediction_type="flow", weighting="min_snr")
    assert loss.isfinite().all()


def test_the_loss_is_the_mean_over_a_picture_and_weighted_by_level(pair):
    alpha, sigma = levels()
    output = torch.zeros_like(pair[0]).to(torch.bfloat16)
    loss, plain = diffusion_loss(output, *pair, alpha, sigma, prediction_type="v", weighting="min_snr", gamma=2.0)
    target = alpha * pair[1] - sigma * pair[0]
    assert torch.allclose(plain, target.square().mean((1, 2, 3)))
    weight = ((alpha / sigma) ** 2).clamp(max=2.0) * sigma**2
    assert torch.allclose(loss, plain * weight.flatten())
    assert loss.dtype == torch.float32
