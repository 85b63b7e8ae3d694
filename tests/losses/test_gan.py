"""GAN losses against formulas written anew in plain Python floats, and the facts that trainers rely on."""

import math

import pytest
import torch

from hf_genkit.losses.gan import GAN_LOSSES


LN2 = math.log(2)
REAL, FAKE = [-2.0, 0.3, 1.7], [0.4, -1.1, 2.5]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def genetic(p, y):
    return p**3 + math.sqrt(abs(3.985 * y / (p + 1e-7)) + 1e-7)


# Name -> discriminator(real, fake), generator(fake, real), each on one pair of floats.
FORMULAS = {
    "non_saturating": (
        lambda r, f: -math.log(sigmoid(r)) - math.log(1 - sigmoid(f)),
        lambda f, r: -math.log(sigmoid(f)),
    ),
    "saturating": (
        lambda r, f: -math.log(sigmoid(r)) - math.log(1 - sigmoid(f)),
        lambda f, r: math.log(1 - sigmoid(f)),
    ),
    "least_squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda f, r: (f - 1) ** 2 / 2),
    "hinge": (lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda f, r: -f),
    "wgan": (lambda r, f: f - r, lambda f, r: -f),
    "wgan_gp": (lambda r, f: f - r, lambda f, r: -f),
    "relativistic": (lambda r, f: -math.log(sigmoid(r - f)), lambda f, r: -math.log(sigmoid(f - r))),
    "ganetic": (lambda r, f: genetic(sigmoid(r), 1) + genetic(sigmoid(f), 0), lambda f, r: genetic(sigmoid(f), 1)),
}


def test_every_loss_has_a_formula_here():
    assert set(FORMULAS) == set(GAN_LOSSES)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_values_are_those_of_the_papers(name):
    loss, (discriminator, generator) = GAN_LOSSES[name], FORMULAS[name]
    real, fake = torch.tensor(REAL, dtype=torch.float64), torch.tensor(FAKE, dtype=torch.float64)
    expected = [discriminator(r, f) for r, f in zip(REAL, FAKE, strict=True)]
    torch.testing.assert_close(loss.discriminator(real, fake), torch.tensor(expected, dtype=torch.float64))
    expected = [generator(f, r) for r, f in zip(REAL, FAKE, strict=True)]
    torch.testing.assert_close(loss.generator(fake, real), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_the_generator_wants_higher_scores_and_the_discriminator_lower_ones_for_fakes(name):
    loss = GAN_LOSSES[name]
    real, fake = torch.tensor([0.2, -0.3]), torch.tensor([0.5, 0.1], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss.generator(fake, real).sum(), fake)
    assert (gradient < 0).all()
    (gradient,) = torch.autograd.grad(loss.discriminator(real, fake).sum(), fake)
    assert (gradient > 0).all()


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_the_discriminator_wants_higher_scores_for_real_pictures(name):
    real, fake = torch.tensor([0.2, -0.3], requires_grad=True), torch.tensor([-0.5, 0.1])
    (gradient,) = torch.autograd.grad(GAN_LOSSES[name].discriminator(real, fake).sum(), real)
    assert (gradient < 0).all()


@pytest.mark.parametrize("name", ["non_saturating", "saturating", "relativistic"])
def test_logistic_losses_are_logged_as_ln2_when_nothing_can_be_told_apart(name):
    loss, logits = GAN_LOSSES[name], torch.zeros(4)
    logged = loss.discriminator(logits, logits).mean() / loss.num_terms
    assert logged.item() == pytest.approx(LN2)
    assert loss.discriminator_equilibrium == pytest.approx(LN2)
    assert abs(loss.generator(logits, logits).mean().item()) == pytest.approx(LN2)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_equilibria_are_the_losses_at_the_score_that_is_best_when_nothing_can_be_told_apart(name):
    loss = GAN_LOSSES[name]
    logits = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    discriminator = loss.discriminator(logits, logits) / loss.num_terms
    best = discriminator.argmin()
    assert discriminator[best].item() == pytest.approx(loss.discriminator_equilibrium, abs=1e-6)
    if loss.generator_equilibrium is None:
        # Many scores are as good, so the generator's level is arbitrary.
        assert (discriminator < discriminator[best] + 1e-9).sum() > 1000
    else:
        generator = loss.generator(logits, logits)[best].item()
        assert generator == pytest.approx(loss.generator_equilibrium, abs=1e-3)


@pytest.mark.parametrize("name", GAN_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_huge_logits_keep_values_and_gradients_finite(name, dtype):
    loss = GAN_LOSSES[name]
    for real_value, fake_value in ((3e4, -3e4), (-3e4, 3e4)):
        real = torch.tensor([real_value], dtype=dtype, requires_grad=True)
        fake = torch.tensor([fake_value], dtype=dtype, requires_grad=True)
        discriminator, generator = loss.discriminator(real, fake), loss.generator(fake, real)
        assert discriminator.dtype == generator.dtype == torch.float32
        total = discriminator + generator
        assert total.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(total.sum(), (real, fake)))


def test_ganetic_is_least_at_073_for_real_pictures():
    logits = torch.linspace(-6, 6, 24001, dtype=torch.float64)
    best = GAN_LOSSES["ganetic"].generator(logits).argmin()
    assert logits[best].sigmoid().item() == pytest.approx((math.sqrt(3.985) / 6) ** (2 / 7), abs=1e-4)
    assert logits[best].sigmoid().item() == pytest.approx(0.73, abs=0.005)


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_an_items_loss_ignores_the_rest_of_the_batch(name):
    loss = GAN_LOSSES[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    assert torch.equal(loss.discriminator(real, fake)[:1], loss.discriminator(real[:1], fake[:1]))
    assert torch.equal(loss.generator(fake, real)[:1], loss.generator(fake[:1], real[:1]))


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_logits_of_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 1\)"):
        GAN_LOSSES[name].discriminator(torch.zeros(3), torch.zeros(3, 1))


def test_only_the_relativistic_generator_reads_real_scores():
    for name, loss in GAN_LOSSES.items():
        fake = torch.tensor(FAKE)
        changed = not torch.equal(loss.generator(fake, torch.zeros(3)), loss.generator(fake, torch.ones(3)))
        assert loss.needs_real_in_generator == changed == (name == "relativistic")
