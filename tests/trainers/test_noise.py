"""Noise by (seed, step, position): wrong bits would look random, too, so they are compared with a generator in Python."""

import math

import pytest
import torch
from scipy import stats

from hf_genkit.trainers.noise import SampleNoise, normal_noise, random_words, uniform_noise


MASK = 2**64 - 1


def splitmix(values: list[int]) -> int:
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def test_words_are_those_of_splitmix():
    import zlib

    words = random_words(7, 3, torch.tensor([0, 5]), "latents", 4)
    expected = [[splitmix([7, 3, zlib.crc32(b"latents"), p, e]) for e in range(4)] for p in (0, 5)]
    assert [[word & MASK for word in row] for row in words.tolist()] == expected


def test_normal_numbers_are_normal_and_uniform_ones_uniform():
    positions = torch.arange(200)
    normal = normal_noise(0, 0, positions, "x", (3, 67))
    assert normal.shape == (200, 3, 67)
    assert normal.dtype == torch.float32
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(uniform_noise(0, 0, positions, "x", (201,)).flatten().numpy(), "uniform").pvalue > 0.01
    assert normal.flatten(1).corrcoef().fill_diagonal_(0).abs().max() < 5 / math.sqrt(201)
    assert normal_noise(0, 0, positions, "x", (2**14,)).isfinite().all()


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"stream": "y"}, {"positions": torch.tensor([1])}])
def test_every_argument_counts(change):
    arguments = {"seed": 0, "step": 0, "positions": torch.tensor([0]), "stream": "x", "shape": (64,)}
    assert (normal_noise(**arguments) != normal_noise(**{**arguments, **change})).float().mean() > 0.9


@pytest.mark.parametrize(("accumulation", "processes"), [(1, 1), (4, 1), (2, 2), (1, 4)])
def test_a_sample_draws_the_same_in_any_arrangement(accumulation, processes):
    whole = SampleNoise(3, 0, 1)
    whole.start(step=9, batch_size=8)
    expected = whole.normal("x", 8, (5,), torch.device("cpu"))
    parts = {}
    for process in range(processes):
        noise = SampleNoise(3, process, processes)
        noise.start(step=9, batch_size=8 // accumulation // processes)
        for micro_step in range(accumulation):
            parts[micro_step, process] = noise.normal("x", noise.batch_size, (5,), torch.device("cpu"))
            noise.advance()
    assert torch.equal(torch.cat([parts[key] for key in sorted(parts)]), expected)
