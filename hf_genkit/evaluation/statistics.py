"""Confidence intervals for small numbers of runs and for shares of samples."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """
    An estimate and its confidence interval.

    Args:
        mean (`float`): The estimate.
        low (`float`, *optional*): Lower end; `None` where there is no interval.
        high (`float`, *optional*): Upper end; `None` where there is no interval.
        n (`int`): Number of values that it rests on.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """
    Mean of a few runs, such as one accuracy for each seed, with Student's t interval.

    Args:
        values (sequence of `float`):
            One value a run. A single one has no interval.
        confidence (`float`, *optional*, defaults to 0.95):
            Share of such intervals that contain the true mean, if runs are independent and roughly normal.

    Returns:
        [`Interval`]

    Raises:
        `ValueError`: if there are no values, or `confidence` is not between 0 and 1.
    """
    _check_confidence(confidence)
    if not values:
        raise ValueError("mean_interval needs at least one value, got none.")
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Interval(mean, None, None, n)
    half_width = float(stdtrit(n - 1, (1 + confidence) / 2)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, n)


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """
    Mean of `a - b` over pairs, such as two methods trained with the same seeds, with Student's t interval.

    Pairing removes what the two have in common (the seed's data order and initialisation), so this interval is usually
    much narrower than the two single ones suggest.

    Args:
        a (sequence of `float`):
            One value a run.
        b (sequence of `float`):
            The value of each run's partner, in the same order.
        confidence (`float`, *optional*, defaults to 0.95):
            As in [`mean_interval`].

    Returns:
        [`Interval`] of the difference.

    Raises:
        `ValueError`: if the two differ in length or are empty.
    """
    if len(a) != len(b):
        raise ValueError(f"paired_difference needs pairs, got {len(a)} and {len(b)} values.")
    return mean_interval([x - y for x, y in zip(a, b, strict=True)], confidence)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """
    Share of successes, such as the accuracy of one model on a test set, with the interval of
    [Wilson (1927)](https://doi.org/10.1080/01621459.1927.10502953), which stays inside [0, 1] and holds for small `n`
    and for shares near 0 and 1.

    It covers the choice of the test samples, not the randomness of training: use [`mean_interval`] over seeds for that.

    Args:
        successes (`int`):
            Number of samples that count as a success.
        n (`int`):
            Number of samples.
        confidence (`float`, *optional*, defaults to 0.95):
            As in [`mean_interval`].

    Returns:
        [`Interval`] around the share of successes (which is not its middle).

    Raises:
        `ValueError`: if `n` is below 1 or `successes` is not between 0 and `n`.
    """
    _check_confidence(confidence)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson_interval needs 0 <= successes <= n and n >= 1, got {successes} of {n}.")
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else middle - half_width
    high = 1.0 if successes == n else middle + half_width
    return Interval(share, low, high, n)


def ratio_interval(
    parts: Sequence[float], wholes: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """
    Sum of the parts divided by the sum of the wholes, such as wrong words and spoken words of each clip, with the
    percentile interval of the [bootstrap (Efron, 1979)](https://doi.org/10.1214/aos/1176344552) over samples.

    Give the difference of two models' parts for the interval of the paired difference of their ratios. It covers the choice
    of the test samples, not the randomness of training.

    Args:
        parts (sequence of `float`):
            One value a sample.
        wholes (sequence of `float`):
            The value of each sample's whole, in the same order, above 0 altogether.
        confidence (`float`, *optional*, defaults to 0.95):
            As in [`mean_interval`].
        resamples (`int`, *optional*, defaults to 10,000):
            Number of times that samples are drawn.
        seed (`int`, *optional*, defaults to 0):
            What they are drawn with.

    Returns:
        [`Interval`]; of a single sample without ends.

    Raises:
        `ValueError`: if the two differ in length, are empty, or the wholes add up to 0.
    """
    _check_confidence(confidence)
    if len(parts) != len(wholes) or sum(wholes) <= 0:
        raise ValueError(
            f"ratio_interval needs a whole for each part, above 0 altogether, got {len(parts)} parts and {len(wholes)} "
            f"wholes of {sum(wholes)}."
        )
    n, mean = len(parts), sum(parts) / sum(wholes)
    if n == 1:
        return Interval(mean, None, None, n)
    draws = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=resamples)
    totals = draws @ np.asarray(wholes, dtype=float)
    drawn = (draws @ np.asarray(parts, dtype=float))[totals > 0] / totals[totals > 0]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return Interval(mean, low, high, n)


def _check_confidence(confidence: float):
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}.")
