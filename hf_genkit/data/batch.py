"""A whole batch fetched at once, and the collator that unpacks it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Batch:
    """
    A batch that its data set has already collated. It is deliberately not a `dict`: `Trainer` filters the columns of
    `dict` features and hands anything else to the collator untouched.

    Args:
        inputs (`dict[str, torch.Tensor]`): The model inputs, each with the batch as first dimension.
    """

    inputs: dict[str, torch.Tensor]


class BatchCollator:
    """
    Collator for data sets whose `__getitems__` returns `[Batch]`; any other features go to `fallback`, so that one
    collator serves map-style and streaming data alike.

    Args:
        fallback (`Callable`):
            The collator for a list of ordinary samples, such as `transformers.default_data_collator`.
    """

    def __init__(self, fallback: Callable[[list], dict[str, Any]]):
        self.fallback = fallback

    def __call__(self, features: list) -> dict[str, Any]:
        if isinstance(features[0], Batch):
            return features[0].inputs
        return self.fallback(features)
