"""What recipes are told: the parser of command lines and YAML files, argument dataclasses, and checks of values."""

from .checks import check_choice, check_range, nearest, parse_json, parse_terms
from .commands import recipe_command
from .comparison_arguments import ComparisonArguments, ComparisonOutputArguments
from .compression_arguments import CompressionArguments, Link
from .demo_arguments import DemoArguments
from .distillation_arguments import (
    METHODS,
    PeerArguments,
    SelfTaughtArguments,
    StudentArguments,
    TeacherStudentArguments,
    chosen_method,
)
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
)
from .search_arguments import SearchArguments
from .transfer_arguments import TransferArguments


__all__ = [
    "METHODS",
    "AdaptationArguments",
    "AnomalyArguments",
    "ComparisonArguments",
    "ComparisonOutputArguments",
    "CompressionArguments",
    "DataArguments",
    "DemoArguments",
    "DiffusionModelArguments",
    "FineTuningDataArguments",
    "FineTuningModelArguments",
    "GenerativeModelArguments",
    "GenkitParser",
    "Link",
    "MergingArguments",
    "NewModelArguments",
    "OptimizerArguments",
    "PeerArguments",
    "PlainLoader",
    "SamplingArguments",
    "SearchArguments",
    "SelfTaughtArguments",
    "StudentArguments",
    "TeacherStudentArguments",
    "TransferArguments",
    "check_choice",
    "check_range",
    "chosen_method",
    "nearest",
    "parse_json",
    "parse_terms",
    "recipe_command",
    "recipe_terminal",
]
