"""Judging models: intervals, efficiency, curves, and models side by side."""

from .comparison import ComparedModel, describe_difference, text_table
from .curves import plot_curves
from .efficiency import measure_efficiency
from .statistics import Interval, mean_interval, paired_difference, wilson_interval


__all__ = [
    "ComparedModel",
    "Interval",
    "describe_difference",
    "mean_interval",
    "measure_efficiency",
    "paired_difference",
    "plot_curves",
    "text_table",
    "wilson_interval",
]
