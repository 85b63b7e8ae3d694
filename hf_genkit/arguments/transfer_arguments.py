"""The argument dataclass of transfer learning: which backbone, and how much of it is trained."""

from dataclasses import dataclass, field
from typing import Literal

from .checks import check_range, parse_json


@dataclass
class TransferArguments:
    """Which pre-trained model a recipe transfers to another task, in which variants, over which seeds."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Pre-trained model: Hub id or local folder; its head is replaced by a new one."},
    )
    model_revision: str | None = field(default=None, metadata={"help": "Commit, tag or branch of the model."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run modeling code that comes with the model's repo."}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Instead: config of a model to pre-train first on pretraining_classes, as JSON with 'model_type' and "
            "what differs; for images."
        },
    )
    pretraining_classes: list[str] = field(
        default_factory=list,
        metadata={"help": "Names of the classes to pre-train on; it is then transferred to the other classes."},
    )
    pretraining_epochs: float = field(default=20, metadata={"help": "Epochs of that pre-training."})
    pretraining_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of that pre-training."})
    variants: list[str] = field(
        default_factory=lambda: ["first:5", "all", "none", "scratch"],
        metadata={
            "help": "What to compare: first:N (the first N layers frozen), all (frozen: only the head is trained), none "
            "(frozen), scratch (same architecture, random weights)."
        },
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the variant all; default: learning_rate."}
    )
    scratch_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the variant scratch; default: learning_rate."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={
            "help": "Each variant is trained once for each of these seeds, which choose the labelled samples too."
        },
    )

    def __post_init__(self):
        if isinstance(self.model_config, str):
            given = self.model_config
            self.model_config = None if given == "null" else parse_json("model_config", given)
        if (self.model_name_or_path is None) == (self.model_config is None):
            given = "neither" if self.model_config is None else "both"
            raise ValueError(
                f"The model is given by exactly one of `model_name_or_path` and `model_config`; given: {given}. A YAML's "
                "model_config is taken back by --model_config null."
            )
        if self.model_config is None and self.pretraining_classes:
            raise ValueError(
                f"`pretraining_classes` needs `model_config`: '{self.model_name_or_path}' is trained already."
            )
        if self.model_config is not None and not self.pretraining_classes:
            raise ValueError("`model_config` needs `pretraining_classes`: without them there is nothing to transfer.")
        for name in ("pretraining_epochs", "pretraining_learning_rate", "head_learning_rate", "scratch_learning_rate"):
            check_range(self, name, 0, above=True)
        if not self.variants or len(set(self.variants)) != len(self.variants):
            raise ValueError(f"`variants` is {self.variants}, but it must hold one or more different ones.")
        for variant in self.variants:
            frozen_layers(variant)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"`seeds` is {self.seeds}, but it must hold one or more different numbers from 0 on.")

    def pretraining_options(self) -> dict:
        """The options of the pre-training's trainer that differ from those of the others."""
        return {
            "num_train_epochs": self.pretraining_epochs,
            "learning_rate": self.pretraining_learning_rate,
            "max_steps": -1,
        }

    def learning_rate_of(self, variant: str, default: float) -> float:
        """The learning rate of a variant: its own, or the default."""
        own = {"all": self.head_learning_rate, "scratch": self.scratch_learning_rate}
        return own.get(variant) or default


def frozen_layers(variant: str) -> int | Literal["all"] | None:
    """
    How much of the model a variant freezes, as [`~hf_genkit.tuning.freeze_layers`] takes it; `None` for nothing.

    Raises:
        `ValueError`: There is no such variant.
    """
    kind, _, count = variant.partition(":")
    if kind == "first" and count.isdecimal():
        return int(count)
    if variant not in ("all", "none", "scratch"):
        raise ValueError(f"`variants` has '{variant}', but a variant is first:N, all, none or scratch.")
    return "all" if variant == "all" else None
