"""Arguments that all kinds of distillation share: how soft targets and hard labels make up the loss."""

import inspect
from dataclasses import dataclass, field

import torch

from ..arguments import check_choice, check_range, nearest, parse_json
from ..losses import DISTILLATION_LOSSES
from .base_config import GenkitConfig


SHARED_LOSS_ARGUMENTS = ("student_logits", "teacher_logits", "temperature", "labels", "mask")


def loss_knobs(loss_type: str) -> list[str]:
    """The names of the arguments that a distillation loss takes beside those that all of them share."""
    parameters = inspect.signature(DISTILLATION_LOSSES[loss_type]).parameters
    return [name for name in parameters if name not in SHARED_LOSS_ARGUMENTS]


@dataclass
class SoftTargetConfig(GenkitConfig):
    """
    Arguments of every trainer that learns from soft targets, on top of those of [`~transformers.TrainingArguments`].

    The loss is `alpha * soft + (1 - alpha) * hard`. `label_smoothing_factor` smooths the hard labels.

    Args:
        alpha (`float`, *optional*, defaults to 0.5): Weight of the soft targets, between 0 and 1.
        temperature (`float`, *optional*, defaults to 4.0):
            Divides the logits of both sides in the soft loss; above 0. Softened losses are multiplied by its square, so
            gradients keep their size.
        loss_type (`str`, *optional*, defaults to `"kl"`): A key of `hf_genkit.losses.DISTILLATION_LOSSES`.
        loss_kwargs (`dict` or `str`, *optional*): Numbers for that loss's knobs, such as `{"beta": 0.1}` for "jsd".

    Raises:
        `ValueError`: A value is outside its range; the message names it and what is allowed.
    """

    alpha: float = field(
        default=0.5, metadata={"help": "Weight of the soft targets; 1 - alpha goes to the hard labels."}
    )
    temperature: float = field(
        default=4.0, metadata={"help": "Softens the logits of both sides; losses are multiplied by its square."}
    )
    loss_type: str = field(
        default="kl", metadata={"help": f"Loss on the soft targets: {', '.join(DISTILLATION_LOSSES)}."}
    )
    loss_kwargs: dict | str | None = field(
        default=None, metadata={"help": "Knobs of the loss as JSON, such as '{\"beta\": 0.1}' for jsd."}
    )

    def __post_init__(self):
        check_range(self, "alpha", 0, 1)
        check_range(self, "temperature", 0, above=True)
        check_choice("loss_type", self.loss_type, list(DISTILLATION_LOSSES))
        if isinstance(self.loss_kwargs, str):
            self.loss_kwargs = parse_json("loss_kwargs", self.loss_kwargs)
        self._check_loss_kwargs(self.loss_kwargs or {})
        super().__post_init__()

    def _check_loss_kwargs(self, knobs: dict) -> None:
        """Refuses knobs that the loss lacks or that are no numbers; a trial on two items lets it check its ranges."""
        known = loss_knobs(self.loss_type)
        for name, value in knobs.items():
            if name not in known:
                raise ValueError(
                    f"`loss_kwargs` holds '{name}', but '{self.loss_type}' takes "
                    f"{', '.join(known) or 'none'}{nearest(name, known)}."
                )
            if not isinstance(value, (int, float)):
                raise ValueError(f"`loss_kwargs` sets '{name}' to {value!r}, but it must be a number.")
        logits, labels = torch.zeros(2, 2), torch.arange(2)
        DISTILLATION_LOSSES[self.loss_type](logits, logits, temperature=self.temperature, labels=labels, **knobs)

    def soft_loss(self, student_logits: torch.Tensor, teacher_logits: torch.Tensor, **options) -> torch.Tensor:
        """The loss on soft targets that these arguments choose: one value an item, see `hf_genkit.losses.distillation`."""
        loss = DISTILLATION_LOSSES[self.loss_type]
        return loss(
            student_logits, teacher_logits, temperature=self.temperature, **options, **(self.loss_kwargs or {})
        )
