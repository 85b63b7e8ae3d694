"""Precision, recall, density and coverage against plain loops over balls."""

import pytest
import torch

from hf_genkit.evaluation import manifold
from hf_genkit.evaluation.manifold import manifold_metrics


def normal(n, size, seed, scale=1.0):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def by_loops(generated, real, k):
    def radius(samples, i):
        return sorted((samples[i] - other).norm().item() for j, other in enumerate(samples) if j != i)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    generated_radii = [radius(generated, i) for i in range(len(generated))]
    hits = [
        [(g - r).norm().item() <= r_radius for r, r_radius in zip(real, real_radii, strict=True)] for g in generated
    ]
    recalled = [
        any((g - r).norm().item() <= g_radius for g, g_radius in zip(generated, generated_radii, strict=True))
        for r in real
    ]
    return {
        "precision": sum(any(row) for row in hits) / len(generated),
        "recall": sum(recalled) / len(real),
        "density": sum(map(sum, hits)) / (k * len(generated)),
        "coverage": sum(any(column) for column in zip(*hits, strict=True)) / len(real),
    }


@pytest.mark.parametrize("block", [1, 100, 2**20])
@pytest.mark.parametrize("neighbours", [1, 4])
def test_equals_loops_over_balls(monkeypatch, block, neighbours):
    monkeypatch.setattr(manifold, "BLOCK_ELEMENTS", block)
    generated, real = normal(23, 3, seed=0, scale=1.5), normal(31, 3, seed=1)
    expected = by_loops(generated, real, neighbours)
    assert len({round(value, 3) for value in expected.values()}) >= 3
    assert manifold_metrics(generated, real, neighbours=neighbours) == pytest.approx(expected)


def test_a_large_common_offset_changes_nothing():
    generated, real = normal(40, 3, seed=0), normal(40, 3, seed=1)
    assert manifold_metrics(generated + 1e8, real + 1e8) == pytest.approx(manifold_metrics(generated, real))


def test_a_collapsed_generator_is_precise_and_covers_little():
    real = normal(100, 3, seed=0)
    values = manifold_metrics(real[:1] + normal(100, 3, seed=1, scale=1e-3), real)
    assert values["precision"] == 1
    assert values["recall"] < 0.05
    assert values["coverage"] < 0.2


def test_the_reference_itself_scores_full_marks():
    real = normal(50, 3, seed=0)
    values = manifold_metrics(real, real, neighbours=3)
    assert values["precision"] == values["recall"] == values["coverage"] == 1


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"got \[9, 3\] and \[9, 4\]"):
        manifold_metrics(torch.ones(9, 3), torch.ones(9, 4))
    with pytest.raises(ValueError, match="got 5 for 5 generated and 9 real"):
        manifold_metrics(torch.ones(5, 3), torch.ones(9, 3))
    with pytest.raises(ValueError, match="got 0 for 9"):
        manifold_metrics(torch.ones(9, 3), torch.ones(9, 3), neighbours=0)


def test_float32_features_give_the_same_neighbours():
    generated, real = normal(300, 16, seed=0, scale=0.9), normal(300, 16, seed=1)
    assert manifold_metrics(generated.float(), real.float()) == pytest.approx(
        manifold_metrics(generated, real), abs=0.005
    )
