"""Smoothness of interpolations: what the figures must say of ways that are known."""

import pytest
import torch

from hf_genkit.compare.control import cross_fades, interpolations, judge_control, smoothness

from . import tiny


REAL = torch.arange(40, dtype=torch.float64)[:, None].repeat(1, 2) / 4


def walk(*positions: list[float]) -> dict[str, float]:
    """The smoothness of ways along a line in feature space."""
    features = torch.tensor(positions, dtype=torch.float64)
    paths = torch.zeros(*features.shape, 1, 2, 2, dtype=torch.uint8)
    flat = features.flatten()[:, None].repeat(1, 2)
    return smoothness(paths, lambda pictures, desc: flat, REAL, neighbours=1)


def test_an_even_straight_way_is_1_and_1():
    found = walk([float(value) for value in range(8)])
    assert found["largest_step"] == pytest.approx(1)
    assert found["detour"] == pytest.approx(1)
    assert found["near_real"] == 1


def test_one_jump_is_as_large_as_all_steps_together():
    assert walk([0.0, 0.0, 0.0, 9.0, 9.0, 9.0])["largest_step"] == pytest.approx(5)


def test_a_way_there_and_back_is_a_detour():
    assert walk([0.0, 2.0, 1.0, 3.0])["detour"] == pytest.approx(5 / 3)


def test_pictures_far_from_all_real_ones_are_not_near():
    assert walk([0.0, 500.0, 600.0, 2.0])["near_real"] == 0
    assert walk([0.0, 500.0, 1.0, 2.0])["near_real"] == 0.5


def test_ends_are_not_counted_as_between():
    assert walk([900.0, 1.0, 2.0, 900.5])["near_real"] == 1


def test_a_model_that_always_draws_the_same_has_no_way():
    found = walk([1.0, 1.0, 1.0, 1.0])
    assert found["largest_step"] != found["largest_step"]
    assert walk([1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0])["largest_step"] == pytest.approx(1)


@pytest.mark.parametrize("number", range(3))
def test_every_family_is_walked_through(tmp_path, number):
    painter = tiny.painters()[number]
    paths = interpolations(painter, paths=2, seed=0, steps=2, points=4)
    assert paths.shape == (2, 4, 1, 8, 8)
    assert paths.dtype == torch.uint8
    found = judge_control(painter, tiny.judge(tmp_path), paths=2, seed=0, steps=2)
    assert found["largest_step"] >= 1
    assert found["detour"] >= 0.999


def test_a_cross_fade_begins_and_ends_with_real_pictures():
    real = torch.from_numpy(tiny.pictures(4).pixels)
    faded = cross_fades(real, paths=2, points=5)
    assert torch.equal(faded[:, 0], real[:2])
    assert torch.equal(faded[:, -1], real[2:])
