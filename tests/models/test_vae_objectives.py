"""The terms of a VAE's loss against independent formulas, and what `forward` promises of them."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from hf_genkit.models.vae import VAEConfig, VAEModel
from hf_genkit.models.vae import objectives_vae as objectives


OBJECTIVES = ["elbo", "beta_tc", "info_vae", "wae_mmd", "iwae"]


def tiny(seed=0, **fields):
    torch.manual_seed(seed)
    fields = {"image_size": 4, "latent_dim": 3, "architecture": "mlp", "hidden_sizes": [8]} | fields
    return VAEModel(VAEConfig(**fields))


@pytest.fixture
def pictures():
    return torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1


def gaussians(batch=7, latents=3):
    generator = torch.Generator().manual_seed(2)
    return (torch.randn(batch, latents, generator=generator, dtype=torch.float64) for _ in range(3))


def test_kl_is_that_of_torch():
    mean, log_variance, _ = gaussians()
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(objectives.kl_divergence(mean, log_variance), expected)


def test_log_ratio_is_prior_over_posterior():
    mean, log_variance, noise = gaussians()
    deviation = (log_variance / 2).exp()
    latents = mean + deviation * noise
    expected = (Normal(0.0, 1.0).log_prob(latents) - Normal(mean, deviation).log_prob(latents)).sum(-1)
    found = objectives.log_ratio(latents[:, None], noise[:, None], log_variance)
    torch.testing.assert_close(found[:, 0], expected)


def test_the_loss_is_summed_over_pixels_and_latents_and_averaged_over_the_batch(pictures):
    model = tiny(beta=3.0)
    noise = torch.randn(5, 3)
    output = model(pictures, noise=noise)
    mean, log_variance = model.encode(pictures)
    latents = mean + (log_variance / 2).exp() * noise
    logits = torch.atanh(model.decode(latents).double()) * 2
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, (pictures.double() + 1) / 2, reduction="none")
    kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    assert output.reconstruction_loss.item() == pytest.approx(bce.sum().item() / 5, rel=1e-4)
    assert output.kl_loss.item() == pytest.approx(kl.sum().item() / 5, rel=1e-5)
    assert output.loss.item() == pytest.approx((bce.sum().item() + 3 * kl.sum().item()) / 5, rel=1e-4)
    torch.testing.assert_close(output.latents, latents)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_mean_loss_is_the_mean_of_the_losses_of_pictures(objective, pictures):
    model = tiny(objective=objective, beta=2.0, num_importance_samples=4 if objective == "iwae" else 1)
    noise = torch.randn(5, model.config.num_importance_samples, 3)
    whole, single = model(pictures, noise=noise), model(pictures, noise=noise, reduction="none")
    for name in ("loss", "reconstruction_loss", "kl_loss"):
        assert single[name].shape == (5,)
        torch.testing.assert_close(whole[name], single[name].mean())
    assert ("regularizer" in whole) == (objective in ("beta_tc", "info_vae", "wae_mmd"))
    if objective in ("elbo", "iwae"):  # The others compare the pictures of a batch.
        alone = torch.stack([model(pictures[i : i + 1], noise=noise[i : i + 1]).loss for i in range(5)])
        torch.testing.assert_close(alone, single.loss)


def test_beta_of_a_warm_up_overrides_that_of_the_config(pictures):
    model, noise = tiny(beta=4.0), torch.zeros(5, 3)
    output = model(pictures, noise=noise, beta=0.25)
    torch.testing.assert_close(output.loss, output.reconstruction_loss + 0.25 * output.kl_loss)
    output = model(pictures, noise=noise, beta=torch.tensor(0.0))
    torch.testing.assert_close(output.loss, output.reconstruction_loss)


def test_free_bits_raise_the_kl_of_each_latent_to_their_level(pictures):
    model, noise = tiny(free_bits=0.5), torch.zeros(5, 3)
    output = model(pictures, noise=noise)
    kl = objectives.kl_divergence(output.mean, output.log_variance)
    assert kl.min() < 0.5 < kl.max()
    expected = torch.where(kl > 0.5, kl, 0.5).sum(-1).mean()
    torch.testing.assert_close(output.loss - output.reconstruction_loss, expected)
    torch.testing.assert_close(output.kl_loss, kl.sum(-1).mean())


def test_capacity_is_the_target_of_each_picture_s_kl(pictures):
    model, noise = tiny(capacity=2.0, beta=5.0), torch.zeros(5, 3)
    output = model(pictures, noise=noise, reduction="none")
    torch.testing.assert_close(output.loss - output.reconstruction_loss, 5 * (output.kl_loss - 2).abs())


@pytest.mark.parametrize("dataset_size", [None, 1000])
def test_the_parts_of_the_kl_add_up(dataset_size):
    mean, log_variance, noise = gaussians()
    deviation = (log_variance / 2).exp()
    latents = mean + deviation * noise
    parts = objectives.decompose_kl(latents, mean, log_variance, dataset_size)
    expected = (Normal(mean, deviation).log_prob(latents) - Normal(0.0, 1.0).log_prob(latents)).sum(-1)
    torch.testing.assert_close(sum(parts), expected)


@pytest.mark.parametrize("dataset_size", [None, 1000])
def test_the_total_correlation_is_that_of_the_weighted_mixture(dataset_size):
    mean, log_variance, noise = gaussians()
    deviation = (log_variance / 2).exp()
    latents = mean + deviation * noise
    _, found, _ = objectives.decompose_kl(latents, mean, log_variance, dataset_size)
    size = dataset_size or 7
    for i in range(7):
        weights = torch.full((7,), (size - 1) / size / 6, dtype=torch.float64)
        weights[i] = 1 / size
        assert weights.sum() == pytest.approx(1)
        densities = Normal(mean, deviation).log_prob(latents[i]).exp()
        joint = weights @ densities.prod(-1)
        product = (weights @ densities).prod()
        torch.testing.assert_close(found[i], (joint / product).log())


def test_independent_latents_have_less_total_correlation_than_equal_ones():
    mean, _, noise = gaussians(200, 2)
    narrow = torch.full_like(mean, -4.0)
    equal = mean[:, :1].expand(-1, 2)
    parts = [objectives.decompose_kl(m + 0.14 * noise, m, narrow)[1].mean() for m in (mean, equal)]
    assert parts[0] + 0.5 < parts[1]


def test_beta_tc_with_beta_one_is_the_elbo(pictures):
    noise = torch.randn(5, 3)
    torch.testing.assert_close(
        tiny(objective="beta_tc")(pictures, noise=noise).loss, tiny()(pictures, noise=noise).loss
    )
    output = tiny(objective="beta_tc", beta=6.0)(pictures, noise=noise, reduction="none")
    torch.testing.assert_close(output.loss - output.reconstruction_loss - output.kl_loss, 5 * output.regularizer)


def test_mmd_is_zero_for_one_sample_and_grows_with_the_distance():
    sample, other, _ = gaussians(50)
    assert objectives.maximum_mean_discrepancy(sample, sample).item() == pytest.approx(0, abs=1e-12)
    near, far = (objectives.maximum_mean_discrepancy(sample, other + shift) for shift in (0.0, 3.0))
    assert 0 < near < far < 2


def test_mmd_is_the_mean_of_the_kernel_over_pairs_of_different_positions():
    first, second, _ = gaussians(6)

    def kernel(a, b):
        scales = [2 * 3 * scale for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return sum(scale / (scale + float(((a - b) ** 2).sum())) for scale in scales) / 7

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    means = [
        sum(kernel(x[i], y[j]) for i, j in pairs) / 30 for x, y in ((first, first), (second, second), (first, second))
    ]
    expected = means[0] + means[1] - 2 * means[2]
    assert objectives.maximum_mean_discrepancy(first, second).item() == pytest.approx(expected)


def test_mmd_does_not_reward_latents_for_being_their_own_noise():
    """Latents that are as the prior but independent of the noise must score as those that are nothing but noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 64, 8, generator=generator)
    collapsed = torch.stack([objectives.maximum_mean_discrepancy(n, n) for n in noise]).mean()
    informative = torch.stack(
        [objectives.maximum_mean_discrepancy((n + torch.randn(64, 8, generator=generator)) / 2**0.5, n) for n in noise]
    )
    assert abs(informative.mean() - collapsed) < 4 * informative.std() / 20


