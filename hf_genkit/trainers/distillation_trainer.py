"""Offline distillation of classification heads: images, texts and tokens."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ..data import ArrayImageDataset
from ..evaluation import measure_efficiency
from ..hub import CardFacts, TeacherFacts, hub_id
from ..losses import DISTILLATION_LOSSES, cross_entropy, label_smoothing_cross_entropy
from .base import GenkitTrainer
from .checkpointing import preserved_rng
from .distillation_config import DistillationConfig
from .inputs import argument_names, student_inputs, with_float_pixels
from .tasks import task_of
from .teacher import Teacher, load_teacher
from .teacher_cache import KeyedCollator, TeacherCache


logger = logging.get_logger(__name__)


class DistillationTrainer(GenkitTrainer):
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
        if teacher_model is None and args.alpha > 0:
            raise ValueError(f"`alpha` is {args.alpha}, which needs a `teacher_model`; without one set alpha to 0.")
        super().__init__(model, args, **kwargs)
        student = self.accelerator.unwrap_model(self.model)
        self.task = task_of(student)
        if student.config.problem_type not in (None, "single_label_classification"):
            raise ValueError(f"The student's problem_type is '{student.config.problem_type}', not single-label.")
        self.soft_loss = DISTILLATION_LOSSES[args.loss_type]
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
        elif isinstance(self.train_dataset, IterableDataset):
            obstacle = "a streamed data set is not read twice"
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
            values["kd_loss"] = self.soft_loss(
                outputs.logits,
                teacher_logits,
                temperature=self.args.temperature,
                labels=labels,
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
        loss = sum(weights[name] * term for name, term in terms.items())
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

    # ---- The teacher ----

    def evaluate_teacher(self, eval_dataset=None) -> dict[str, float]:
        """
        The teacher's accuracy on the evaluation set, and that of always naming its most frequent class.

        Args:
            eval_dataset (*optional*): Defaults to the trainer's (the first one, if it has several).

        Returns:
            `dict[str, float]`: `teacher_accuracy`, `chance` and the number of labelled `items`.
        """
        with preserved_rng():
            hits, per_class = 0, torch.zeros(self.model.config.num_labels)
            for inputs in self._evaluation_dataloader(eval_dataset):
                inputs = dict(self._prepare_inputs(inputs))
                keys = inputs.pop(KeyedCollator.name, None)
                labels = inputs.pop("labels", None)
                if labels is None:
                    continue
                predictions = self.teacher.logits(inputs, keys).argmax(dim=-1)
                gathered = self.accelerator.gather_for_metrics((predictions == labels, labels))
                correct, labels = (part.cpu() for part in gathered)
                hits += correct[labels != -100].sum().item()
                per_class += torch.bincount(labels[labels != -100], minlength=len(per_class))
        items = int(per_class.sum())
        return {
            "teacher_accuracy": hits / max(items, 1),
            "chance": per_class.max().item() / max(items, 1),
            "items": items,
        }

    def measure_efficiency(self, dataset, of_teacher: bool = False) -> dict:
        """
        Parameters, bytes on disk and latency of the student or its teacher, on the first sample of a data set.

        Args:
            dataset: Model inputs, such as the evaluation set.
            of_teacher (`bool`, *optional*, defaults to `False`): Whether to measure the teacher.

        Returns:
            `dict`: What [`~hf_genkit.evaluation.measure_efficiency`] returns.
        """
        batch = self._prepare_inputs(next(iter(self._evaluation_dataloader(dataset))))
        sample = {name: value[:1] for name, value in batch.items() if isinstance(value, torch.Tensor)}
        if of_teacher:
            return measure_efficiency(self.teacher.model, self.teacher.prepare(sample))
        student = self.accelerator.unwrap_model(self.model)
        own_inputs = student_inputs(sample, self.student_arguments)
        return measure_efficiency(student, with_float_pixels(own_inputs, self.image_processor))

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        if facts.teacher is None and self.teacher is not None:
            facts.teacher = TeacherFacts(self.teacher_title, id=hub_id(self.teacher.name))
        facts.method = facts.method or self.method_sentence
        return facts

    @property
    def teacher_title(self) -> str:
        """What people may call the teacher: its id on the Hub, or its class and size."""
        model = self.teacher.model
        if hub_id(self.teacher.name) is not None or not isinstance(model, PreTrainedModel):
            return self.teacher.name or "a function"
        return f"{type(model).__name__} ({model.num_parameters():,} parameters)"

    @property
    def method_sentence(self) -> str:
        """How the student is trained, in one sentence."""
        if self.teacher is None or self.args.alpha == 0:
            return "It was trained on the labels alone."
        return (
            f"The loss was {self.args.alpha:g} times the '{self.args.loss_type}' distillation loss at temperature "
            f"{self.args.temperature:g} plus {1 - self.args.alpha:g} times the cross-entropy with the labels."
        )

    def fill_teacher_cache(self) -> int:
        """
        Runs the teacher over the training and evaluation data, without training.

        Returns:
            `int`: The number of samples in the cache.

        Raises:
            `ValueError`: The trainer has no cache, or the training data changes between two readings.
        """
        if not self.uses_cache:
            raise ValueError(f"There is no cache to fill: `teacher_cache` is '{self.args.teacher_cache}'.")
        self._check_replay()
        datasets = [self.train_dataset, *([] if self.eval_dataset is None else [self.eval_dataset])]
        for dataset in datasets:
            for inputs in self._evaluation_dataloader(dataset):
                inputs = dict(self._prepare_inputs(inputs))
                self.teacher.logits(inputs, inputs.pop(KeyedCollator.name))
        self.accelerator.wait_for_everyone()
        self.teacher.cache.refresh()
        return len(self.teacher.cache)

    def check_before_training(self) -> None:
        if self.uses_cache:
            self._check_replay()
        if self.teacher is not None and self.args.alpha > 0 and self.eval_dataset is not None:
            self._warn_about_chance()

    def _evaluation_dataloader(self, dataset=None) -> DataLoader:
        dataset = self.eval_dataset if dataset is None else dataset
        return self.get_eval_dataloader(next(iter(dataset.values())) if isinstance(dataset, dict) else dataset)

    def _check_replay(self) -> None:
        """Refuses data that change from one reading to the next, for which no cache can be right."""
        with preserved_rng():
            loader = self.get_train_dataloader()
            first, second = (
                next(iter(DataLoader(loader.dataset, batch_size=8, collate_fn=loader.collate_fn))) for _ in range(2)
            )
        if first[KeyedCollator.name] != second[KeyedCollator.name]:
            raise ValueError(
                "The training data set gives other inputs each time it is read (random augmentation), which a teacher "
                "cache can't replay: draw the augmentation from (seed, epoch, index), or set teacher_cache to 'off'."
            )

    def _warn_about_chance(self) -> None:
        found = self.evaluate_teacher()
        if found["items"] == 0:
            return
        chance, accuracy = found["chance"], found["teacher_accuracy"]
        if accuracy <= chance + 2 * (chance * (1 - chance) / found["items"]) ** 0.5:
            logger.warning(
                f"The teacher's accuracy on the evaluation set is {accuracy:.3f}, no better than chance ({chance:.3f} "
                "for always naming the most frequent class): was its head ever trained?"
            )


class RefreshCache(TrainerCallback):
    """Lets each process see what the others added to the cache in the epoch before."""

    def __init__(self, cache: TeacherCache):
        self.cache = cache

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.cache.refresh()


def _augments(dataset) -> bool:
    return isinstance(dataset, ArrayImageDataset) and dataset.augmentation is not None
