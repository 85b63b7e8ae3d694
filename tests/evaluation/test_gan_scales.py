"""The scales on which losses are read are those of the losses that trainers use."""

import math

import pytest
import torch

from hf_genkit.evaluation.gan_scales import GAN_SCALES
from hf_genkit.losses.gan import GAN_LOSSES


def test_every_loss_has_a_scale_and_the_equilibrium_that_it_states():
    assert list(GAN_SCALES) == list(GAN_LOSSES)
    for name, scale in GAN_SCALES.items():
        loss = GAN_LOSSES[name]
        assert scale.equilibrium == pytest.approx(loss.discriminator_equilibrium, abs=1e-3), name
        assert scale.generator == (
            loss.generator_equilibrium and pytest.approx(loss.generator_equilibrium, abs=1e-3)
        ), name


@pytest.mark.parametrize("accuracy", [0.5, 0.7, 0.8, 0.96])
@pytest.mark.parametrize("name", [name for name, scale in GAN_SCALES.items() if scale.best_loss])
def test_the_best_loss_is_what_the_best_logits_reach(name, accuracy):
    """Pictures of two kinds, one real with the given probability and the other generated; logits by brute force."""
    logits = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    loss = GAN_LOSSES[name]
    real_kind, fake_kind = torch.meshgrid(logits, logits, indexing="ij")
    if loss.num_terms == 1:
        total = sum(
            p * q * loss.discriminator(real, fake)
            for p, real in ((accuracy, real_kind), (1 - accuracy, fake_kind))
            for q, fake in ((accuracy, fake_kind), (1 - accuracy, real_kind))
        )
    else:
        total = accuracy * loss.discriminator(real_kind, fake_kind) + (1 - accuracy) * loss.discriminator(
            fake_kind, real_kind
        )
    best = total.min().item() / loss.num_terms
    assert GAN_SCALES[name].best_loss(accuracy) == pytest.approx(best, abs=1e-3)
    assert GAN_SCALES[name].accuracy(best) == pytest.approx(accuracy, abs=0.03)


@pytest.mark.parametrize("name", [name for name, scale in GAN_SCALES.items() if scale.best_loss])
def test_accuracy_inverts_the_loss_and_ends_at_its_bounds(name):
    scale = GAN_SCALES[name]
    for accuracy in (0.5, 0.6, 0.9, 1.0):
        assert scale.accuracy(scale.best_loss(accuracy)) == pytest.approx(accuracy, abs=1e-6)
    assert scale.accuracy(scale.equilibrium + 1) == 0.5
    assert scale.accuracy(scale.floor - 1) == 1.0


def test_the_textbook_losses():
    assert GAN_SCALES["non_saturating"].equilibrium == pytest.approx(math.log(2))
    assert 0.85 < GAN_SCALES["non_saturating"].accuracy(0.4) < 0.87
