"""Judging a score of anomaly, such as a VAE's: how well it ranks, and what a threshold on it does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from .curves import COLORS
from .figures import save_figure
from .statistics import Interval, wilson_interval


@dataclass
class AnomalyReport:
    """
    What [`anomaly_report`] measured. `str()` gives it as text.

    Args:
        auroc (`Interval`): Probability that an anomaly scores above a normal sample (ties count half).
        average_precision (`float`): Area under precision against recall, for the share of anomalies in this test.
        fpr_at_95_tpr (`float`): Share of normal samples flagged by the threshold that finds 95 % of the anomalies.
        threshold (`float`, *optional*): Scores above it count as anomalies.
        false_positive_rate (`Interval`, *optional*): Share of normal samples above the threshold.
        detection_rate (`Interval`, *optional*): Share of anomalies above the threshold.
        normal_scores (`numpy.ndarray`): The scores of normal samples.
        anomaly_scores (`numpy.ndarray`): The scores of anomalies.
    """

    auroc: Interval
    average_precision: float
    fpr_at_95_tpr: float
    threshold: float | None
    false_positive_rate: Interval | None
    detection_rate: Interval | None
    normal_scores: np.ndarray = field(repr=False)
    anomaly_scores: np.ndarray = field(repr=False)

    def rows(self) -> list[dict[str, str]]:
        """The report as rows of a table, for a terminal ([`text_table`]) or a card."""
        share = len(self.anomaly_scores) / (len(self.normal_scores) + len(self.anomaly_scores))
        rows = [
            _row("AUROC", f"{self.auroc.mean:.4f}", self.auroc, "anomaly above normal"),
            _row("Average precision", f"{self.average_precision:.4f}", None, f"with {share:.1%} anomalies"),
            _row("False positives at 95 % detection", f"{self.fpr_at_95_tpr:.4f}", None, "threshold from the test"),
        ]
        if self.threshold is not None:
            note = f"score above {self.threshold:.6g}"
            rows += [
                _row("False positives", f"{self.false_positive_rate.mean:.4f}", self.false_positive_rate, note),
                _row("Detected anomalies", f"{self.detection_rate.mean:.4f}", self.detection_rate, note),
            ]
        return rows

    def __str__(self) -> str:
        counts = f"{len(self.normal_scores):,} normal samples, {len(self.anomaly_scores):,} anomalies"
        lines = [f"  {row['Metric']}: {_with_interval(row)} ({row['Note']})" for row in self.rows()]
        if self.auroc.mean < 0.5:
            lines.append("  Anomalies score lower than normal samples: the sign of the score may be wrong.")
        return "\n".join([f"Anomaly detection on {counts}", *lines])

    def plot(self, path: str | Path) -> None:
        """
        Draws how the scores of normal samples and of anomalies are distributed, with the threshold.

        Args:
            path (`str` or `Path`): The picture to write, such as anomaly.png; it appears when it is complete.
        """
        import matplotlib.style
        from matplotlib.figure import Figure

        with matplotlib.style.context("default"):
            figure = Figure(figsize=(8, 4), dpi=150, layout="constrained")
            axes = figure.subplots()
            groups = {"normal": self.normal_scores, "anomalies": self.anomaly_scores}
            bins = np.histogram_bin_edges(np.concatenate(list(groups.values())), 60)
            for color, (name, scores) in zip(COLORS, groups.items(), strict=False):
                weights = np.full(len(scores), 1 / len(scores))
                label = f"{name} ({len(scores):,})"
                axes.hist(scores, bins, weights=weights, color=color, alpha=0.55, label=label)
            if self.threshold is not None:
                axes.axvline(self.threshold, color="0.2", linestyle="--", label=f"threshold ({self.threshold:.4g})")
            axes.set_title(f"AUROC {self.auroc.mean:.3f}")
            axes.set_xlabel("anomaly score")
            axes.set_ylabel("share of the group")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend()
            save_figure(figure, path)


def anomaly_report(
    normal_scores: Sequence[float],
    anomaly_scores: Sequence[float],
    *,
    validation_scores: Sequence[float] | None = None,
    target_fpr: float = 0.01,
    threshold: float | None = None,
) -> AnomalyReport:
    """
    Judges a score that should be higher for anomalies than for normal samples.

    The threshold comes from normal validation samples alone: anomalies to come are unknown, and a threshold chosen on
    the test flatters itself. Without `validation_scores` and `threshold` the report has no rates at a threshold.

    Args:
        normal_scores (sequence of `float`):
            Scores of normal test samples.
        anomaly_scores (sequence of `float`):
            Scores of anomalous test samples.
        validation_scores (sequence of `float`, *optional*):
            Scores of other normal samples, to choose the threshold with [`anomaly_threshold`].
        target_fpr (`float`, *optional*, defaults to 0.01):
            Share of normal samples that this threshold may flag.
        threshold (`float`, *optional*):
            A threshold to judge instead, such as the one saved with the model.

    Returns:
        [`AnomalyReport`], with 95 % intervals: of the AUROC by
        [DeLong et al. (1988)](https://doi.org/10.2307/2531595) on the logit scale, of the rates Wilson's.

    Raises:
        `ValueError`: if scores are missing or not finite, or both a threshold and validation scores are given.
    """
    normal, anomalies = _scores("normal_scores", normal_scores), _scores("anomaly_scores", anomaly_scores)
    if validation_scores is not None:
        if threshold is not None:
            raise ValueError(
                f"The threshold is {threshold} and `validation_scores` would choose one: give one of them."
            )
        threshold = anomaly_threshold(validation_scores, target_fpr)
    labels = np.repeat([0, 1], [len(normal), len(anomalies)])
    scores = np.concatenate([normal, anomalies])
    # The highest threshold that keeps 95 % of the anomalies at or above it, in whole samples.
    keeps_95 = np.sort(anomalies)[len(anomalies) * 5 // 100]
    rates = [None, None] if threshold is None else [_share_above(group, threshold) for group in (normal, anomalies)]
    return AnomalyReport(
        auroc=_auroc_interval(normal, anomalies, float(roc_auc_score(labels, scores))),
        average_precision=float(average_precision_score(labels, scores)),
        fpr_at_95_tpr=float(np.mean(normal >= keeps_95)),
        threshold=threshold,
        false_positive_rate=rates[0],
        detection_rate=rates[1],
        normal_scores=normal,
        anomaly_scores=anomalies,
    )


def anomaly_threshold(validation_scores: Sequence[float], target_fpr: float = 0.01) -> float:
    """
    The lowest threshold that at most a given share of normal samples to come is expected to exceed.

    It is the conformal quantile: of `n` scores the `ceil((n + 1) * (1 - target_fpr))`-th smallest. A new normal sample
    is equally likely to fall anywhere among the `n`, so this holds for any distribution and any `n`, which the plain
    quantile does not.

    Args:
        validation_scores (sequence of `float`):
            Scores of normal samples that neither trained the model nor test it.
        target_fpr (`float`, *optional*, defaults to 0.01):
            The share, above 0 and below 1.

    Returns:
        `float`: Scores above it count as anomalies.

    Raises:
        `ValueError`: if `target_fpr` is out of range or there are too few scores for it.
    """
    if not 0 < target_fpr < 1:
        raise ValueError(f"target_fpr must be above 0 and below 1, got {target_fpr}.")
    scores = np.sort(_scores("validation_scores", validation_scores))
    # 1e-9 forgives the rounding of products such as 1000 * (1 - 0.18).
    rank = math.ceil((len(scores) + 1) * (1 - target_fpr) - 1e-9)
    if rank > len(scores):
        needed = math.ceil(1 / target_fpr - 1e-9) - 1
        raise ValueError(
            f"A false-positive rate of {target_fpr} needs at least {needed} normal validation scores, got {len(scores)}."
        )
    return float(scores[rank - 1])


def worst_cases(
    normal_scores: Sequence[float], anomaly_scores: Sequence[float], count: int = 8
) -> tuple[list[int], list[int]]:
    """
    The samples that the score gets most wrong, for a picture of them.

    Args:
        normal_scores (sequence of `float`): Scores of normal samples.
        anomaly_scores (sequence of `float`): Scores of anomalies.
        count (`int`, *optional*, defaults to 8): How many of each, at most.

    Returns:
        `tuple[list[int], list[int]]`: Indices of the normal samples with the highest scores and of the anomalies with
        the lowest, the worst first.
    """
    normal, anomalies = _scores("normal_scores", normal_scores), _scores("anomaly_scores", anomaly_scores)
    return (
        np.argsort(-normal, kind="stable")[:count].tolist(),
        np.argsort(anomalies, kind="stable")[:count].tolist(),
    )


def _scores(name: str, scores: Sequence[float]) -> np.ndarray:
    array = np.asarray(scores, dtype=float)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"`{name}` needs one score a sample and at least one, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` holds {np.sum(~np.isfinite(array))} values that are NaN or infinite.")
    return array


def _share_above(scores: np.ndarray, threshold: float) -> Interval:
    return wilson_interval(int(np.sum(scores > threshold)), len(scores))


def _auroc_interval(normal: np.ndarray, anomalies: np.ndarray, auroc: float) -> Interval:
    """DeLong's variance from ranks; the logit scale keeps the interval inside [0, 1]."""
    m, n = len(normal), len(anomalies)
    ranks = rankdata(np.concatenate([normal, anomalies]))
    normals_below = (ranks[m:] - rankdata(anomalies)) / m
    anomalies_above = 1 - (ranks[:m] - rankdata(normal)) / n
    if min(m, n) == 1 or auroc in (0, 1) or np.ptp(normals_below) == np.ptp(anomalies_above) == 0:
        # No spread to estimate a variance from. There are min(m, n) pairs without a common sample: a cautious number.
        pairs = min(m, n)
        around = wilson_interval(round(auroc * pairs), pairs)
        return Interval(auroc, around.low, around.high, m + n)
    deviation = math.sqrt(np.var(normals_below, ddof=1) / n + np.var(anomalies_above, ddof=1) / m)
    half_width = NormalDist().inv_cdf(0.975) * deviation / (auroc * (1 - auroc))
    return Interval(auroc, *(float(expit(logit(auroc) + side)) for side in (-half_width, half_width)), m + n)


def _row(metric: str, value: str, interval: Interval | None, note: str) -> dict[str, str]:
    text = f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""
    return {"Metric": metric, "Value": value, "95 % interval": text, "Note": note}


def _with_interval(row: dict[str, str]) -> str:
    return f"{row['Value']}, 95 % interval {row['95 % interval']}" if row["95 % interval"] else row["Value"]
