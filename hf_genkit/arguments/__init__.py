"""What recipes are told: the parser of command lines and YAML files, argument dataclasses, and checks of values."""

from .checks import check_choice, check_range, nearest, parse_json
from .compression_arguments import CompressionArguments, Link
from .finetuning_arguments import (
    AdaptationArguments,
    FineTuningDataArguments,
    FineTuningModelArguments,
    MergingArguments,
    OptimizerArguments,
)
from .parser import GenkitParser, PlainLoader, recipe_terminal
from .recipe_arguments import (
    AnomalyArguments,
    DataArguments,
    DiffusionModelArguments,
    GenerativeModelArguments,
    NewModelArguments,
    SamplingArguments,
    TeacherStudentArguments,
)
from .search_arguments import SearchArguments
from .transfer_arguments import TransferArguments


__all__ = [
    "AdaptationArguments",
    "AnomalyArguments",
    "CompressionArguments",
    "DataArguments",
    "DiffusionModelArguments",
    "FineTuningDataArguments",
    "FineTuningModelArguments",
    "GenerativeModelArguments",
    "GenkitParser",
    "Link",
    "MergingArguments",
    "NewModelArguments",
    "OptimizerArguments",
    "PlainLoader",
    "SamplingArguments",
    "SearchArguments",
    "TeacherStudentArguments",
    "TransferArguments",
    "check_choice",
    "check_range",
    "nearest",
    "parse_json",
    "recipe_terminal",
]
