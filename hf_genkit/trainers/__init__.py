"""Trainers, their arguments, and what they stand on."""

from .checkpointing import last_whole_checkpoint
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationTrainer
from .report import ComparisonReport


__all__ = ["ComparisonReport", "DistillationConfig", "DistillationTrainer", "last_whole_checkpoint"]
