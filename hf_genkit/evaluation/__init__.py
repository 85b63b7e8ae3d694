"""Judging models: intervals, efficiency, curves, pictures, stability, anomalies, and models side by side."""

from .anomaly import AnomalyReport, anomaly_report, anomaly_threshold, worst_cases
from .comparison import (
    ACCURACY,
    PERPLEXITY,
    WORD_ERRORS,
    ComparedMetric,
    ComparedModel,
    describe_difference,
    text_table,
)
from .curves import plot_curves
from .efficiency import measure_efficiency
from .features import FeatureExtractor
from .gan_probes import detect_failure, oscillation, sample_diversity, spectral_norms
from .gan_stability import StabilityVerdict, analyze_gan_stability
from .picture_judge import NAMES as METRIC_NAMES
from .picture_judge import PictureJudge
from .picture_metrics import FrechetDistance, KernelDistance, PrecisionRecallDensityCoverage
from .pictures import save_grid, save_reconstructions, save_strips
from .statistics import Interval, mean_interval, paired_difference, ratio_interval, wilson_interval
from .text_metrics import F1, Accuracy, WordErrorRate, word_errors


__all__ = [
    "ACCURACY",
    "F1",
    "METRIC_NAMES",
    "PERPLEXITY",
    "WORD_ERRORS",
    "Accuracy",
    "AnomalyReport",
    "ComparedMetric",
    "ComparedModel",
    "FeatureExtractor",
    "FrechetDistance",
    "Interval",
    "KernelDistance",
    "PictureJudge",
    "PrecisionRecallDensityCoverage",
    "StabilityVerdict",
    "WordErrorRate",
    "analyze_gan_stability",
    "anomaly_report",
    "anomaly_threshold",
    "describe_difference",
    "detect_failure",
    "mean_interval",
    "measure_efficiency",
    "oscillation",
    "paired_difference",
    "plot_curves",
    "ratio_interval",
    "sample_diversity",
    "save_grid",
    "save_reconstructions",
    "save_strips",
    "spectral_norms",
    "text_table",
    "wilson_interval",
    "word_errors",
    "worst_cases",
]
