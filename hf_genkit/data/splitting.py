"""Deterministic, stratified choice of samples."""

import numpy as np


def stratified_sample(strata: np.ndarray, size: int, seed: int) -> np.ndarray:
    """
    Choose `size` samples at random so that each stratum keeps its share: the samples are shuffled, sorted by stratum,
    and taken at even distances. A stratum of `n` out of `N` gives `n * size / N` samples, rounded up or down.

    Args:
        strata (`np.ndarray`): The stratum of each sample, such as its label, of shape `[N]`.
        size (`int`): How many samples to choose, from 0 to `N`.
        seed (`int`): The same seed chooses the same samples.

    Returns:
        `np.ndarray`: Positions from 0 to `N - 1` in ascending order, of shape `[size]`.
    """
    shuffled = np.random.default_rng(seed).permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    places = (np.arange(size) * 2 + 1) * len(strata) // (2 * size) if size else np.arange(0)
    return np.sort(by_stratum[places])
