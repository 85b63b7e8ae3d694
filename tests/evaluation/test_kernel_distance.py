"""The kernel distance against plain loops over pairs."""

import pytest
import torch

from hf_genkit.evaluation import manifold
from hf_genkit.evaluation.kernel_distance import kernel_distance


def normal(n, size, seed, mean=0.0):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def by_pairs(x, y):
    def mean(a, b, skip_same):
        values = [
            (float(p @ q) / len(p) + 1) ** 3
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (skip_same and i == j)
        ]
        return sum(values) / len(values)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("block", [1, 40, 2**20])
def test_all_samples_equal_a_loop_over_pairs(monkeypatch, block):
    monkeypatch.setattr(manifold, "BLOCK_ELEMENTS", block)
    x, y = normal(15, 4, seed=0), normal(11, 4, seed=1, mean=0.7)
    assert kernel_distance(x, y, subset_size=None)[0] == pytest.approx(by_pairs(x, y), rel=1e-12)


def test_a_subset_of_everything_is_everything():
    x, y = normal(12, 4, seed=0), normal(12, 4, seed=1)
    mean, std = kernel_distance(x, y, subsets=3, subset_size=1000)
    assert mean == pytest.approx(by_pairs(x, y), rel=1e-12)
    assert std == 0


def test_subsets_are_drawn_by_the_seed_without_replacement_and_averaged():
    x, y = normal(6, 3, seed=0), normal(30, 3, seed=1, mean=1.0)
    first = kernel_distance(x, y, subsets=40, subset_size=5, seed=1)
    assert first == kernel_distance(x, y, subsets=40, subset_size=5, seed=1)
    assert first != kernel_distance(x, y, subsets=40, subset_size=5, seed=2)
    assert first[1] > 0
    average = kernel_distance(x, y, subsets=4000, subset_size=5)[0]
    assert average == pytest.approx(by_pairs(x, y), rel=0.05)


def test_the_mean_of_alike_sets_is_zero_and_not_above():
    # The biased estimate, which keeps a sample's kernel with itself, is about 1.1 too high here.
    values = [kernel_distance(normal(20, 4, 2 * s), normal(20, 4, 2 * s + 1), subset_size=None)[0] for s in range(200)]
    assert abs(sum(values) / 200) < 0.1


def test_the_standard_error_is_the_spread_of_fresh_samples():
    draws = [
        kernel_distance(normal(60, 4, 2 * s, mean=0.6), normal(90, 4, 2 * s + 1), subset_size=None) for s in range(200)
    ]
    values, errors = torch.tensor(draws).unbind(1)
    assert errors.mean() == pytest.approx(values.std().item(), rel=0.15)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"got \[5, 3\] and \[5, 4\]"):
        kernel_distance(torch.ones(5, 3), torch.ones(5, 4))
    with pytest.raises(ValueError, match="2 samples or more, got 100 of 1"):
        kernel_distance(torch.ones(1, 3), torch.ones(5, 3))
    with pytest.raises(ValueError, match="got 0 of 5"):
        kernel_distance(torch.ones(5, 3), torch.ones(5, 3), subsets=0)


def test_float32_features_stay_so_and_lose_no_digit_that_counts():
    x, y = normal(400, 32, seed=0, mean=3.0), normal(500, 32, seed=1, mean=3.02)
    exact, error = kernel_distance(x, y, subset_size=None)
    single, _ = kernel_distance(x.float(), y.float(), subset_size=None)
    assert single != exact
    assert abs(single - exact) < 1e-3 * error
