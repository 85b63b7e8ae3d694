"""Adapting trained models with few weights, and searching hyperparameters."""

from ..trainers.layers import layer_learning_rates, layers_of, parameter_depths
from .adapters import load_adapter, merge_adapters
from .cost import TrainingCost, training_cost
from .fine_tuning import FineTuning
from .freezing import FrozenModel, GradualUnfreezing, freeze_layers
from .lora import add_lora, load_lora
from .search import Search
from .search_report import write_report
from .search_space import SearchSpace
from .trial_process import Recipe, check_single_process, recipe_script


__all__ = [
    "FineTuning",
    "FrozenModel",
    "GradualUnfreezing",
    "Recipe",
    "Search",
    "SearchSpace",
    "TrainingCost",
    "add_lora",
    "check_single_process",
    "freeze_layers",
    "layer_learning_rates",
    "layers_of",
    "load_adapter",
    "load_lora",
    "merge_adapters",
    "parameter_depths",
    "recipe_script",
    "training_cost",
    "write_report",
]
