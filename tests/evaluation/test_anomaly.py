"""The numbers of an anomaly report against scikit-learn and definitions, and a threshold that has seen no anomaly."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from hf_genkit.evaluation.anomaly import anomaly_report, anomaly_threshold, worst_cases
from hf_genkit.evaluation.statistics import wilson_interval


def draw(seed=0, normal=300, anomalies=120, shift=1.5, decimals=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=normal).round(decimals), rng.normal(shift, 2, anomalies).round(decimals)


@pytest.mark.parametrize("decimals", [8, 1], ids=["no ties", "ties"])
def test_ranking_numbers_are_those_of_scikit_learn(decimals):
    normal, anomalies = draw(decimals=decimals)
    report = anomaly_report(normal.tolist(), anomalies.tolist())
    labels, scores = [0] * len(normal) + [1] * len(anomalies), [*normal, *anomalies]
    assert report.auroc.mean == pytest.approx(roc_auc_score(labels, scores))
    assert report.average_precision == pytest.approx(average_precision_score(labels, scores))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert report.fpr_at_95_tpr == pytest.approx(fpr[tpr >= 0.95].min())
    assert report.threshold is report.false_positive_rate is report.detection_rate is None


@pytest.mark.parametrize("count", [1, 19, 20, 21, 100])
def test_fpr_at_95_tpr_for_counts_of_which_95_percent_are_whole_or_not(count):
    normal, anomalies = draw(normal=200, anomalies=count)
    fpr, tpr, _ = roc_curve([0] * 200 + [1] * count, [*normal, *anomalies], drop_intermediate=False)
    assert anomaly_report(normal, anomalies).fpr_at_95_tpr == pytest.approx(fpr[tpr >= 0.95 - 1e-12].min())


@pytest.mark.parametrize("decimals", [8, 0], ids=["no ties", "ties"])
def test_auroc_interval_is_delongs_from_all_pairs(decimals):
    normal, anomalies = draw(normal=40, anomalies=25, decimals=decimals)
    above = (anomalies[:, None] > normal) + 0.5 * (anomalies[:, None] == normal)
    auroc = above.mean()
    variance = above.mean(1).var(ddof=1) / 25 + above.mean(0).var(ddof=1) / 40
    half_width = 1.959963985 * variance**0.5 / (auroc * (1 - auroc))
    low, high = (1 / (1 + (1 / auroc - 1) * np.exp(side)) for side in (half_width, -half_width))
    report = anomaly_report(normal, anomalies)
    assert (report.auroc.low, report.auroc.high) == pytest.approx((low, high), rel=1e-7)


def test_auroc_interval_contains_the_truth_in_about_95_of_100_samples():
    truth = 0.7488  # P(N(1.5, 2) > N(0, 1))
    inside = 0
    for seed in range(300):
        interval = anomaly_report(*draw(seed, normal=80, anomalies=50)).auroc
        inside += interval.low <= truth <= interval.high
    assert 0.92 <= inside / 300 <= 0.98


@pytest.mark.parametrize(
    ("normal", "anomalies", "auroc"),
    [
        ([1, 2, 3], [4, 5, 6], 1.0),
        ([4, 5], [1, 2], 0.0),
        ([1, 1], [1, 1], 0.5),
        ([1, 3], [2], 0.5),
        ([1], [2, 0], 0.5),
    ],
)
def test_scores_without_spread_have_a_wide_interval_and_not_a_point(normal, anomalies, auroc):
    interval = anomaly_report(normal, anomalies).auroc
    assert interval.mean == auroc
    assert 0 <= interval.low <= auroc <= interval.high <= 1
    assert interval.high - interval.low > 0.3


def test_threshold_is_the_conformal_quantile():
    assert anomaly_threshold(range(1, 100), 0.01) == 99
    assert anomaly_threshold(range(1, 100), 0.05) == 95
    assert anomaly_threshold(range(1, 1000), 0.18) == 820  # 1000 * (1 - 0.18) is 820.0000000000001
    assert anomaly_threshold([3, 1, 2], 0.25) == 3
    assert anomaly_threshold([3, 1, 2], 0.5) == 2


@pytest.mark.parametrize("n", [19, 25, 200])
def test_false_positive_rate_stays_within_the_target_on_average_even_for_few_scores(n):
    rng = np.random.default_rng(0)
    thresholds = [anomaly_threshold(rng.uniform(size=n), 0.05) for _ in range(4000)]
    expected = (n + 1 - np.ceil(0.95 * (n + 1) - 1e-9)) / (n + 1)
    assert np.mean([1 - threshold for threshold in thresholds]) == pytest.approx(expected, abs=0.003)
    assert expected <= 0.05 + 1e-9


def test_the_threshold_depends_on_validation_scores_alone():
    normal, anomalies = draw()
    validation = draw(1)[0]
    report = anomaly_report(normal, anomalies, validation_scores=validation, target_fpr=0.05)
    assert report.threshold == anomaly_threshold(validation, 0.05)
    assert (
        anomaly_report(normal, anomalies + 9, validation_scores=validation, target_fpr=0.05).threshold
        == report.threshold
    )
    assert report.false_positive_rate == wilson_interval(int((normal > report.threshold).sum()), len(normal))
    assert report.detection_rate == wilson_interval(int((anomalies > report.threshold).sum()), len(anomalies))


def test_a_score_equal_to_a_saved_threshold_is_normal():
    report = anomaly_report([1.0, 2.0], [2.0, 3.0], threshold=2.0)
    assert report.false_positive_rate.mean == 0
    assert report.detection_rate.mean == 0.5


def test_text_and_rows_hold_the_numbers():
    normal, anomalies = draw()
    report = anomaly_report(normal, anomalies, validation_scores=draw(1)[0])
    text = str(report)
    assert "300 normal samples, 120 anomalies" in text
    assert f"AUROC: {report.auroc.mean:.4f}, 95 % interval {report.auroc.low:.4f} to {report.auroc.high:.4f}" in text
    rows = {row["Metric"]: row for row in report.rows()}
    assert rows["Detected anomalies"]["Value"] == f"{report.detection_rate.mean:.4f}"
    assert rows["Average precision"]["Note"] == "with 28.6% anomalies"
    assert len(anomaly_report(normal, anomalies).rows()) == 3
    assert "sign" not in text
    assert "sign of the score may be wrong" in str(anomaly_report(anomalies, normal))


def test_worst_cases_are_the_surest_mistakes_first():
    assert worst_cases([0.1, 0.9, 0.5, 0.9], [2.0, 0.2, 0.3], count=2) == ([1, 3], [1, 2])
    assert worst_cases([1.0], [2.0, 1.0]) == ([0], [1, 0])


@pytest.mark.parametrize("options", [{}, {"threshold": 2.0}])
def test_plot_is_a_picture_of_the_stated_size_and_leaves_nothing_else(tmp_path, options):
    anomaly_report(*draw(), **options).plot(tmp_path / "anomaly.png")
    with Image.open(tmp_path / "anomaly.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1200, 600))
    assert [file.name for file in tmp_path.iterdir()] == ["anomaly.png"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: anomaly_report([], [1.0]), "`normal_scores` needs one score a sample and at least one"),
        (lambda: anomaly_report([1.0], [[1.0]]), r"`anomaly_scores` .* got shape \(1, 1\)"),
        (lambda: anomaly_report([1.0, np.nan, np.inf], [1.0]), "holds 2 values that are NaN or infinite"),
        (lambda: anomaly_report([1], [2], threshold=1, validation_scores=[1]), "threshold is 1 .* give one of them"),
        (lambda: anomaly_threshold(range(98), 0.01), "0.01 needs at least 99 normal validation scores, got 98"),
        (lambda: anomaly_threshold([1], 1), "above 0 and below 1, got 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
