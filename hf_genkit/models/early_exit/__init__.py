"""Classifiers with early exits."""

from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from .configuration_early_exit import EarlyExitConfig
from .modeling_early_exit import (
    EarlyExitForImageClassification,
    EarlyExitForSequenceClassification,
    EarlyExitOutput,
)


AutoConfig.register(EarlyExitConfig.model_type, EarlyExitConfig)
AutoModelForImageClassification.register(EarlyExitConfig, EarlyExitForImageClassification)
AutoModelForSequenceClassification.register(EarlyExitConfig, EarlyExitForSequenceClassification)
EarlyExitConfig.register_for_auto_class()
EarlyExitForImageClassification.register_for_auto_class("AutoModelForImageClassification")
EarlyExitForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "EarlyExitConfig",
    "EarlyExitForImageClassification",
    "EarlyExitForSequenceClassification",
    "EarlyExitOutput",
]
