"""Offline distillation of classification heads: images, texts and tokens."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ..data import ArrayImageDataset
from ..losses import DISTILLATION_LOSSES, cross_entropy, label_smoothing_cross_entropy
from .base import GenkitTrainer
from .distillation_config import DistillationConfig
from .inputs import argument_names, student_inputs, with_float_pixels
from .tasks import AUTO_CLASSES, CLASSIFICATION, task_of
from .teacher import Teacher, load_teacher
from .teacher_cache import KeyedCollator
from .teaching import RefreshCache, TeachingMixin


logger = logging.get_logger(__name__)


class DistillationTrainer(TeachingMixin, GenkitTrainer):
    r"""
    Trains a student on `alpha * soft + (1 - alpha) * hard`: a teacher's softened logits and the data's labels.

    Each term is a mean over its own items (labelled ones for the hard term, all for the soft one) of the whole
    optimizer step, so gradients don't depend on gradient accumulation or the number of processes. Labels of -100 mean
    unlabelled: such a sample teaches through the soft term alone. For token classification the soft term covers the
    labelled positions of a sequence, or all attended ones if it has no label.

    The log has `kd_loss` and `ce_loss`; evaluation adds `eval_accuracy`, `eval_ce_loss`, `eval_kd_loss` and
    `eval_teacher_agreement`.

    Args:
        model (`PreTrainedModel`):
            The student, with a head for image, sequence or token classification.
        teacher_model (`str`, `PreTrainedModel` or `Callable`, *optional*):
            Hub id, local folder or model; or a function that is called like a model, with the batch's inputs as
            keywords, and returns logits `[batch, (tokens,) classes]`. Not needed if `alpha` is 0.
        args ([`DistillationConfig`], *optional*): The arguments.
        processing_class (*optional*): The student's image processor or tokenizer.
        teacher_processing_class (`BaseImageProcessor`, *optional*):
            The teacher's image processor, where it differs from the student's: uint8 pixels are resized and
            normalised for each of the two. Read from the teacher's repo if the teacher is given by name.
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: `alpha` is above 0 and there is no teacher, the label sets differ, or the cache can't be used
            with this data or teacher.

    Example:

    ```python
    >>> trainer = DistillationTrainer(
    ...     model=student,
    ...     teacher_model="me/my-teacher",
    ...     args=DistillationConfig("student", temperature=4.0, alpha=0.5),
    ...     train_dataset=train,
    ...     eval_dataset=validation,
    ...     processing_class=processor,
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "distillation")

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        teacher_model: str | PreTrainedModel | Callable | None = None,
        args: DistillationConfig | None = None,
        *,
        teacher_processing_class: BaseImageProcessor | None = None,
        **kwargs,
    ):
        args = args or DistillationConfig("distillation_output")
        if not isinstance(args, DistillationConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a DistillationConfig.")
        if teacher_model is None and args.alpha > 0:
            raise ValueError(f"`alpha` is {args.alpha}, which needs a `teacher_model`; without one set alpha to 0.")
        if teacher_model is not None and teacher_model is model:
            raise ValueError(
                "The teacher is the student itself: a frozen copy is needed, such as copy.deepcopy(model)."
            )
        super().__init__(model, args, **kwargs)
        student = self.accelerator.unwrap_model(self.model)
        self.task = task_of(student, CLASSIFICATION)
        self.auto_class = AUTO_CLASSES[self.task].__name__
        if student.config.problem_type not in (None, "single_label_classification"):
            raise ValueError(f"The student's problem_type is '{student.config.problem_type}', not single-label.")
        if student.config.num_labels < 2:
            raise ValueError(
                f"The student's num_labels is {student.config.num_labels}, but it takes at least 2 classes."
            )
        self.student_arguments = argument_names(student.forward)
        self.teacher: Teacher | None = None
        if teacher_model is not None:
            self.teacher = self._make_teacher(student, teacher_model, teacher_processing_class)
        if self.uses_cache:
            self.data_collator = KeyedCollator(self.data_collator, self.teacher.argument_names)
            self.add_callback(RefreshCache(self.teacher.cache))

    def _make_teacher(self, student, model, processor) -> Teacher:
        name = model if isinstance(model, str) else None
        if isinstance(model, str):
            model, own_processor = load_teacher(
                model,
                self.task,
                revision=self.args.teacher_revision,
                dtype=self.args.teacher_dtype,
                quantization=self.args.teacher_quantization,
                trust_remote_code=self.args.trust_remote_code,
            )
            processor = processor or own_processor
        return Teacher(
            model,
            student,
            self.accelerator,
            processor or self.processing_class,
            name=name,
            cache_path=self._cache_path(model),
            per_token=self.task == "token-classification",
        )

    def _cache_path(self, teacher) -> str | None:
        """Where the teacher's logits go; "auto" does without a cache where it could not serve twice."""
        path = self.args.teacher_cache
        obstacle = None
        if not isinstance(teacher, torch.nn.Module):
            obstacle = "a teacher that is a function has no weights to tell it from others"
        elif any(isinstance(dataset, IterableDataset) for dataset in self.all_datasets()):
            obstacle = "a streamed data set can't be looked up"
        if path == "off" or (path == "auto" and (obstacle or _augments(self.train_dataset))):
            return None
        if obstacle:
            raise ValueError(f"`teacher_cache` is '{path}', but {obstacle}: set it to 'off'.")
        return str(Path(self.args.output_dir, "teacher_cache")) if path == "auto" else path

    @property
    def uses_cache(self) -> bool:
        return self.teacher is not None and self.teacher.cache is not None

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            names = self.teacher.argument_names if self.teacher is not None else set()
            self._signature_columns += [*names, *(f"teacher_{name}" for name in names)]

    # ---- The loss ----

    def item_masks(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Which items the soft and the hard term cover.

        Args:
            inputs (`Mapping[str, torch.Tensor]`): A batch with or without `labels`.

        Returns:
            `tuple[torch.Tensor, torch.Tensor | None]`: Boolean masks `[batch]`, or `[batch, tokens]` for token
            classification; the second is `None` without labels.
        """
        labels = inputs.get("labels")
        hard = None if labels is None else labels != -100
        if self.task != "token-classification":
            main = inputs[self.model.main_input_name]
            return torch.ones(len(main), dtype=torch.bool, device=main.device), hard
        attended = inputs["attention_mask"].bool()
        if hard is None:
            return attended, None
        return torch.where(hard.any(dim=-1, keepdim=True), hard, attended), hard

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        soft, hard = self.item_masks(inputs)
        return {"kd_loss": soft.sum(), "ce_loss": torch.zeros_like(soft.sum()) if hard is None else hard.sum()}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        keys = inputs.pop(KeyedCollator.name, None)
        soft, hard = self.item_masks(inputs)
        labels = inputs.pop("labels", None)
        own_inputs = student_inputs(inputs, self.student_arguments)
        outputs = model(**with_float_pixels(own_inputs, self.image_processor))
        weights = self._loss_weights(evaluating=not model.training)
        values, teacher_logits = {}, None
        if "kd_loss" in weights:
            teacher_logits = self.teacher.logits(inputs, keys)
            values["kd_loss"] = DISTILLATION_LOSSES[self.args.loss_type](
                outputs.logits,
                teacher_logits,
                temperature=self.args.temperature,
                labels=torch.full(soft.shape, -100, device=soft.device) if labels is None else labels,
                mask=soft,
                **(self.args.loss_kwargs or {}),
            )
        if "ce_loss" in weights and labels is not None:
            smoothing = self.args.label_smoothing_factor
            values["ce_loss"] = (
                label_smoothing_cross_entropy(outputs.logits, labels, smoothing)
                if smoothing > 0
                else cross_entropy(outputs.logits, labels)
            )
        counts = num_items_in_batch or {"kd_loss": soft.sum(), "ce_loss": 1 if hard is None else hard.sum().clamp(1)}
        terms = {name: value.sum() / counts[name] for name, value in values.items()}
        if model.training and not terms:
            raise ValueError("`alpha` is 0 and the training data have no labels, so there is nothing to learn from.")
        loss = sum((weights[name] * term for name, term in terms.items()), outputs.logits.new_zeros(()))
        if model.training:
            self.record(terms)
        else:
            self._record_predictions(outputs.logits, teacher_logits, labels, values, soft, hard)
        return (loss, outputs) if return_outputs else loss

    def _loss_weights(self, evaluating: bool) -> dict[str, float]:
        """The terms to compute: in training those that count, in evaluation all that can be had."""
        weights = {"kd_loss": self.args.alpha, "ce_loss": 1 - self.args.alpha}
        if self.teacher is None:
            del weights["kd_loss"]
        return weights if evaluating else {name: weight for name, weight in weights.items() if weight > 0}

    def _record_predictions(self, logits, teacher_logits, labels, values, soft, hard) -> None:
        masks = {"kd_loss": soft, "teacher_agreement": soft, "ce_loss": hard, "accuracy": hard}
        predictions = logits.argmax(dim=-1)
        if teacher_logits is not None:
            values["teacher_agreement"] = (predictions == teacher_logits.argmax(dim=-1)) & soft
        if labels is not None:
            values["accuracy"] = (predictions == labels) & hard
        batch = len(logits)
        self.record_evaluation(
            {
                name: (value.reshape(batch, -1).float().sum(1), masks[name].reshape(batch, -1).sum(1))
                for name, value in values.items()
            }
        )

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        weights = self._loss_weights(evaluating=True)
        present = [name for name in weights if name in means]
        return sum(weights[name] * means[name] for name in present) if present else None


def _augments(dataset) -> bool:
    return isinstance(dataset, ArrayImageDataset) and dataset.augmentation is not None
