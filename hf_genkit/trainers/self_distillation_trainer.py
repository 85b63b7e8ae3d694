"""Self-distillation: a student that is taught by itself, as it was, as it is deeper down, or as it is without its adapter."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from . import checkpointing
from .adapters import is_adapter
from .born_again import BornAgainMixin
from .deep_supervision import DeepSupervisionMixin
from .distillation_trainer import DistillationTrainer
from .self_distillation_config import SelfDistillationConfig
from .self_teachers import AverageWeights, adapter_off


AVERAGE = "training_weights_average"

TITLES = {
    "ema": "a moving average of its own weights",
    "adapter_off": "its own base, without the adapter",
    "deep_supervision": "its own last layer",
    "born_again": "the generation before it",
}


class SelfDistillationTrainer(BornAgainMixin, DeepSupervisionMixin, DistillationTrainer):
    r"""
    A [`DistillationTrainer`] without another model as its teacher; `args.self_teacher` says what teaches:

    - `"ema"`: the moving average of the student's weights and buffers, in evaluation mode, moved on after each optimizer
      step ([Tarvainen and Valpola, 2017](https://huggingface.co/papers/1703.01780)). It is in every checkpoint, and in no
      export unless `export_ema` lets the student become it.
    - `"adapter_off"`: the base of a model with an adapter of peft, by switching the adapter off: no second copy of the
      weights. Of a causal language model this keeps the student near to what the base knew. Of a classifier the base has
      the head that it was loaded with: one that was trained on these classes is worth learning from, a new one with random
      weights is not, and a warning tells of it where there is an evaluation set.
    - `"deep_supervision"`: the last layer of a model with early exits, such as [`EarlyExitForImageClassification`], teaches
      the exits; see [`DeepSupervisionMixin`] for the terms. Evaluation adds `eval_exit_0_accuracy` and so on.
    - `"born_again"`: the model is trained on the labels alone, then anew from fresh weights on labels and on what the
      generation before says, `args.generations` times; see [`BornAgainMixin`].

    Args:
        model (`PreTrainedModel` or `PeftModel`): The student.
        args ([`SelfDistillationConfig`], *optional*): The arguments.
        model_init (`Callable`, *optional*): Makes a fresh student, for "born_again".
        kwargs: As for [`DistillationTrainer`], without those of a teacher.

    Raises:
        `ValueError`: The model can't be its own teacher in this way: it has no adapter, no early exits, half-precision
            weights to average, or no `model_init`.

    Example:

    ```python
    >>> trainer = SelfDistillationTrainer(
    ...     model,
    ...     SelfDistillationConfig("student", self_teacher="ema", ema_decay=0.99),
    ...     train_dataset=train,
    ...     eval_dataset=validation,
    ...     processing_class=processor,
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "self-distillation")
    config_class = SelfDistillationConfig

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        args: SelfDistillationConfig | None = None,
        *,
        model_init: Callable[[], PreTrainedModel] | None = None,
        **kwargs,
    ):
        self.given = kwargs
        super().__init__(model, None, args, model_init=model_init, **kwargs)

    def check_teachers(self, model, teachers, args) -> None:
        """The student is its own teacher, so that there is none to refuse."""

    def _prepare_terms(self) -> None:
        kind, model = self.args.self_teacher, self.accelerator.unwrap_model(self.model)
        if kind == "ema":
            self._check_averaging(model)
            self.teachers = [self._make_teacher(copy.deepcopy(model), None)]
            self.add_callback(AverageWeights(self))
        elif kind == "adapter_off":
            if not is_adapter(model):
                raise ValueError(
                    f"`self_teacher` is 'adapter_off', but {type(model).__name__} has no adapter to switch off: add one with "
                    "add_lora(model)."
                )
            self.teachers = [self._make_teacher(self.base_outputs, None)]
            self.teacher.argument_names = self.student_arguments
        elif kind == "deep_supervision":
            self.check_exits()
        else:
            self.check_generations()
        super()._prepare_terms()

    def _cache_path(self, teacher) -> None:
        """There is no cache of a teacher that changes, or that is the student itself."""

    def _check_averaging(self, model: PreTrainedModel) -> None:
        half = [name for name, p in model.named_parameters() if p.dtype in (torch.float16, torch.bfloat16)]
        if half:
            raise ValueError(
                f"`self_teacher` is 'ema', but {half[0]} is in half precision, in which small steps of an average are lost: "
                "load the model in float32 and set bf16."
            )
        if self._has_sharded_state:
            raise ValueError("`self_teacher` is 'ema', but weights that FSDP or DeepSpeed shard can't be averaged.")

    def base_outputs(self, **inputs) -> ModelOutput:
        """What the base under the adapter says; a call of a model in all but name."""
        model = self.accelerator.unwrap_model(self.model)
        with adapter_off(model):
            return model(**inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.args.self_teacher == "deep_supervision":
            return self.exit_loss(model, inputs, return_outputs, num_items_in_batch)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def loss_weights(self, evaluating: bool) -> dict[str, float]:
        if self.args.self_teacher == "deep_supervision":
            return self.exit_weights(evaluating)
        return super().loss_weights(evaluating)

    # ---- The average, from one checkpoint to the next ----

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.self_teacher == "ema" and self.is_in_train:
            state = self.teacher.model.state_dict()
            checkpointing.save_state(output_dir or self.args.output_dir, AVERAGE, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_average(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_average(self.state.best_model_checkpoint)

    def _load_average(self, checkpoint: str) -> None:
        if self.args.self_teacher == "ema":
            if not Path(checkpoint, f"{AVERAGE}.json").is_file():
                raise ValueError(f"The checkpoint '{checkpoint}' holds no average of the weights to go on with.")
            self.teacher.model.load_state_dict(checkpointing.load_state(checkpoint, AVERAGE))

    # ---- What is said of the run ----

    def _warn_about_chance(self) -> None:
        if self.args.self_teacher == "adapter_off":  # an average starts as the student does
            super()._warn_about_chance()

    @property
    def teacher_title(self) -> str:
        return TITLES[self.args.self_teacher]

    @property
    def method_sentence(self) -> str:
        args = self.args
        if args.self_teacher == "deep_supervision":
            hint = f", and {args.feature_hint:g} times the distance of its features from that layer's"
            return (
                f"It has early exits behind the layers {', '.join(map(str, self.student.config.exits))}. The loss was the "
                f"cross-entropy of the last layer plus, for each exit, {1 - args.alpha:g} times its cross-entropy and "
                f"{args.alpha:g} times its '{args.loss_type}' distillation loss from the last layer at temperature "
                f"{args.temperature:g}{hint if args.feature_hint else ''}."
            )
        if args.self_teacher == "born_again":
            return (
                f"It is generation {self.generation}, counted from 0, of {args.generations}: the first one learned from the "
                f"labels alone, each next one from fresh weights on {1 - args.alpha:g} times the cross-entropy with the labels "
                f"plus {args.alpha:g} times the '{args.loss_type}' distillation loss from the one before at temperature "
                f"{args.temperature:g}."
            )
        sentence = super().method_sentence
        if args.self_teacher == "ema":
            kept = "The published weights are that average." if args.export_ema else "The average is not published."
            sentence += f" The teacher was a moving average of the weights (decay {args.ema_decay:g}). {kept}"
        elif args.self_teacher == "adapter_off":
            sentence += (
                " The teacher was the base with the adapter switched off, without a second copy of the weights."
            )
        return sentence
