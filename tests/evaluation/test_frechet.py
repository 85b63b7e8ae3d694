"""The Frechet distance against scipy's matrix root and against a formula that needs no covariance."""

import numpy as np
import pytest
import scipy.linalg
import torch

from hf_genkit.evaluation.frechet import FeatureStatistics, frechet_distance


def features(n, size, seed, mean=0.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(n, size, generator=generator, dtype=torch.float64) @ mixing + mean


def from_samples(a, b):
    """The distance of two normal fits without a covariance: the trace of the root is a nuclear norm of the data."""
    x, y = ((samples - samples.mean(0)) / (len(samples) - 1) ** 0.5 for samples in (a, b))
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.matrix_norm(x @ y.T, ord="nuc")
    return ((a.mean(0) - b.mean(0)).square().sum() + spread).item()


def distance(a, b):
    return FeatureStatistics.from_features(a).frechet_distance(FeatureStatistics.from_features(b))


def test_equals_the_formula_with_a_matrix_root():
    a, b = features(200, 12, seed=0).numpy(), features(150, 12, seed=1, mean=0.5).numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    statistics = [torch.from_numpy(value) for value in (a.mean(0), cov_a, b.mean(0), cov_b)]
    assert frechet_distance(*statistics) == pytest.approx(expected, rel=1e-10)


def test_fewer_samples_than_dimensions_lose_no_digits():
    few, others, many = features(10, 60, seed=0), features(10, 60, seed=1), features(200, 60, seed=2)
    for a, b in ((few, others), (few, many), (many, few)):
        assert distance(a, b) == pytest.approx(from_samples(a, b), rel=1e-12)
    assert distance(few, few) == pytest.approx(0, abs=1e-10)


def test_a_constant_set_has_no_spread():
    a, constant = features(30, 5, seed=0), torch.ones(30, 5)
    expected = (a.mean(0) - 1).square().sum() + a.var(0).sum()
    assert distance(a, constant) == pytest.approx(expected.item(), rel=1e-12)
    assert distance(constant, constant) == 0


def test_batches_and_parts_of_processes_give_the_statistics_of_the_whole():
    # A large mean: sums of squares in place of deviations would lose the spread.
    whole = features(101, 6, seed=0, mean=1e6)
    parts = [FeatureStatistics(), FeatureStatistics(), FeatureStatistics()]
    for batch in whole[:70].split(16):
        parts[0].update(batch)
    parts[1].update(whole[70:])
    parts[1].update(whole[:0])
    parts[0].merge(parts[2])
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    assert parts[2].count == 101
    np.testing.assert_allclose(parts[2].mean, whole.mean(0), rtol=1e-13)
    np.testing.assert_allclose(parts[2].covariance, np.cov(whole.numpy(), rowvar=False), rtol=1e-8)


def test_float32_features_are_summed_in_float64():
    single = features(500, 4, seed=0, mean=1e3).float()
    expected = np.cov(single.double().numpy(), rowvar=False)
    np.testing.assert_allclose(FeatureStatistics.from_features(single).covariance, expected, rtol=1e-9)


def test_statistics_survive_the_disk(tmp_path):
    statistics = FeatureStatistics.from_features(features(20, 3, seed=0))
    statistics.save(tmp_path / "real.safetensors")
    loaded = FeatureStatistics.load(tmp_path / "real.safetensors")
    assert loaded.count == 20
    assert torch.equal(loaded.mean, statistics.mean)
    assert torch.equal(loaded.covariance, statistics.covariance)
    assert [file.name for file in tmp_path.iterdir()] == ["real.safetensors"]


def test_bad_input_is_named():
    a, b = FeatureStatistics.from_features(features(9, 3, seed=0)), FeatureStatistics.from_features(torch.ones(9, 4))
    with pytest.raises(ValueError, match=r"one size, got \[3\], \[3, 3\], \[4\], \[4, 4\]"):
        a.frechet_distance(b)
    with pytest.raises(ValueError, match="different sizes, 3 and 4"):
        a.merge(b)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        distance(torch.ones(1, 3), torch.ones(5, 3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        distance(torch.full((5, 3), torch.nan), torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"\[N, D\], got \[5\]"):
        a.update(torch.ones(5))
