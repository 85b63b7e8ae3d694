"""What a trained VAE is for: likelihoods against a closed form, samples, interpolations, anomaly scores."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from hf_genkit.models.vae import VAEConfig, VAEModel
from hf_genkit.models.vae.scoring_vae import SCORES


SIGMA, LATENTS, PIXELS = 0.7, 2, 9


def tiny(**fields):
    torch.manual_seed(0)
    fields = {"image_size": 4, "latent_dim": 3, "architecture": "mlp", "hidden_sizes": [8]} | fields
    return VAEModel(VAEConfig(**fields)).eval()


@pytest.fixture
def pictures():
    return torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1


def linear_gaussian(posterior_error=0.0, **fields):
    """A VAE with x = Wz + b + noise, whose q(z | x) is the true posterior, or is off by `posterior_error`; the
    distribution of its pictures comes along."""
    fields |= {
        "image_size": 3,
        "latent_dim": LATENTS,
        "likelihood": "gaussian",
        "bounded": False,
        "architecture": "mlp",
    }
    model = VAEModel(VAEConfig(sigma="fixed", sigma_value=SIGMA, hidden_sizes=[1], **fields))
    generator = torch.Generator().manual_seed(4)
    weight = torch.linalg.qr(torch.randn(PIXELS, LATENTS, generator=generator))[0] * torch.tensor([2.0, 0.5])
    bias = torch.randn(PIXELS, generator=generator)
    variance = 1 / (1 + weight.square().sum(0) / SIGMA**2)
    projection = variance[:, None] * weight.T / SIGMA**2
    model.decoder.layers, model.decoder.head = nn.Identity(), linear(weight, bias)
    model.encoder.layers = nn.Flatten()
    model.encoder.head = linear(
        torch.cat([projection, torch.zeros(LATENTS, PIXELS)]),
        torch.cat([posterior_error - projection @ bias, variance.log() + posterior_error]),
    )
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(PIXELS)
    torch.manual_seed(3)
    return model, MultivariateNormal(bias.double(), covariance.double())


def linear(weight, bias):
    layer = nn.Linear(*weight.shape[::-1])
    layer.weight.data, layer.bias.data = weight, bias
    return layer


def test_the_log_likelihood_is_exact_where_the_posterior_is():
    model, marginal = linear_gaussian()
    pictures = marginal.sample((6,)).float().view(6, 1, 3, 3)
    expected = marginal.log_prob(pictures.flatten(1).double()).float()
    torch.testing.assert_close(model.log_likelihood(pictures, num_samples=1), expected, rtol=1e-4, atol=1e-4)
    # So is every sample of the bound that a model with this objective trains on.
    model.config.objective = "iwae"
    torch.testing.assert_close(-model(pictures, reduction="none").loss, expected, rtol=1e-4, atol=1e-4)


def test_the_log_likelihood_converges_and_the_bounds_are_ordered():
    model, marginal = linear_gaussian(posterior_error=0.5)
    pictures = marginal.sample((6,)).float().view(6, 1, 3, 3)
    expected = marginal.log_prob(pictures.flatten(1).double()).mean().item()
    generator = torch.Generator().manual_seed(5)
    errors = [
        expected - model.log_likelihood(pictures.repeat(2000, 1, 1, 1), samples, generator).mean().item()
        for samples in (1, 4, 32)
    ]
    assert errors[0] > errors[1] > errors[2] > 0.0
    elbo = model.anomaly_score(pictures, "elbo", num_samples=4000).mean().item()
    assert errors[0] == pytest.approx(elbo + expected, abs=0.15)
    many = model.log_likelihood(pictures, 20_000, generator).mean().item()
    assert many == pytest.approx(expected, abs=0.01)


def test_the_iwae_objective_lies_between_elbo_and_log_likelihood():
    model, marginal = linear_gaussian(posterior_error=0.5, objective="iwae", num_importance_samples=64)
    pictures = marginal.sample((6,)).float().view(6, 1, 3, 3).repeat(50, 1, 1, 1)
    expected = marginal.log_prob(pictures.flatten(1).double()).mean().item()
    bound = -model(pictures, generator=torch.Generator().manual_seed(6)).loss.item()
    elbo = -model.anomaly_score(pictures, "elbo", num_samples=500).mean().item()
    assert elbo + 0.1 < bound < expected + 0.02
    assert bound == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("architecture", ["conv", "mlp"])
def test_chunks_change_no_log_likelihood(architecture, pictures):
    model = tiny(architecture=architecture)
    values = [
        model.log_likelihood(pictures, 13, torch.Generator().manual_seed(7), chunk_size=size)
        for size in (None, 1, 4, 13, 30, 65, 1000)
    ]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])
    assert values[0].shape == (5,)


def test_the_log_likelihood_is_that_of_samples_one_by_one(pictures):
    model = tiny()
    noise = torch.stack([torch.randn(7, 3, generator=g) for g in [torch.Generator().manual_seed(8)] for _ in range(5)])
    mean, log_variance = model.encode(pictures)
    deviation = (log_variance / 2).exp()
    for i in range(5):
        latents = mean[i] + deviation[i] * noise[i]
        probability = (model.decode(latents).double() + 1) / 2
        grey = (pictures[i].double() + 1) / 2
        log_likelihood = (grey * probability.log() + (1 - grey) * (1 - probability).log()).flatten(1).sum(1)
        normal = torch.distributions.Normal
        ratio = normal(0.0, 1.0).log_prob(latents) - normal(mean[i], deviation[i]).log_prob(latents)
        expected = (log_likelihood + ratio.sum(1)).logsumexp(0) - math.log(7)
        found = model.log_likelihood(pictures, 7, torch.Generator().manual_seed(8))[i]
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_each_picture_is_encoded_once(pictures, monkeypatch):
    model, rows = tiny(), []
    forward = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda x: rows.append(len(x)) or forward(x))
    model.log_likelihood(pictures, 50, chunk_size=20)
    assert sum(rows) == 5


def test_the_likelihood_under_the_optimal_sigma_is_refused(pictures):
    model = tiny(likelihood="gaussian", sigma="optimal")
    for call in (lambda: model.log_likelihood(pictures), lambda: model.anomaly_score(pictures, "likelihood")):
        with pytest.raises(ValueError, match="train with sigma 'learned'"):
            call()


def test_reconstructions_come_from_the_mean(pictures):
    model = tiny()
    before = torch.get_rng_state()
    assert torch.equal(model.reconstruct(pictures), model.decode(model.encode(pictures)[0]))
    assert torch.equal(torch.get_rng_state(), before)


def test_interpolations_include_both_ends(pictures):
    model = tiny(likelihood="gaussian", bounded=False)
    a, b = pictures, pictures.flip(0)
    for mode in ("linear", "slerp"):
        path = model.interpolate(a, b, steps=5, mode=mode)
        assert path.shape == (5, 5, 1, 4, 4)
        torch.testing.assert_close(path[:, 0], model.reconstruct(a))
        torch.testing.assert_close(path[:, -1], model.reconstruct(b))
    middle = (model.encode(a)[0] + model.encode(b)[0]) / 2
    torch.testing.assert_close(model.interpolate(a, b, 3)[:, 1], model.decode(middle))
    # The middle picture's way has no length, which slerp must survive.
    torch.testing.assert_close(path[2, 2], model.reconstruct(a)[2])


def test_slerp_keeps_the_norm_and_the_angle():
    model, marginal = linear_gaussian()
    model.encoder.head.bias.data.zero_()
    a, b = (marginal.sample((4,)).float().view(4, 1, 3, 3) for _ in range(2))
    first, last = (nn.functional.normalize(model.encode(x)[0], dim=-1) for x in (a, b))
    weight, bias = model.decoder.head.weight, model.decoder.head.bias

    def unit(x):
        mean = model.encode(x)[0]
        return x / mean.norm(dim=-1)[:, None, None, None]

    path = model.interpolate(unit(a), unit(b), steps=3, mode="slerp").flatten(2)
    latents = (path - bias) @ torch.linalg.pinv(weight).T
    torch.testing.assert_close(latents.norm(dim=-1), torch.ones(4, 3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latents[:, 1], nn.functional.normalize(first + last, dim=-1), rtol=1e-3, atol=1e-3)


def test_slerp_survives_equal_and_opposite_encodings(pictures):
    model = tiny(bounded=False, likelihood="gaussian")
    model.encoder.head.weight.data.zero_()
    model.encoder.head.bias.data = torch.tensor([1.0, 0, 0, 0, 0, 0])
    path = model.interpolate(pictures, pictures, steps=3, mode="slerp")
    torch.testing.assert_close(path, model.reconstruct(pictures)[:, None].expand(-1, 3, -1, -1, -1))
    encode = model.encoder.forward
    model.encoder.forward = lambda x: tuple(value * x[:, :1, 0, 0].sign() for value in encode(x))
    black = -torch.ones(1, 1, 4, 4)
    path = model.interpolate(black, -black, steps=3, mode="slerp")
    torch.testing.assert_close(path[:, 1], model.decode(torch.zeros(1, 3)), rtol=1e-4, atol=1e-4)


def test_samples_follow_the_generator_and_the_temperature():
    model = tiny()
    before = torch.get_rng_state()
    first, again = (model.sample(4, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    cold = model.sample(4, temperature=0.0)
    torch.testing.assert_close(cold, model.decode(torch.zeros(4, 3)))


def decoder_is_identity(latents):
    """A model whose picture is its latent vector, so that samples show what the prior draws."""
    fields = {"image_size": 1, "num_channels": latents, "latent_dim": latents, "architecture": "mlp"}
    model = VAEModel(VAEConfig(likelihood="gaussian", bounded=False, hidden_sizes=[1], **fields))
    model.decoder.layers, model.decoder.head = nn.Identity(), linear(torch.eye(latents), torch.zeros(latents))
    return model


def test_the_mixture_prior_has_its_moments():
    model = decoder_is_identity(2)
    weights, means = torch.tensor([0.25, 0.75]), torch.tensor([[-3.0, 0.0], [1.0, 2.0]])
    scale_trils = torch.tensor([[[0.5, 0.0], [0.3, 0.2]], [[1.0, 0.0], [-0.8, 0.5]]])
    model.set_mixture_prior(weights, means, scale_trils)
    drawn = model.sample(40_000, torch.Generator().manual_seed(10), prior="mixture").flatten(1)
    left = drawn[:, 0] < -1.2
    assert left.float().mean().item() == pytest.approx(0.25 + 0.75 * 0.014, abs=0.01)
    mean = weights @ means
    centred = means - mean
    covariance = torch.einsum(
        "k,kij->ij", weights, scale_trils @ scale_trils.mT + centred[:, :, None] * centred[:, None]
    )
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.08, rtol=0)
    cold = model.sample(50, prior="mixture", temperature=0.0).flatten(1)
    assert {tuple(row.tolist()) for row in cold} == {(-3.0, 0.0), (1.0, 2.0)}


def test_the_second_stage_draws_latents_with_its_noise():
    model, second = decoder_is_identity(2), decoder_is_identity(2)
    second.likelihood.log_scale.data.fill_(math.log(2.0))
    model.set_second_stage(second)
    drawn = model.sample(20_000, torch.Generator().manual_seed(11), prior="two_stage").flatten(1)
    torch.testing.assert_close(drawn.T.cov(), 5 * torch.eye(2), atol=0.2, rtol=0)


@pytest.mark.parametrize("kind", sorted(SCORES))
def test_a_score_depends_on_its_picture_alone(kind, pictures):
    model = tiny(likelihood="gaussian")
    before = torch.get_rng_state()
    together = model.anomaly_score(pictures, kind)
    alone = torch.cat([model.anomaly_score(pictures[i : i + 1], kind) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.get_rng_state(), before)
    assert not together.requires_grad


@pytest.mark.parametrize("kind", sorted(SCORES))
def test_pictures_unlike_the_training_ones_score_higher(kind):
    torch.manual_seed(0)
    model = tiny(likelihood="gaussian", sigma="fixed", sigma_value=0.3, hidden_sizes=[32])
    prototypes = torch.rand(4, 1, 4, 4).round() * 1.6 - 0.8
    normal = (prototypes.repeat(16, 1, 1, 1) + 0.05 * torch.randn(64, 1, 4, 4)).clamp(-1, 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        model(normal).loss.backward()
        optimizer.step()
    unlike = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(12)) * 2 - 1
    scores = [model.anomaly_score(x, kind) for x in (normal, unlike)]
    assert (scores[1][:, None] > scores[0]).float().mean() > 0.9
    model.config.anomaly_kind, model.config.anomaly_threshold = kind, scores[0].max().item()
    assert not model.is_anomaly(normal).any()
    assert model.is_anomaly(unlike).float().mean() > 0.5


def test_the_reconstruction_score_is_a_mean_squared_error(pictures):
    model = tiny()
    squares = (pictures - model.reconstruct(pictures)).square().mean((1, 2, 3))
    torch.testing.assert_close(model.anomaly_score(pictures), squares)
    variance = pictures.flatten(1).var(1, correction=0)
    torch.testing.assert_close(model.anomaly_score(pictures, "scaled_reconstruction"), squares / variance)
    assert torch.isfinite(model.anomaly_score(torch.zeros(1, 1, 4, 4), "scaled_reconstruction")).all()


def test_the_regret_is_what_a_better_posterior_gains():
    exact, marginal = linear_gaussian()
    wrong, _ = linear_gaussian(posterior_error=0.7)
    pictures = marginal.sample((6,)).float().view(6, 1, 3, 3)
    assert exact.anomaly_score(pictures, "regret", 200).abs().max() < 0.05
    assert wrong.anomaly_score(pictures, "regret", 200).min() > 0.5
    assert all(parameter.grad is None for parameter in wrong.parameters())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m, x: m.sample(0), "`num_samples` is 0"),
        (lambda m, x: m.sample(2, prior="mixtur"), "Did you mean 'mixture'"),
        (lambda m, x: m.sample(2, prior="mixture"), "The model has no mixture prior; fit one"),
        (lambda m, x: m.sample(2, prior="two_stage"), "The model has no second stage; train one"),
        (lambda m, x: m.interpolate(x, x, steps=1), "`steps` is 1"),
        (lambda m, x: m.interpolate(x, x, mode="slurp"), "Did you mean 'slerp'"),
        (lambda m, x: m.interpolate(x, x[:2]), r"`a` has the shape \(5, 1, 4, 4\) and `b` has"),
        (lambda m, x: m.decode(torch.zeros(2, 4)), r"`latents` has the shape \(2, 4\), but it must be \(batch, 3\)"),
        (lambda m, x: m.anomaly_score(x, "elb"), "Did you mean 'elbo'"),
        (lambda m, x: m.anomaly_score(x, num_samples=0), "`num_samples` is 0"),
        (lambda m, x: m.is_anomaly(x), "`config.anomaly_kind` and `config.anomaly_threshold` must be set"),
        (lambda m, x: m.log_likelihood(x, 0), "`num_samples` is 0"),
        (lambda m, x: m.log_likelihood(x, 5, chunk_size=0), "`chunk_size` is 0"),
        (lambda m, x: m.log_likelihood(x * 3), r"must be in \[-1, 1\]"),
        (lambda m, x: m.set_mixture_prior([1.0], torch.zeros(1, 2), torch.eye(2)[None]), "have the shapes"),
        (lambda m, x: m.set_mixture_prior([0.7], torch.zeros(1, 3), torch.eye(3)[None]), "`weights` adds up to 0.7"),
        (lambda m, x: m.set_mixture_prior([1.0], torch.zeros(1, 3), torch.ones(1, 3, 3)), "lower triangular"),
        (lambda m, x: m.set_second_stage(m), "`second_stage` has image_size=4, but a VAE of these latents has 1"),
    ],
)
def test_a_wrong_call_is_one_clear_sentence(call, sentence, pictures):
    model = tiny()
    with pytest.raises(ValueError, match=sentence):
        call(model, pictures)
    assert model.config.second_stage is None


def test_regret_does_not_depend_on_the_blocks_it_is_computed_in(monkeypatch, pictures):
    """One optimizer serves a block: a picture's steps must not depend on its neighbours."""
    from hf_genkit.models.vae import scoring_vae

    model = tiny()
    whole = model.anomaly_score(pictures, kind="regret", num_samples=4)
    monkeypatch.setattr(scoring_vae, "latents_at_once", lambda model: 8)
    assert torch.allclose(model.anomaly_score(pictures, kind="regret", num_samples=4), whole, atol=1e-4)