def test_the_mmd_objectives_weigh_it(pictures):
    noise = torch.randn(5, 3)
    output = tiny(objective="info_vae", beta=0.5, mmd_weight=7.0)(pictures, noise=noise)
    expected = output.reconstruction_loss + 0.5 * output.kl_loss + 7 * output.regularizer
    torch.testing.assert_close(output.loss, expected)
    output = tiny(objective="wae_mmd", mmd_weight=7.0)(pictures, noise=noise)
    torch.testing.assert_close(output.loss, output.reconstruction_loss + 7 * output.regularizer)


def test_the_importance_weighted_bound_is_a_log_mean_of_weights(pictures):
    model = tiny(objective="iwae", num_importance_samples=6)
    noise = torch.randn(5, 6, 3)
    output = model(pictures, noise=noise, reduction="none")
    deviation = (output.log_variance / 2).exp()[:, None]
    latents = output.mean[:, None] + deviation * noise
    log_likelihood, _ = model.log_prob(latents, pictures)
    posterior = Independent(Normal(output.mean[:, None], deviation), 1)
    prior = MultivariateNormal(torch.zeros(3), torch.eye(3))
    weights = log_likelihood + prior.log_prob(latents) - posterior.log_prob(latents)
    torch.testing.assert_close(output.loss, -(weights.double().logsumexp(1) - math.log(6)).float())
    # Jensen: it bounds more tightly than the mean of the log weights of the same samples.
    assert (output.loss < -weights.mean(1)).all()
    warming = model(pictures, noise=noise, reduction="none", beta=0.3).loss
    weights = log_likelihood + 0.3 * (prior.log_prob(latents) - posterior.log_prob(latents))
    torch.testing.assert_close(warming, -(weights.double().logsumexp(1) - math.log(6)).float())


