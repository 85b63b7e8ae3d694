"""Augmentation inside the graph: identity, gradients, independence of the batch, and each part's effect."""

import math

import pytest
import torch

from hf_genkit.data.differentiable_augmentation import PARTS, DifferentiableAugmentation, ada_update


def pictures(count=4, channels=3, size=8):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def draws(augmentation, count=4, seed=1):
    return torch.rand(count, augmentation.num_draws, generator=torch.Generator().manual_seed(seed))


def apply(part, pixels, *values):
    """One part with these draws for every picture."""
    return DifferentiableAugmentation(part)(pixels, torch.tensor([[0.0, *values]]).expand(len(pixels), -1))


@pytest.mark.parametrize("policy", [*PARTS, "ada", "diffaugment"])
def test_probability_zero_is_the_identity_to_the_bit(policy):
    augmentation, pixels = DifferentiableAugmentation(policy), pictures()
    uniforms = torch.zeros(4, augmentation.num_draws)
    assert torch.equal(augmentation(pixels, uniforms, 0.0), pixels)
    assert torch.equal(augmentation(pixels, uniforms, torch.zeros(())), pixels)


@pytest.mark.parametrize("policy", [*PARTS, "ada", "diffaugment"])
def test_every_part_changes_pictures_and_stays_differentiable(policy):
    augmentation, pixels = DifferentiableAugmentation(policy), pictures().requires_grad_()
    changed = augmentation(pixels, draws(augmentation))
    assert changed.shape == pixels.shape
    assert not torch.equal(changed, pixels)
    (gradient,) = torch.autograd.grad(changed.square().sum(), pixels)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("policy", [*PARTS, "ada", "diffaugment"])
def test_a_pictures_result_ignores_the_rest_of_the_batch(policy):
    augmentation, pixels = DifferentiableAugmentation(policy), pictures()
    uniforms = draws(augmentation)
    together = augmentation(pixels, uniforms, 0.7)
    for index in range(4):
        alone = augmentation(pixels[index : index + 1], uniforms[index : index + 1], 0.7)
        torch.testing.assert_close(alone, together[index : index + 1])


def test_the_global_random_state_is_left_alone():
    augmentation, state = DifferentiableAugmentation("ada"), torch.get_rng_state()
    augmentation(pictures(), draws(augmentation))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_part_is_applied_as_often_as_the_probability_says():
    augmentation, pixels = DifferentiableAugmentation("brightness"), torch.zeros(2000, 1, 1, 1)
    changed = augmentation(pixels, draws(augmentation, 2000), 0.3) != 0
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_ends_of_the_uniform_range_stay_finite():
    for part, (_, count) in PARTS.items():
        for value in (0.0, 1 - 2**-24):
            assert apply(part, pictures(), *[value] * count).isfinite().all()


@pytest.mark.parametrize(("draw", "shift"), [(0.0, -1), (0.5, 0), (0.99, 1)])
def test_translation_moves_whole_pixels_and_fills_with_black(draw, shift):
    pixels = pictures()
    moved = apply("translation", pixels, draw, 0.5)
    padded = torch.nn.functional.pad(pixels, (0, 0, 1, 1), value=-1.0)
    assert torch.equal(moved, padded[:, :, 1 - shift : 9 - shift])
    moved = apply("translation", pixels, 0.5, draw)
    padded = torch.nn.functional.pad(pixels, (1, 1), value=-1.0)
    assert torch.equal(moved, padded[..., 1 - shift : 9 - shift])


def test_cutout_blackens_a_square_of_half_the_side():
    hidden = apply("cutout", torch.ones(1, 1, 8, 8), 0.5, 0.5) == -1
    assert hidden[0, 0, 2:6, 2:6].all()
    assert hidden.sum() == 16


def test_flips_and_quarter_turns():
    pixels = pictures()
    assert torch.equal(apply("flip", pixels, 0.2), pixels.flip(3))
    assert torch.equal(apply("flip", pixels, 0.7), pixels)
    for turns in range(4):
        assert torch.equal(apply("rotate90", pixels, turns / 4), torch.rot90(pixels, turns, (2, 3)))


def test_free_rotation_by_a_quarter_is_a_quarter_turn_and_scale_one_changes_nothing():
    pixels = pictures()
    torch.testing.assert_close(apply("rotation", pixels, 0.25), torch.rot90(pixels, 1, (2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(apply("scale", pixels, 0.5), pixels, atol=1e-5, rtol=0)


def test_scaling_up_magnifies():
    square = torch.full((1, 1, 16, 16), -1.0)
    square[:, :, 5:11, 5:11] = 1.0
    areas = [(apply("scale", square, draw) + 1).sum().item() for draw in (0.02, 0.5, 0.98)]
    assert areas[0] < areas[1] < areas[2]


def test_color_against_its_formula():
    pixels = pictures(1)
    shifted = pixels + 0.9 - 0.5
    grey = shifted.mean(1, keepdim=True)
    saturated = grey + 2 * 0.3 * (shifted - grey)
    expected = saturated.mean() + (0.2 + 0.5) * (saturated - saturated.mean())
    torch.testing.assert_close(apply("color", pixels, 0.9, 0.3, 0.2), expected)


def test_saturation_leaves_grey_pictures():
    pixels = pictures(channels=1)
    torch.testing.assert_close(apply("saturation", pixels, 0.9), pixels)


def test_contrast_at_one_standard_deviation_scales_by_half_an_octave():
    pixels = pictures(1)
    one_sigma = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    expected = pixels.mean() + 2**0.5 * (pixels - pixels.mean())
    torch.testing.assert_close(apply("contrast", pixels, one_sigma), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("color,tranlation", "'tranlation' is not a part .*did you mean 'translation'"),
        ("addda", "'addda' .*did you mean 'ada'"),
    ],
)
def test_an_unknown_part_is_refused_with_the_nearest_name(policy, message):
    with pytest.raises(ValueError, match=message):
        DifferentiableAugmentation(policy)


def test_wrong_draws_and_pictures_that_are_not_square_are_refused():
    augmentation = DifferentiableAugmentation("ada")
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        augmentation(pictures(), torch.rand(4, 3))
    with pytest.raises(ValueError, match="8x6 pixels"):
        augmentation(pictures()[..., :6], draws(augmentation))


@pytest.mark.parametrize(
    ("probability", "sign", "expected"), [(0.5, 0.9, 0.51), (0.5, 0.1, 0.49), (0.0, -1.0, 0.0), (1.0, 1.0, 1.0)]
)
def test_ada_goes_up_while_the_discriminator_is_too_sure(probability, sign, expected):
    updated = ada_update(torch.tensor(probability), torch.tensor(sign), num_images=64, images_to_one=6400)
    assert updated.item() == pytest.approx(expected)


def test_ada_stays_at_its_target():
    assert ada_update(torch.tensor(0.5), torch.tensor(0.6), num_images=64, images_to_one=64).item() == 0.5
