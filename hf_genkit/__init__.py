"""
hf_genkit: train, shrink, adapt, judge and share models on the Hugging Face stack.

The names below are imported when they are first used, so that `import hf_genkit` stays quick.
"""

import importlib
from typing import TYPE_CHECKING


__version__ = "0.1.0"

_MODULE_OF = {
    "DataArguments": "arguments",
    "TeacherStudentArguments": "arguments",
    "GenkitParser": "arguments",
    "DistillationConfig": "trainers.distillation_config",
    "DistillationTrainer": "trainers.distillation_trainer",
    "student_from_teacher": "compress.layer_dropping",
}

__all__ = [
    "DataArguments",
    "DistillationConfig",
    "DistillationTrainer",
    "GenkitParser",
    "TeacherStudentArguments",
    "__version__",
    "student_from_teacher",
]

if TYPE_CHECKING:
    from .arguments import DataArguments, GenkitParser, TeacherStudentArguments
    from .compress.layer_dropping import student_from_teacher
    from .trainers.distillation_config import DistillationConfig
    from .trainers.distillation_trainer import DistillationTrainer


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hf_genkit' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
