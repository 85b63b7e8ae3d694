"""Intervals against scipy's."""

import pytest
import scipy.stats

from hf_genkit.evaluation.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    ratio_interval,
    wilson_interval,
)


ALONE = [0.912, 0.905, 0.921, 0.918, 0.909]
DISTILLED = [0.921, 0.911, 0.926, 0.931, 0.914]


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_mean_interval_is_students_t_and_not_the_normal_one(n, confidence):
    interval = mean_interval(ALONE[:n], confidence)
    low, high = scipy.stats.t.interval(confidence, n - 1, loc=sum(ALONE[:n]) / n, scale=scipy.stats.sem(ALONE[:n]))
    assert interval.mean == pytest.approx(sum(ALONE[:n]) / n)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9)
    assert interval.n == n


def test_a_single_run_has_no_interval():
    assert mean_interval([0.9]) == Interval(0.9, None, None, 1)


def test_paired_difference_uses_the_pairs():
    interval = paired_difference(DISTILLED, ALONE)
    expected = scipy.stats.ttest_rel(DISTILLED, ALONE).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert interval.low > 0
    assert mean_interval(DISTILLED).low < mean_interval(ALONE).high  # unpaired, the intervals overlap


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (10, 10), (348, 360), (1, 1)])
def test_wilson_interval(successes, n, confidence):
    interval = wilson_interval(successes, n, confidence)
    expected = scipy.stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= interval.low <= interval.mean == successes / n <= interval.high <= 1


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (mean_interval, ([],), "at least one value"),
        (mean_interval, ([1.0], 95), "between 0 and 1, got 95"),
        (paired_difference, ([1.0, 2.0], [1.0]), "got 2 and 1 values"),
        (wilson_interval, (1, 0), "got 1 of 0"),
        (wilson_interval, (0, 0), "got 0 of 0"),
        (wilson_interval, (5, 4), "got 5 of 4"),
        (wilson_interval, (-1, 4), "got -1 of 4"),
        (wilson_interval, (1, 4, 0.0), r"between 0 and 1, got 0\.0"),
    ],
)
def test_bad_arguments_are_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_a_ratio_of_sums_is_resampled_by_whole_samples():
    """For equal wholes the ratio is a mean, whose bootstrap interval is near the normal one."""
    parts = [0, 1, 0, 2, 0, 0, 1, 3, 0, 1] * 20
    interval = ratio_interval(parts, [10] * 200)
    spread = 1.96 * scipy.stats.sem(parts) / 10
    assert interval.mean == pytest.approx(0.08)
    assert (interval.low, interval.high) == pytest.approx((0.08 - spread, 0.08 + spread), abs=0.002)
    few = [ratio_interval(parts, [10] * 200, resamples=7) for _ in range(3)]
    assert few[0] == few[1] == few[2], "the same samples gave another interval"


def test_a_ratio_weighs_samples_by_their_wholes():
    assert ratio_interval([1, 0], [1, 9]).mean == pytest.approx(0.1)
    assert ratio_interval([1], [4]) == Interval(0.25, None, None, 1)


@pytest.mark.parametrize(("parts", "wholes"), [([1], [1, 2]), ([0], [0]), ([], [])])
def test_a_ratio_to_nothing_is_refused(parts, wholes):
    with pytest.raises(ValueError, match="above 0 altogether"):
        ratio_interval(parts, wholes)
