"""Drawing pictures: reproducible, in range, and sentences for what can't be drawn."""

import pytest
import torch

from hf_genkit.models.gan import GANConfig, GANModel


def tiny(**options):
    torch.manual_seed(0)
    options = {"image_size": 8, "latent_dim": 4, "architecture": "dcgan", "generator_channels": 8, **options}
    return GANModel(GANConfig(**options))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("architecture", ["mlp", "dcgan", "resnet", "r3gan"])
def test_pictures_are_float_tensors_in_range(architecture):
    images = tiny(architecture=architecture, num_channels=3).to(torch.bfloat16).generate(5)
    assert images.shape == (5, 3, 8, 8)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert not images.requires_grad


def test_a_generator_makes_pictures_reproducible_and_spares_the_global_random_state():
    model, state = tiny(num_labels=3), torch.get_rng_state()
    assert torch.equal(model.generate(5, generator=seeded()), model.generate(5, generator=seeded()))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(model.generate(5, generator=seeded(1)), model.generate(5, generator=seeded()))


def test_the_batch_size_does_not_change_pictures():
    model = tiny(num_labels=3)
    torch.testing.assert_close(
        model.generate(5, generator=seeded(), batch_size=2), model.generate(5, generator=seeded())
    )


def test_drawing_uses_running_statistics_and_restores_the_mode():
    model = tiny().train()
    together = model.generate(latents=torch.randn(4, 4, generator=seeded()), use_ema=False)
    alone = model.generate(latents=torch.randn(4, 4, generator=seeded())[:1], use_ema=False)
    torch.testing.assert_close(together[:1], alone)
    assert model.generator.training
    assert model.ema_generator.training


def test_pictures_come_from_the_average_unless_told_otherwise():
    model = tiny()
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.add_(0.5)
    latents = torch.randn(2, 4, generator=seeded())
    assert torch.equal(model.generate(latents=latents), model.eval().ema_generator(latents))
    assert torch.equal(model.generate(latents=latents, use_ema=False), model.generator(latents))
    assert not torch.allclose(model.generate(latents=latents), model.generate(latents=latents, use_ema=False))


def test_truncation_scales_the_latents():
    model = tiny()
    latents = torch.randn(3, 4, generator=seeded())
    truncated = model.generate(3, generator=seeded(), truncation=0.5)
    assert torch.equal(truncated, model.generate(latents=0.5 * latents))


def test_labels_are_one_for_all_one_for_each_or_in_turn():
    model = tiny(num_labels=3)
    latents = torch.randn(4, 4, generator=seeded())
    in_turn = model.generate(latents=latents)
    assert torch.equal(in_turn, model.generate(latents=latents, labels=[0, 1, 2, 0]))
    assert torch.equal(
        model.generate(latents=latents, labels=2), model.generate(latents=latents, labels=torch.full((4,), 2))
    )
    assert not torch.allclose(in_turn, model.generate(latents=latents, labels=2))
    assert model.generate(labels=[1, 2]).shape[0] == 2
    assert model.generate(labels=1).shape[0] == 1


@pytest.mark.parametrize(
    ("num_labels", "arguments", "message"),
    [
        (3, {"num_images": 2, "labels": 3}, "label 3 is not a class of this model: they go from 0 to 2"),
        (3, {"labels": [0, -1]}, "label -1 is not a class"),
        (3, {"num_images": 3, "labels": [0, 1]}, "2 `labels` for 3 pictures"),
        (3, {"labels": torch.tensor([0.5])}, "whole numbers"),
        (0, {"num_images": 2, "labels": [0, 1]}, "without labels"),
        (0, {"num_images": 0}, "`num_images` is 0"),
        (0, {"num_images": 2, "truncation": 0.0}, "`truncation` is 0.0"),
        (0, {"num_images": 2, "truncation": 1.5}, "`truncation` is 1.5"),
        (0, {"num_images": 2, "batch_size": 0}, "`batch_size` is 0"),
        (0, {"latents": torch.zeros(2, 5)}, r"\(2, 5\), but the model takes \[B, 4\]"),
        (0, {"num_images": 3, "latents": torch.zeros(2, 4)}, "2 `latents` for 3 pictures"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(num_labels, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(num_labels=num_labels).generate(**arguments)


@pytest.mark.parametrize("mode", ["linear", "slerp"])
def test_interpolation_includes_both_ends(mode):
    model = tiny()
    a, b = torch.randn(2, 4, generator=seeded())
    images = model.interpolate(a, b, steps=5, mode=mode)
    assert images.shape == (5, 1, 8, 8)
    torch.testing.assert_close(images[[0, -1]], model.generate(latents=torch.stack([a, b])))
    assert not torch.allclose(images[2], images[0])


def test_interpolation_of_pairs_keeps_each_pairs_label():
    model = tiny(num_labels=3)
    a, b = torch.randn(2, 2, 4, generator=seeded())
    images = model.interpolate(a, b, steps=3, labels=[2, 0])
    assert images.shape == (2, 3, 1, 8, 8)
    middle = model.generate(latents=(a + b) / 2, labels=[2, 0])
    torch.testing.assert_close(images[:, 1], middle)


def test_slerp_goes_along_the_circle():
    model = tiny(latent_dim=2)
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    images = model.interpolate(a, b, steps=3, mode="slerp")
    torch.testing.assert_close(images[1:2], model.generate(latents=torch.full((1, 2), 2**0.5)))
    # No angle between parallel vectors: a straight line.
    images = model.interpolate(a, 3 * a, steps=3, mode="slerp")
    torch.testing.assert_close(images[1:2], model.generate(latents=2 * a[None]))


@pytest.mark.parametrize(
    ("num_labels", "arguments", "message"),
    [
        (0, {"steps": 1}, "`steps` is 1"),
        (0, {"steps": 3, "mode": "spherical"}, "'spherical', .*linear, slerp"),
        (3, {"steps": 3}, "needs `labels` to interpolate"),
        (0, {"steps": 3, "b": torch.zeros(2, 4)}, r"\(4,\) and \(2, 4\)"),
        (0, {"steps": 3, "a": torch.zeros(5), "b": torch.zeros(5)}, r"takes \[B, 4\]"),
    ],
)
def test_what_cannot_be_interpolated_is_refused_in_one_sentence(num_labels, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(num_labels=num_labels).interpolate(**{"a": torch.zeros(4), "b": torch.ones(4), **arguments})
