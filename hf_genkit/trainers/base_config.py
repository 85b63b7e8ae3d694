"""Arguments that every trainer of the package shares."""

from dataclasses import dataclass, field, fields

import torch
from transformers import TrainingArguments

from ..arguments import check_choice, check_range
from ..hub import LICENSES
from .optimizers import TEXTBOOK_OPTIMIZERS, resolve_optimizer
from .tracking import check_trackers


@dataclass
class GenkitConfig(TrainingArguments):
    """
    [`~transformers.TrainingArguments`] whose ranges are checked when they are parsed, before anything heavy is loaded.

    Args:
        license (`str`, *optional*): License of the trained model, by its id on the Hub, for the model card.
        optim (`str`, *optional*, defaults to AdamW):
            One of transformers' optimizers, or a textbook name: "sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad",
            "adafactor", "adam_8bit", "adamw_8bit".

    Raises:
        `ValueError`: A value lies outside its range; the message names both.
        `ImportError`: A tracker of `report_to` is not installed.
    """

    license: str | None = field(
        default=None, metadata={"help": "License of the trained model for its card, such as apache-2.0."}
    )

    optim: str = field(
        default=TrainingArguments.__dataclass_fields__["optim"].default,
        metadata={"help": f"The optimizer: {', '.join(TEXTBOOK_OPTIMIZERS)}, or one of transformers' OptimizerNames."},
    )

    def __post_init__(self):
        self.optim, self.optim_args = resolve_optimizer(self.optim, self.optim_args, self.weight_decay)
        if self.license is not None:
            check_choice("license", self.license, LICENSES)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            check_range(self, name, 1)
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
            check_range(self, name, 0)
        if self.max_steps <= 0:
            check_range(self, "num_train_epochs", 0, above=True)
        check_range(self, "label_smoothing_factor", 0, 0.999)
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # there is nothing to pin it for, and torch would warn at every loader
        if isinstance(self.resume_from_checkpoint, str) and self.resume_from_checkpoint.lower() in ("true", "false"):
            self.resume_from_checkpoint = self.resume_from_checkpoint.lower() == "true"
        super().__post_init__()
        check_trackers(self.report_to)

    def changed(self) -> dict:
        """The arguments that shape the result and differ from their defaults, as plain JSON values."""
        values = self.to_dict()
        shared = {f.name for f in fields(TrainingArguments)}
        names = [*RESULT_FIELDS, *(f.name for f in fields(self) if f.name not in shared | BOOKKEEPING_FIELDS)]
        defaults = {f.name: f.default for f in fields(self)}
        return {name: values[name] for name in names if values[name] != defaults[name]}


# Fields of our configs that don't change which weights come out.
BOOKKEEPING_FIELDS = {
    "guidance_scale",
    "license",
    "likelihood_samples",
    "num_inference_steps",
    "num_judged_pictures",
    "num_sample_pictures",
    "sampler",
    "teacher_cache",
    "trust_remote_code",
}

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
