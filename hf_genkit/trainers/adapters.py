"""Models that an adapter of peft wraps."""

import sys

from torch import nn


BASE_CONFIG = "base_config.json"
"""The config of the base as it was trained, classes included, beside a saved adapter."""


def is_adapter(model: nn.Module) -> bool:
    """Whether a model is a base with an adapter of peft, which alone is trained and saved then."""
    peft = sys.modules.get("peft")  # without which there are no adapters
    return peft is not None and isinstance(model, peft.PeftModel)


def bare(model: nn.Module) -> nn.Module:
    """The model that an adapter of peft wraps, or the model itself."""
    return model.get_base_model() if is_adapter(model) else model


def count_parameters(model: nn.Module) -> int:
    """How many parameters answer: the base's and the adapter's, without the old head that peft keeps beside a new one."""
    replaced = [p for name, p in model.named_parameters() if ".original_module." in name]
    return bare(model).num_parameters() - sum(parameter.numel() for parameter in replaced)