def test_the_reparameterisation_lets_gradients_reach_the_encoder(pictures):
    model, noise = tiny(), torch.randn(5, 3)
    model(pictures, noise=noise).reconstruction_loss.backward()
    gradient = model.encoder.head.bias.grad.clone()
    bias = model.encoder.head.bias
    for index in range(6):
        values = []
        for step in (-1e-2, 1e-2):
            with torch.no_grad():
                bias[index] += step
                values.append(model(pictures, noise=noise).reconstruction_loss.item())
                bias[index] -= step
        assert gradient[index].item() == pytest.approx((values[1] - values[0]) / 2e-2, abs=2e-3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_given_noise_or_a_generator_leaves_the_global_generator_alone(objective, pictures):
    model = tiny(objective=objective)
    before = torch.get_rng_state()
    with_generator = [model(pictures, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    noise = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(3))
    given = model(pictures, noise=noise[:, 0])
    assert torch.equal(torch.get_rng_state(), before)
    assert with_generator[0].loss == with_generator[1].loss == given.loss
    model(pictures)
    assert not torch.equal(torch.get_rng_state(), before)


def test_autocast_leaves_the_terms_in_single_precision(pictures):
    model, noise = tiny(likelihood="gaussian"), torch.randn(5, 3)
    exact = model(pictures, noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(pictures, noise=noise)
        log_likelihood = model.log_prob(output.latents[:, None], pictures)[0]
    for value in (output.loss, output.kl_loss, output.reconstruction_loss, output.mean, log_likelihood):
        assert value.dtype == torch.float32
    torch.testing.assert_close(output.loss, exact.loss, rtol=0.02, atol=0.02)


def test_the_likelihood_is_no_bfloat16_product_under_autocast():
    model = tiny(image_size=32)
    outputs = torch.randn(1, 2, 1024)
    pictures = torch.rand(1, 1, 32, 32) * 2 - 1
    model.decoder.forward = lambda latents: outputs.view(2, 1, 32, 32)
    exact = model.log_prob(torch.zeros(1, 2, 3), pictures)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.log_prob(torch.zeros(1, 2, 3), pictures)[0], exact)


def test_a_tuple_comes_back_when_asked(pictures):
    model, noise = tiny(), torch.zeros(5, 3)
    output = model(pictures, noise=noise)
    for values in (model(pictures, noise=noise, return_dict=False), model(pictures, noise=noise).to_tuple()):
        assert all(torch.equal(a, b) for a, b in zip(values, output.values(), strict=True))
    assert set(model(pictures, return_loss=False)) == {"reconstruction", "mean", "log_variance", "latents"}


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"pixel_values": torch.zeros(2, 3, 4, 4)}, r"shape \(2, 3, 4, 4\), but the model takes \(batch, 1, 4, 4\)"),
        ({"pixel_values": torch.zeros(2, 1, 8, 8)}, r"takes \(batch, 1, 4, 4\)"),
        ({"pixel_values": torch.zeros(1, 4, 4)}, r"takes \(batch, 1, 4, 4\)"),
        ({"pixel_values": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, "type torch.uint8, but it must be floating"),
        ({"pixel_values": torch.full((2, 1, 4, 4), 255.0)}, r"goes from 255 to 255, but it must be in \[-1, 1\]"),
        ({"pixel_values": torch.full((2, 1, 4, 4), torch.nan)}, r"goes from nan to nan"),
        ({"pixel_values": torch.zeros(2, 1, 4, 4), "noise": torch.zeros(2, 4)}, r"but it must be \(2, 1, 3\)"),
        ({"pixel_values": torch.zeros(2, 1, 4, 4), "reduction": "men"}, "Did you mean 'mean'?"),
    ],
)
def test_a_wrong_input_is_one_clear_sentence(inputs, sentence):
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        tiny()(**inputs)
