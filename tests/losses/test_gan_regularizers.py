"""Gradient penalties of discriminators whose gradient is known."""

import pytest
import torch
from torch import nn

from hf_genkit.losses.gan_regularizers import gradient_penalty, r1_penalty, r2_penalty


WEIGHT = torch.tensor([3.0, -4.0, 0.0, 12.0])  # of length 13


def linear_scores(pixels, weight=WEIGHT):
    return pixels.flatten(1) @ weight


def pictures(count=3):
    return torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
def test_r1_of_a_linear_discriminator_is_its_squared_weight(penalty):
    pixels = pictures()
    assert penalty(linear_scores(pixels), pixels).tolist() == pytest.approx([169.0] * 3)


@pytest.mark.parametrize(("target", "expected"), [(1.0, 144.0), (0.0, 169.0), (13.0, 0.0)])
def test_gradient_penalty_of_a_linear_critic_is_the_squared_distance_of_its_slope(target, expected):
    pixels = pictures()
    assert gradient_penalty(linear_scores(pixels), pixels, target).tolist() == pytest.approx([expected] * 3, abs=1e-4)


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty, gradient_penalty])
def test_penalties_train_the_weights(penalty):
    pixels, weight = pictures(), WEIGHT.clone().requires_grad_()
    penalty(linear_scores(pixels, weight), pixels).mean().backward()
    # d |w|^2 / dw = 2 w, and d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|.
    expected = 2 * WEIGHT * (12 / 13 if penalty is gradient_penalty else 1)
    torch.testing.assert_close(weight.grad, expected)


def test_a_flat_critic_gives_no_nan():
    pixels, weight = pictures(), torch.zeros(4, requires_grad=True)
    value = gradient_penalty(linear_scores(pixels, weight), pixels)
    value.mean().backward()
    assert value.tolist() == [1.0] * 3
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty, gradient_penalty])
def test_a_pictures_penalty_ignores_the_rest_of_the_batch(penalty):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    pixels = pictures()
    together = penalty(network(pixels), pixels)
    for index in range(3):
        alone = pixels[index : index + 1].detach().requires_grad_()
        torch.testing.assert_close(penalty(network(alone), alone), together[index : index + 1])
    assert together.unique().numel() == 3


def test_half_precision_pictures_are_penalised_in_float32():
    pixels = pictures().detach().to(torch.bfloat16).requires_grad_()
    assert r1_penalty(linear_scores(pixels, WEIGHT.bfloat16()), pixels).dtype == torch.float32
