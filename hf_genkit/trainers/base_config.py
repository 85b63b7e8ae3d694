"""Arguments that every trainer of the package shares."""

from dataclasses import dataclass, fields

from transformers import TrainingArguments

from ..arguments import check_range


@dataclass
class GenkitConfig(TrainingArguments):
    """
    [`~transformers.TrainingArguments`] whose ranges are checked when they are parsed, before anything heavy is loaded.

    Raises:
        `ValueError`: A value lies outside its range; the message names both.
    """

    def __post_init__(self):
        for name in (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
        ):
            check_range(self, name, 1)
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
            check_range(self, name, 0)
        if self.max_steps <= 0:
            check_range(self, "num_train_epochs", 0, above=True)
        check_range(self, "label_smoothing_factor", 0, 1)
        super().__post_init__()

    @classmethod
    def method_fields(cls) -> list[str]:
        """The names of the fields that a method adds to [`~transformers.TrainingArguments`]."""
        shared = {f.name for f in fields(TrainingArguments)}
        return [f.name for f in fields(cls) if f.name not in shared]

    def changed(self) -> dict:
        """The arguments that shape the result and differ from their defaults, as plain JSON values."""
        values = self.to_dict()
        names = [*RESULT_FIELDS, *self.method_fields()]
        defaults = {f.name: f.default for f in fields(self)}
        return {name: values[name] for name in names if values[name] != defaults[name]}


# The fields of TrainingArguments that change which weights come out, length of training aside.
RESULT_FIELDS = [
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "bf16",
    "data_seed",
    "fp16",
    "gradient_accumulation_steps",
    "label_smoothing_factor",
    "learning_rate",
    "lr_scheduler_kwargs",
    "lr_scheduler_type",
    "max_grad_norm",
    "optim",
    "optim_args",
    "per_device_train_batch_size",
    "seed",
    "warmup_steps",
    "weight_decay",
]
