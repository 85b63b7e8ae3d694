"""What a trainer does with a teacher beside training on it: judging it, filling its cache, naming it on the card."""

import math
from pathlib import Path

import torch
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.utils import logging

from ..data import ArrayImageDataset, TokenDataset
from ..evaluation import measure_efficiency
from ..hub import CardFacts, Result, TeacherFacts, hub_id
from ..losses import cross_entropy
from .checkpointing import preserved_rng
from .companions import companion_parameters
from .inputs import own_of_teacher
from .items import Items, items_of
from .metrics import check_best_metric
from .tasks import CLASSIFICATION, CTC
from .teacher import Teacher, check_vocabularies, frames_a_second, load_teacher
from .teacher_cache import KeyedCollator, TeacherCache


logger = logging.get_logger(__name__)


class TeachingMixin:
    """The teacher's side of [`DistillationTrainer`]; expects to stand before [`GenkitTrainer`] among the bases."""

    def _make_teacher(self, model, processor) -> Teacher:
        name = model if isinstance(model, str) else None
        if name is not None:
            model, own_processor = load_teacher(
                name,
                self.task,
                revision=self.args.teacher_revision,
                dtype=self.args.teacher_dtype,
                quantization=self.args.teacher_quantization,
                trust_remote_code=self.args.trust_remote_code,
            )
            processor = processor or own_processor
        if self.task in CLASSIFICATION and self.args.teacher_top_k is not None:
            raise ValueError(
                f"`teacher_top_k` is {self.args.teacher_top_k}, but a classifier's few classes are kept whole: leave it out."
            )
        if self.task not in CLASSIFICATION:
            check_vocabularies(self.processing_class, processor, self.args.loss_type)
        if self.task == CTC and isinstance(model, PreTrainedModel):
            ours, theirs = frames_a_second(self.student), frames_a_second(model)
            if ours != theirs:
                raise ValueError(
                    f"The teacher makes {theirs} frames of a second of sound and the student {ours}, but they must line up."
                )
        return Teacher(
            model,
            self.student,
            self.accelerator,
            processor or self.processing_class,
            name=name,
            task=self.task,
            cache_path=self._cache_path(model),
            top_k=self.args.teacher_top_k,
            temperature=self.args.temperature,
        )

    def _cache_path(self, teacher) -> str | None:
        """Where the teacher's logits go; "auto" does without a cache where it could not serve twice."""
        path = self.args.teacher_cache
        obstacle = None
        if not isinstance(teacher, torch.nn.Module):
            obstacle = "a teacher that is a function has no weights to tell it from others"
        elif any(isinstance(dataset, IterableDataset) for dataset in self.all_datasets()):
            obstacle = "a streamed data set can't be looked up"
        elif self.args.matches_features:
            obstacle = "hidden states are too large to keep"
        elif self.args.loss_type == "uld":
            obstacle = "the teacher's tokens are not the student's"
        elif self.task not in CLASSIFICATION and self.args.teacher_top_k is None:
            obstacle = "each token has too many logits to keep without `teacher_top_k`"
        elif _masks(self.train_dataset):
            obstacle = "other tokens are masked in each epoch"
        if path == "off" or (path == "auto" and (obstacle or _augments(self.train_dataset))):
            return None
        if obstacle:
            raise ValueError(f"`teacher_cache` is '{path}', but {obstacle}: set it to 'off'.")
        return str(Path(self.args.output_dir, "teacher_cache")) if path == "auto" else path

    @property
    def uses_cache(self) -> bool:
        return any(teacher.cache is not None for teacher in self.teachers)

    def evaluate_teacher(self, eval_dataset=None) -> dict[str, float]:
        """
        The teacher's accuracy on the evaluation set, and that of always naming its most frequent class.

        Args:
            eval_dataset (*optional*): Defaults to the trainer's (the first one, if it has several).

        Returns:
            `dict[str, float]`: The number of labelled `items`, and, if there are any, `teacher_accuracy`; `chance` for
            classes, `teacher_perplexity` for language.
        """
        classes = self.student.config.num_labels if self.task in CLASSIFICATION else 0
        totals = torch.zeros(3 + classes, dtype=torch.float64)  # right answers, nats, labels, and labels of each class
        with preserved_rng(), torch.no_grad():
            for inputs in self._evaluation_dataloader(eval_dataset):
                batch = self.take_apart(self._prepare_inputs(inputs))
                if batch.items.hard is None or self.task == CTC:
                    continue
                items, answers, nats = self._teacher_answers(batch)
                labels = items.item_labels
                labelled = labels != -100
                counts = [(answers == labels) & labelled, nats, labelled]
                if classes:
                    counts += one_hot(labels.where(labelled, classes), classes + 1)[:, :-1].unbind(1)
                sums = torch.stack([items.per_sample(count.float()) for count in counts], dim=1)
                totals += self.accelerator.gather_for_metrics(sums).sum(0).cpu()
        hits, nats, items, *per_class = totals.tolist()
        if items == 0:
            return {"items": 0}
        found = {"teacher_accuracy": hits / items, "items": int(items)}
        if classes:
            return found | {"chance": max(per_class) / items}
        return found | {"teacher_perplexity": math.exp(min(nats / items, 700))}

    def _teacher_answers(self, batch) -> tuple[Items, torch.Tensor, torch.Tensor]:
        """The items as the teacher reads them, what it takes for the answers, and the nats that it gives to the labels."""
        items = batch.items
        if self.task in CLASSIFICATION:
            targets = self.teacher.targets(batch.inputs, items, None if batch.keys is None else batch.keys[0])
        else:
            if items.theirs is not None:
                items = items_of(self.task, own_of_teacher(batch.inputs), self.student)
            targets = self.teacher.compute(batch.inputs)[items.soft]
        return items, targets.argmax(dim=-1), cross_entropy(targets, items.item_labels)

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
            return measure_efficiency(self.teacher.model, self.teacher.prepare(self.take_apart(sample).inputs))
        student = self.accelerator.unwrap_model(self.model)
        return measure_efficiency(student, self.take_apart(sample).own)

    def card_results(self) -> list[Result]:
        names = {"eval_accuracy": ("accuracy", "Accuracy")}
        if self.task not in CLASSIFICATION:
            names = {"eval_perplexity": ("perplexity", "Perplexity"), "eval_accuracy": ("accuracy", "Token accuracy")}
        logged = self.last_evaluation(next(iter(names)))
        return [Result(metric, logged[key], name=name) for key, (metric, name) in names.items() if key in logged]

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        if self.task in CLASSIFICATION:
            facts.labels = facts.labels or list(self.student.config.id2label.values())
        if "parameters" not in self._described:
            facts.parameters = self.student.num_parameters() - companion_parameters(self.student)
        if facts.teacher is None and self.teacher is not None:
            facts.teacher = TeacherFacts(self.teacher_title, id=hub_id(self.teacher.name))
        facts.method = facts.method or self.method_sentence
        return facts

    @property
    def teacher_title(self) -> str:
        """What people may call the teachers: their ids on the Hub, or their classes and sizes."""
        return " and ".join(teacher.title for teacher in self.teachers)

    @property
    def method_sentence(self) -> str:
        """How the student is trained, in one sentence or two."""
        args = self.args
        parts = []
        if self.teacher is not None and args.alpha > 0:
            kept = "" if args.teacher_top_k is None else f" on the teacher's {args.teacher_top_k} likeliest classes"
            parts.append(
                f"{args.alpha:g} times the '{args.loss_type}' distillation loss{kept} at temperature {args.temperature:g}"
            )
        if args.alpha < 1 and parts:
            parts.append(f"{1 - args.alpha:g} times the cross-entropy with the labels")
        weights = {**(args.feature_loss or {}), **(args.relation_loss or {})}
        if self.teacher is not None:
            parts += [f"{weight:g} times the '{name}' loss of hidden states" for name, weight in weights.items()]
        sentence = f"The loss was {' plus '.join(parts)}." if parts else "It was trained on the labels alone."
        if len(self.teachers) > 1:
            shares = args.teacher_weights or "equal"
            shares = (
                "by confidence"
                if shares == "confidence"
                else f"with weights {shares}"
                if shares != "equal"
                else "equally"
            )
            sentence += f" {len(self.teachers)} teachers shared the soft term {shares}."
        return sentence

    def fill_teacher_cache(self) -> int:
        """
        Runs the teacher over the training and evaluation data, without training.

        Returns:
            `int`: The number of samples in the (first) teacher's cache.

        Raises:
            `ValueError`: The trainer has no cache, or the training data changes between two readings.
        """
        if not self.uses_cache:
            raise ValueError(f"There is no cache to fill: `teacher_cache` is '{self.args.teacher_cache}'.")
        self._check_replay()
        for dataset in self.all_datasets():
            for inputs in self._evaluation_dataloader(dataset):
                batch = self.take_apart(self._prepare_inputs(inputs))
                for teacher, keys in zip(self.teachers, batch.keys, strict=True):
                    teacher.targets(batch.inputs, batch.items, keys)
        self.accelerator.wait_for_everyone()
        for teacher in self.teachers:
            teacher.cache.refresh()
        return len(self.teacher.cache)

    def check_before_training(self) -> None:
        super().check_before_training()
        self._check_metric()
        probe = self.probe()
        if self.args.alpha == 0 and not self.args.matches_features and "labels" not in probe:
            raise ValueError("`alpha` is 0 and the training data have no labels, so there is nothing to learn from.")
        self._check_pairs(probe)
        if self.teacher is None or self.args.alpha == 0:
            return
        if self.uses_cache:
            self._check_replay()
        if self.eval_dataset is not None and self.task in CLASSIFICATION:
            self._warn_about_chance()

    def _check_metric(self) -> None:
        known = ["loss", "ce_loss", *(["accuracy"] if self.task != CTC else [])]
        known += ["kd_loss", *(["teacher_agreement"] if self.task != CTC else [])] if self.teacher is not None else []
        known += ["perplexity"] if self.task not in (*CLASSIFICATION, CTC) else []
        check_best_metric(self, [*known, *(self.matcher.weights if self.matcher is not None else ())])

    def _check_pairs(self, probe: dict) -> None:
        """Refuses a teacher of other tokens that would read the student's."""
        if self.args.loss_type != "uld" or self.teacher is None or "teacher_labels" in probe:
            return
        ours, theirs = self.student.config, self.teacher.model.config
        if self.task not in CLASSIFICATION and ours.vocab_size != theirs.vocab_size:
            raise ValueError(
                f"`loss_type` is 'uld' and the teacher has {theirs.vocab_size:,} tokens, the student {ours.vocab_size:,}, but the "
                "data have no `teacher_input_ids` and `teacher_labels`: LanguageData.inputs(..., teacher_tokenizer=...) makes them."
            )

    def run_identity(self) -> dict:
        teacher = {} if self.teacher is None else {"teacher": self.teacher_title}
        return {**super().run_identity(), "teacher": teacher}

    def all_datasets(self) -> list:
        """The training set and every evaluation set."""
        evaluation = self.eval_dataset
        if evaluation is None:
            return [self.train_dataset]
        return [self.train_dataset, *(evaluation.values() if isinstance(evaluation, dict) else [evaluation])]

    def _evaluation_dataloader(self, dataset=None) -> DataLoader:
        dataset = self.eval_dataset if dataset is None else dataset
        return self.get_eval_dataloader(next(iter(dataset.values())) if isinstance(dataset, dict) else dataset)

    def probe(self) -> dict:
        """Two samples of the training data, as a batch."""
        with preserved_rng():
            loader = self._evaluation_dataloader() if self.train_dataset is None else self.get_train_dataloader()
            return next(iter(DataLoader(loader.dataset, batch_size=2, collate_fn=loader.collate_fn)))

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
        if found["items"] == 0 or not self.is_world_process_zero():
            return
        chance, accuracy = found["chance"], found["teacher_accuracy"]
        if accuracy <= chance + 2 * (chance * (1 - chance) / found["items"]) ** 0.5:
            logger.warning_once(
                f"The teacher's accuracy on the evaluation set is {accuracy:.3f}, no better than chance ({chance:.3f} "
                "for always naming the most frequent class): was its head ever trained?"
            )


class RefreshCaches(TrainerCallback):
    """Lets each process see what the others added to the caches in the epoch before."""

    def __init__(self, caches: list[TeacherCache]):
        self.caches = caches

    def on_epoch_begin(self, args, state, control, **kwargs):
        for cache in self.caches:
            cache.refresh()


def _augments(dataset) -> bool:
    return isinstance(dataset, ArrayImageDataset) and dataset.augmentation is not None


def _masks(dataset) -> bool:
    return isinstance(dataset, TokenDataset) and dataset.masking is not None
