"""Arguments of [`FineTuningTrainer`]."""

from dataclasses import dataclass, field

from ..arguments import check_range
from .base_config import GenkitConfig


@dataclass
class FineTuningConfig(GenkitConfig):
    """
    Arguments of [`FineTuningTrainer`], on top of those of [`~transformers.TrainingArguments`].

    Args:
        layer_lr_decay (`float`, *optional*, defaults to 1.0):
            Discriminative learning rates ([Howard and Ruder, 2018](https://arxiv.org/abs/1801.06146)): the head learns
            at `learning_rate`, and each layer at this times the rate of the one above it.

    Raises:
        `ValueError`: A value is outside its range; the message names it and what is allowed.
    """

    layer_lr_decay: float = field(
        default=1.0,
        metadata={"help": "Each layer learns at this times the rate of the one above it; 1 for one rate for all."},
    )

    def __post_init__(self):
        check_range(self, "layer_lr_decay", 0, 1, above=True)
        super().__post_init__()
