"""Each likelihood against an independent formula in double precision."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hf_genkit.models.vae import VAEConfig
from hf_genkit.models.vae.likelihoods_vae import LIKELIHOODS


BATCH, SAMPLES, PIXELS = 3, 4, 6


def likelihood(name, dtype=torch.float64, **fields):
    module = LIKELIHOODS[name](VAEConfig(likelihood=name, **fields))
    return module.to(dtype)


@pytest.fixture
def outputs():
    return 3 * torch.randn(BATCH, SAMPLES, PIXELS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def pictures():
    levels = torch.randint(0, 256, (BATCH, PIXELS), generator=torch.Generator().manual_seed(1))
    levels[0, :2] = torch.tensor([0, 255])
    return levels.double() / 127.5 - 1


def test_bernoulli_is_that_of_torch(outputs, pictures):
    binary = (pictures > 0).double()
    expected = torch.distributions.Bernoulli(logits=outputs).log_prob(binary[:, None]).sum(-1)
    torch.testing.assert_close(likelihood("bernoulli").log_prob(outputs, 2 * binary - 1), expected)


def test_bernoulli_takes_grey_values_as_probabilities(outputs, pictures):
    probability = torch.sigmoid(outputs)
    grey = (pictures[:, None] + 1) / 2
    expected = (grey * probability.log() + (1 - grey) * (1 - probability).log()).sum(-1)
    torch.testing.assert_close(likelihood("bernoulli").log_prob(outputs, pictures), expected)


def test_continuous_bernoulli_is_that_of_torch(outputs, pictures):
    outputs[0, 0] = torch.tensor([0.0, 1e-6, -1e-3, 0.19, 0.21, -20.0])
    distribution = torch.distributions.ContinuousBernoulli(logits=outputs)
    expected = distribution.log_prob((pictures[:, None] + 1) / 2).sum(-1)
    torch.testing.assert_close(likelihood("continuous_bernoulli").log_prob(outputs, pictures), expected)
    mean = 2 * distribution.mean - 1
    torch.testing.assert_close(likelihood("continuous_bernoulli").mean(outputs), mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("logit", [-30.0, -2.0, -0.2001, -0.1999, 0.0, 1e-4, 0.5, 12.0])
def test_continuous_bernoulli_integrates_to_one(logit):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    outputs = torch.full((200, 1, 1), logit, dtype=torch.float64)
    density = likelihood("continuous_bernoulli").log_prob(outputs, torch.from_numpy(nodes)[:, None]).exp()
    assert float(density[:, 0] @ torch.from_numpy(weights)) / 2 == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli"])
def test_extreme_logits_have_finite_gradients(name):
    outputs = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]).view(1, 1, 5).requires_grad_()
    likelihood(name, torch.float32).log_prob(outputs, torch.zeros(1, 5)).sum().backward()
    assert torch.isfinite(outputs.grad).all()


def test_gaussian_has_its_constant(outputs, pictures):
    expected = torch.distributions.Normal(outputs, 0.3).log_prob(pictures[:, None]).sum(-1)
    for sigma in ("fixed", "learned"):
        module = likelihood("gaussian", sigma=sigma, sigma_min=1e-9)
        module.log_scale.data.fill_(math.log(0.3))
        torch.testing.assert_close(module.log_prob(outputs, pictures), expected)


def test_a_learned_sigma_stays_above_its_floor():
    module = likelihood("gaussian", sigma="learned", sigma_min=0.01)
    module.log_scale.data.fill_(-50.0)
    assert module.log_sigma().exp().item() == pytest.approx(0.01)


def test_the_optimal_sigma_is_the_best_one_of_each_picture(outputs, pictures):
    found = likelihood("gaussian", sigma="optimal").log_prob(outputs, pictures)
    sigmas = torch.linspace(0.5, 8, 4000, dtype=torch.float64)[:, None, None, None]
    normal = torch.distributions.Normal(outputs, sigmas)
    torch.testing.assert_close(found, normal.log_prob(pictures[:, None]).sum(-1).amax(0), rtol=1e-5, atol=1e-5)
    # A perfect reconstruction has the floor's density rather than an infinite one.
    perfect = likelihood("gaussian", sigma="optimal", sigma_min=0.1).log_prob(pictures[:, None], pictures)
    expected = torch.full_like(perfect, -PIXELS * (math.log(0.1) + math.log(2 * math.pi) / 2))
    torch.testing.assert_close(perfect, expected)


def test_discretized_logistic_is_a_difference_of_distribution_functions(outputs, pictures):
    outputs = outputs / 3
    module = likelihood("discretized_logistic", sigma_min=1e-9)
    module.log_scale.data.fill_(math.log(0.2))
    x, mean = pictures[:, None].numpy(), outputs.numpy()
    upper = np.where(x > 0.999, 1.0, stats.logistic.cdf(x + 1 / 255, mean, 0.2))
    lower = np.where(x < -0.999, 0.0, stats.logistic.cdf(x - 1 / 255, mean, 0.2))
    expected = torch.from_numpy(np.log(upper - lower).sum(-1))
    torch.testing.assert_close(module.log_prob(outputs, pictures), expected)


@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.123, 0.99])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 2.0])
def test_discretized_logistic_adds_up_to_one_over_256_levels(mean, scale):
    module = likelihood("discretized_logistic", sigma_min=1e-9)
    module.log_scale.data.fill_(math.log(scale))
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1
    outputs = torch.full((256, 1, 1), mean, dtype=torch.float64)
    assert module.log_prob(outputs, levels).exp().sum().item() == pytest.approx(1)


def test_discretized_logistic_is_finite_far_from_the_picture():
    module = likelihood("discretized_logistic", torch.float32)
    module.log_scale.data.fill_(-20.0)
    log_prob = module.log_prob(torch.full((1, 1, 2), 50.0), torch.tensor([[-1.0, 0.0]]))
    assert torch.isfinite(log_prob).all()


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "discretized_logistic", "gaussian"])
def test_expected_pictures_are_in_range(name, outputs):
    picture = likelihood(name).mean(outputs * 10)
    assert picture.abs().max() <= 1
