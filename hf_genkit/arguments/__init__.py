"""What recipes are told: the parser of command lines and YAML files, argument dataclasses, and checks of values."""

from .checks import check_choice, check_range, nearest, parse_json
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


__all__ = [
    "AnomalyArguments",
    "DataArguments",
    "DiffusionModelArguments",
    "GenerativeModelArguments",
    "GenkitParser",
    "NewModelArguments",
    "PlainLoader",
    "SamplingArguments",
    "TeacherStudentArguments",
    "check_choice",
    "check_range",
    "nearest",
    "parse_json",
    "recipe_terminal",
]
