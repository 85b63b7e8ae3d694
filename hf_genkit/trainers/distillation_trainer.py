"""Offline distillation: one teacher or several that never change, for every kind of head."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput

from ..losses import ctc_loss, label_smoothing_cross_entropy
from ..losses.fused_head import fused_distillation
from ..losses.top_k import TopKTargets, top_k_divergence
from .adapter_saving import AdapterMixin
from .adapters import bare
from .base import GenkitTrainer
from .checkpointing import preserved_rng
from .distillation_config import DistillationConfig
from .ensemble import ensemble_logits, teacher_shares
from .feature_terms import FeatureTermsMixin
from .heads import bypassed_head, can_fuse, head_of
from .inputs import argument_names, student_inputs, with_float_pixels
from .items import Items, items_of, lined_up
from .metrics import add_perplexity
from .on_policy import OnPolicyMixin
from .tasks import CLASSIFICATION, CTC, DISTILLED, LANGUAGE, SEQ2SEQ, TEXT_TO_TEXT, decoder_inputs, task_of
from .teacher import Teacher
from .teacher_cache import KeyedCollator
from .teaching import RefreshCaches, TeachingMixin


@dataclass(frozen=True)
class StudentBatch:
    """A micro-batch taken apart: what the student reads, what the teachers read, and what is learned."""

    own: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    items: Items
    keys: list[bytes] | None


class DistillationTrainer(AdapterMixin, OnPolicyMixin, FeatureTermsMixin, TeachingMixin, GenkitTrainer):
    r"""
    Trains a student on `alpha * soft + (1 - alpha) * hard`: a teacher's softened logits and the data's labels, and, where
    the arguments say so, on the teacher's hidden states and on how it relates the samples of a batch.

    Every kind of head is taken: image, text and token classification; causal and masked language models;
    sequence-to-sequence models of text and speech; frames of speech (CTC). Items are samples, tokens or frames. Each
    term is a mean over its own items (labelled ones for the hard term) of the whole optimizer step, so gradients don't
    depend on gradient accumulation or the number of processes; terms that relate the samples of a batch to each other
    (`relation_loss`, "cka", "dist") are computed for each micro-batch. Labels of -100 mean unlabelled: such a sample
    teaches through the soft term alone. Where items are tokens, the soft term covers the labelled positions of a
    sequence, or all attended ones if it has no label.

    The log has `kd_loss`, `ce_loss` and one entry for each further term; evaluation adds `eval_accuracy`,
    `eval_ce_loss`, `eval_kd_loss`, `eval_teacher_agreement`, and `eval_perplexity` for language.

    Args:
        model (`PreTrainedModel`): The student.
        teacher_model (`str`, `PreTrainedModel`, `Callable` or a list of these, *optional*):
            Hub id, local folder or model; or a function that is called like a model, with the batch's inputs as
            keywords, and returns logits `[batch, (positions,) classes]`. Not needed if `alpha` is 0.
        args ([`DistillationConfig`], *optional*): The arguments.
        processing_class (*optional*): The student's image processor, tokenizer or processor.
        teacher_processing_class (*optional*):
            The teacher's (of several: of all), where it differs from the student's: uint8 pixels are resized and
            normalised for each of the two, and different tokenizers are refused. Read from the teacher's repo if the
            teacher is given by name.
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: `alpha` is above 0 and there is no teacher; label sets, tokenizers or hidden states don't match; or
            the cache can't be used with this data or teacher.

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
    config_class = DistillationConfig

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        teacher_model: str | PreTrainedModel | Callable | Sequence | None = None,
        args: DistillationConfig | None = None,
        *,
        teacher_processing_class: BaseImageProcessor | PreTrainedTokenizerBase | None = None,
        **kwargs,
    ):
        args = args or self.config_class("distillation_output")
        if not isinstance(args, self.config_class):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a {self.config_class.__name__}.")
        given = (
            teacher_model
            if isinstance(teacher_model, Sequence) and not isinstance(teacher_model, str)
            else [teacher_model]
        )
        given = [teacher for teacher in given if teacher is not None]
        self.check_teachers(model, given, args)
        super().__init__(model, args, **kwargs)
        student = self.student
        self.task = task_of(student, DISTILLED)
        self.auto_class = DISTILLED[self.task].__name__
        self._check_student(student)
        self.student_arguments = argument_names(student.forward)
        self.teachers = [self._make_teacher(teacher, teacher_processing_class) for teacher in given]
        self._prepare_terms()
        self.attach_companions(self.accelerator.unwrap_model(self.model))
        self.is_prepared = True

    def check_teachers(self, model: PreTrainedModel | None, teachers: list, args: DistillationConfig) -> None:
        """Refuses teachers that don't go with the arguments."""
        if not teachers and args.alpha > 0:
            raise ValueError(f"`alpha` is {args.alpha}, which needs a `teacher_model`; without one set alpha to 0.")
        if any(teacher is model for teacher in teachers):
            raise ValueError(
                "The teacher is the student itself: a frozen copy is needed, such as copy.deepcopy(model)."
            )
        if args.loss_type == "uld" and len(teachers) > 1:
            raise ValueError(
                f"`loss_type` is 'uld', which pairs a student with one teacher, but there are {len(teachers)}."
            )
        if args.teacher_weights is not None and args.teacher_top_k is not None:
            raise ValueError(
                f"`teacher_weights` is {args.teacher_weights}, but teachers share equally with `teacher_top_k`: leave one out."
            )
        if isinstance(args.teacher_weights, list) and len(args.teacher_weights) != len(teachers):
            raise ValueError(
                f"`teacher_weights` holds {len(args.teacher_weights)} weights, but there are {len(teachers)} teachers."
            )

    @property
    def student(self) -> PreTrainedModel:
        """The student, taken out of wrappers and of an adapter."""
        return bare(self.accelerator.unwrap_model(self.model))

    @property
    def teacher(self) -> Teacher | None:
        """The first teacher."""
        return self.teachers[0] if self.teachers else None

    def _check_student(self, student: PreTrainedModel) -> None:
        if self.task not in CLASSIFICATION:
            return
        if student.config.problem_type not in (None, "single_label_classification"):
            raise ValueError(f"The student's problem_type is '{student.config.problem_type}', not single-label.")
        if student.config.num_labels < 2:
            raise ValueError(
                f"The student's num_labels is {student.config.num_labels}, but it takes at least 2 classes."
            )

    def _prepare_terms(self) -> None:
        """What follows from teachers and data: cache keys, projectors, a head that is computed with its loss."""
        if self.uses_cache:
            names = [teacher.argument_names for teacher in self.teachers]
            self.data_collator = KeyedCollator(self.data_collator, names, self.task)
            self.add_callback(RefreshCaches([teacher.cache for teacher in self.teachers]))
        if self.args.matches_features:
            self.match_features()
        self.fuses = self._can_fuse()
        self.shares_encoder = self._can_share_encoder()
        self._wants_logits = False

    def _can_fuse(self) -> bool:
        """Whether heads and losses can be computed together: one teacher, whole heads, a loss of single items."""
        relates = self.args.loss_type in ("uld", "dist")
        if self.task not in (*LANGUAGE, TEXT_TO_TEXT) or not self.args.fused_head or len(self.teachers) > 1 or relates:
            return False
        if (
            self._has_sharded_state
            or self.args.n_gpu > 1
            or (self.train_dataset is None and self.eval_dataset is None)
        ):
            return False
        with preserved_rng():
            batch = self.take_apart(self._prepare_inputs(self.probe()))
            if self.teacher is not None and isinstance(self.teacher.model, PreTrainedModel):
                self.teacher.fuses = can_fuse(self.teacher.model, _shortened(self.teacher.prepare(batch.inputs)))
            return can_fuse(self.accelerator.unwrap_model(self.model), _shortened(batch.own))

    def _can_share_encoder(self) -> bool:
        """Whether the student's encoding serves all teachers, too."""
        if self.task not in SEQ2SEQ or not self.teachers or self.student.config.to_dict().get("apply_spec_augment"):
            return False
        return all(teacher.reads_encoding_of(self.student) for teacher in self.teachers)

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            names = set().union(*(teacher.argument_names for teacher in self.teachers))
            self._signature_columns += [*names, *(f"teacher_{name}" for name in (*names, "labels"))]

    # ---- The loss ----

    def take_apart(self, inputs: Mapping[str, torch.Tensor]) -> StudentBatch:
        """A micro-batch as the student and the teachers read it, with its items."""
        inputs = dict(inputs)
        items = items_of(self.task, inputs, self.student)
        keys = inputs.pop(KeyedCollator.name, None)
        inputs.pop("soft_mask", None)
        labels = inputs.pop("labels", None)
        if self.task in SEQ2SEQ:
            inputs["decoder_input_ids"] = decoder_inputs(self.student.config, labels)
        own = with_float_pixels(student_inputs(inputs, self.student_arguments), self.image_processor)
        return StudentBatch(own, inputs, items, keys)

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        items = items_of(self.task, inputs, self.student)
        return items.counts | {"samples": torch.tensor(len(items.soft), device=items.soft.device)}

    def loss_weights(self, evaluating: bool) -> dict[str, float]:
        """The weight of each term to compute: in training of those that count, in evaluation of all that can be had."""
        weights = {"kd_loss": self.args.alpha, "ce_loss": 1 - self.args.alpha}
        if not self.teachers:
            del weights["kd_loss"]
        if not evaluating:
            weights = {name: weight for name, weight in weights.items() if weight > 0}
        return weights | (self.matcher.weights if self.matcher is not None else {})

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        batch = self.take_apart(inputs)
        weights = self.loss_weights(evaluating=not model.training)
        items = batch.items
        counts = num_items_in_batch or {name: count.clamp(1) for name, count in self.count_items(inputs).items()}
        fused = self.fuses and not (return_outputs and self._wants_logits)
        terms = self.fused_terms if fused else self.plain_terms
        outputs, loss, values, seen = terms(model, batch, weights, counts)
        if model.training:
            self.record({name: value.sum() / counts[_counted_by(name)] for name, value in values.items()})
        else:
            self._record_predictions(items, values, *seen)
        return (loss, outputs) if return_outputs else loss

    def run_student(self, model, batch: StudentBatch) -> ModelOutput:
        """The student's outputs, with its hidden states where they are compared."""
        if self.shares_encoder:
            self.student.get_encoder().eval()  # no dropout: teachers read what it says
        return model(**batch.own, **({"output_hidden_states": True} if self.matcher is not None else {}))

    def plain_terms(self, model, batch: StudentBatch, weights: dict[str, float], counts: dict[str, torch.Tensor]):
        """Student's outputs, loss, per-item values of each term, and what student and teachers take for the answers."""
        items, labels = batch.items, batch.items.item_labels
        outputs = self.run_student(model, batch)
        logits = lined_up(self.task, outputs.logits)[items.soft]
        values, answers = {}, None
        if "kd_loss" in weights or self.matcher is not None:
            targets, teacher_outputs = self.ask_teachers(batch, outputs)
            if "kd_loss" in weights:
                values["kd_loss"], answers = self.soft_values(logits, targets, labels, items)
            if self.matcher is not None:
                values |= self.feature_values(batch, outputs, teacher_outputs)
        if "ce_loss" in weights and items.hard is not None:
            values["ce_loss"] = self.hard_values(logits, labels, outputs, items)
        terms = (weights[name] * value.sum() / counts[_counted_by(name)] for name, value in values.items())
        loss = sum(terms, outputs.logits.new_zeros(()))
        return outputs, loss, values, (logits.argmax(dim=-1), answers)

    def fused_terms(self, model, batch: StudentBatch, weights: dict[str, float], counts: dict[str, torch.Tensor]):
        """What [`~DistillationTrainer.plain_terms`] returns, without ever holding the logits of all items."""
        items, labels = batch.items, batch.items.item_labels
        with bypassed_head(self.student) as captured:
            outputs = self.run_student(model, batch)
        hidden, targets, values = lined_up(self.task, captured.hidden)[items.soft], None, {}
        if "kd_loss" in weights or self.matcher is not None:
            targets, teacher_outputs = self.ask_teachers(batch, outputs, states=True)
            if self.matcher is not None:
                values |= self.feature_values(batch, outputs, teacher_outputs)
        share = torch.ones_like(labels, dtype=torch.float32)
        with self.accelerator.autocast():
            found = fused_distillation(
                hidden,
                head_of(self.student),
                targets[0] if "kd_loss" in weights else None,
                labels=labels,
                soft_weights=share * (weights.get("kd_loss", 0) / counts["kd_loss"]),
                hard_weights=share * (weights.get("ce_loss", 0) / counts["ce_loss"]),
                temperature=self.args.temperature,
                loss_type=self.args.loss_type,
                loss_kwargs=self.args.loss_kwargs,
                label_smoothing=self.smoothing,
                compiled=self.args.torch_compile,
            )
        loss = found.loss + sum(
            weights[name] * value.sum() / counts[_counted_by(name)] for name, value in values.items()
        )
        if "kd_loss" in weights:
            values["kd_loss"] = found.kd
        if "ce_loss" in weights and items.hard is not None:
            values["ce_loss"] = found.ce
        return outputs, loss, values, (found.predictions, found.teacher_predictions)

    def ask_teachers(
        self, batch: StudentBatch, outputs: ModelOutput, states: bool = False
    ) -> tuple[list, ModelOutput]:
        """
        What the teachers say of the soft items, and the first one's outputs where its hidden states are compared; with
        `states` what its head reads will do.
        """
        encoding = outputs.encoder_last_hidden_state.detach() if self.shares_encoder else None
        options = {} if encoding is None else {"encoder_outputs": encoding}
        teacher_outputs = None
        if self.matcher is not None:
            teacher_outputs = self.teacher.outputs(batch.inputs, output_hidden_states=True, **options)
        elif states and self.teacher.gives_states:
            return [self.teacher.states(batch.inputs, batch.items, **options)], None
        targets = [
            teacher.targets(
                batch.inputs,
                batch.items,
                None if batch.keys is None else batch.keys[number],
                outputs=teacher_outputs if number == 0 else None,
                **options,
            )
            for number, teacher in enumerate(self.teachers)
        ]
        return targets, teacher_outputs

    def soft_values(self, logits, targets: list, labels, items: Items) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The soft term of each item, and the teachers' answers, both `[items]`."""
        if isinstance(targets[0], TopKTargets):
            each = [top_k_divergence(logits, target, temperature=self.args.temperature) for target in targets]
            return torch.stack(each).mean(0), targets[0].ids[..., 0]
        if items.paired is not None:  # by rank: their answers are no answers here
            paired = items.paired[items.soft]
            values = self.args.soft_loss(logits[paired], targets[0])
            return values.new_zeros(len(logits)).masked_scatter(paired, values), None
        each = [self.args.soft_loss(logits, target, labels=labels) for target in targets]
        if len(each) == 1:
            return each[0], targets[0].argmax(dim=-1)
        shares = teacher_shares(self.args.teacher_weights, targets, labels)
        answers = ensemble_logits(shares, targets).argmax(dim=-1)
        return (shares * torch.stack(each)).sum(0), answers

    def hard_values(self, logits, labels, outputs: ModelOutput, items: Items) -> torch.Tensor:
        """The hard term: `[items]`, or `[batch]` for frames."""
        if self.task == CTC:
            return ctc_loss(outputs.logits, items.labels, items.soft.sum(-1), self.student.config.pad_token_id)
        return label_smoothing_cross_entropy(logits, labels, self.smoothing)

    @property
    def smoothing(self) -> float:
        """How much the hard labels are smoothed: in training alone."""
        return self.args.label_smoothing_factor if self.model.training else 0.0

    def _record_predictions(self, items: Items, values, predictions, answers) -> None:
        soft = items.taught.reshape(len(items.soft), -1).sum(1)
        labelled = items.item_labels != -100
        hard = items.per_sample(labelled.float()) if self.task != CTC else items.hard
        counts = {"kd_loss": soft, "ce_loss": hard, "samples": torch.ones_like(soft)}
        of_samples = ("samples", "ce_loss") if self.task == CTC else ("samples",)
        sums = {}
        for name, value in values.items():
            kind = _counted_by(name)
            sums[name] = (value if kind in of_samples else items.per_sample(value)), counts[kind]
        if answers is not None:
            sums["teacher_agreement"] = items.per_sample((predictions == answers).float()), soft
        if items.hard is not None and self.task != CTC:
            sums["accuracy"] = items.per_sample(((predictions == items.item_labels) & labelled).float()), hard
        self.record_evaluation(sums)

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        weights = self.loss_weights(evaluating=True)
        present = [name for name in weights if name in means]
        return sum(weights[name] * means[name] for name in present) if present else None

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        self._wants_logits = not prediction_loss_only
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self.task in (*LANGUAGE, TEXT_TO_TEXT):
            add_perplexity(output.metrics, [f"{metric_key_prefix}_ce_loss"])
        return output


def _counted_by(term: str) -> str:
    """What a term is a mean over: its own items, or samples."""
    return term if term in ("kd_loss", "ce_loss") else "samples"


def _shortened(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch of which a few tokens are left, to try a model on."""
    return {name: value[:, :16] if value.ndim == 2 else value for name, value in inputs.items()}
