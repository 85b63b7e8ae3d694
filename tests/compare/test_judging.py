"""Judging pictures: the same number, noise and features for all, and costs that grow as they should."""

import pytest
import torch

from hf_genkit.compare.judging import draw_many, judge_painter, network_cost, sampling_flops

from . import tiny


def test_a_diffusion_model_is_judged_once_for_each_number_of_steps_and_others_once(tmp_path):
    judge = tiny.judge(tmp_path)
    found = [judge_painter(painter, judge, 12, 0, [3, 2]) for painter in tiny.painters()]
    assert [[point["steps"] for point in points] for points in found] == [[1], [1], [2, 3]]
    assert all(set(judge.keys) <= set(point["scores"]) for points in found for point in points)
    assert judge.samples == 12


def test_flops_of_drawing_grow_with_the_steps_of_a_diffusion_model():
    painter = tiny.painters()[2]
    assert sampling_flops(painter, 4) == 4 * sampling_flops(painter, 1) > 0


def test_flops_of_a_generator_are_those_of_its_layers():
    painter = tiny.painters()[1]
    layers = [module for module in painter.network.modules() if isinstance(module, torch.nn.Linear)]
    assert sampling_flops(painter, 1) == sum(2 * layer.in_features * layer.out_features for layer in layers)


def test_pictures_do_not_depend_on_the_batch(monkeypatch):
    painter = tiny.painters()[0]
    whole = draw_many(painter, 7, 0, 1)[0]
    monkeypatch.setattr("hf_genkit.compare.judging.BATCH", 3)
    parts = draw_many(painter, 7, 0, 1)[0]
    assert whole.shape == (7, 1, 8, 8)
    assert (whole.int() - parts.int()).abs().max() <= 1


@pytest.mark.parametrize("number", range(3))
def test_sampling_needs_less_than_training(number):
    painter = tiny.painters()[number]
    whole = [tiny.vae(), tiny.gan(), tiny.pipeline().unet][number]
    found = network_cost(painter)
    most = sum(parameter.numel() for parameter in whole.parameters())
    assert 0 < found["sampling_parameters"] < most or (number == 2 and found["sampling_parameters"] == most)
    assert found["sampling_bytes"] == 4 * found["sampling_parameters"]
