"""What the students of a distillation, and their teachers, get on a data set and cost."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from ..evaluation import ACCURACY, PERPLEXITY, WORD_ERRORS, ComparedMetric, measure_efficiency
from .base import GenkitTrainer
from .companions import companion_parameters
from .distillation_trainer import DistillationTrainer
from .mutual_trainer import MutualDistillationTrainer
from .tasks import CLASSIFICATION, SPEECH
from .transcribing import transcribe


@dataclass
class Judged:
    """
    What one model got on one data set.

    Args:
        value (`float`): In the metric of its task, see [`metric_of`].
        agreement (`float`, *optional*): Share of items on which it answers as its teacher.
        errors, words (`list[int]`, *optional*): Of a model of speech, for each clip.
        seconds_per_clip (`float`, *optional*): How long it takes to write down a clip.
    """

    value: float
    agreement: float | None = None
    errors: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    seconds_per_clip: float | None = None


def metric_of(task: str) -> ComparedMetric:
    """What models are compared by: a task is a key of `hf_genkit.trainers.tasks.AUTO_CLASSES`."""
    return ACCURACY if task in CLASSIFICATION else WORD_ERRORS if task == SPEECH else PERPLEXITY


def judge_students(trainer: GenkitTrainer, dataset) -> dict[str, Judged]:
    """
    Tests what a trainer trains.

    Args:
        trainer ([`DistillationTrainer`] or [`MutualDistillationTrainer`]): The trainer.
        dataset: Model inputs.

    Returns:
        `dict[str, Judged]`: Under "student", or "peer 0", "peer 1", ...
    """
    metrics = trainer.evaluate(dataset, metric_key_prefix="test")
    if not isinstance(trainer, MutualDistillationTrainer):
        return {"student": _judged(trainer, dataset, metrics, "test", None)}
    return {
        f"peer {number}": _judged(trainer, dataset, metrics, f"test_peer_{number}", peer)
        for number, peer in enumerate(trainer.peers)
    }


def judge_teachers(trainer: DistillationTrainer, dataset) -> dict[str, Judged]:
    """
    Tests what a trainer's student learns from.

    Args:
        trainer ([`DistillationTrainer`]): The trainer.
        dataset: Model inputs.

    Returns:
        `dict[str, Judged]`: Under "teacher", or "teacher 0", "teacher 1", ...
    """
    return {
        name: _judged(trainer, dataset, trainer.evaluate_teacher(dataset), "teacher", trainer.teacher.model)
        for name in _each_teacher(trainer)
    }


def _judged(
    trainer: GenkitTrainer, dataset, metrics: dict[str, float], prefix: str, model: PreTrainedModel | None
) -> Judged:
    agreement = metrics.get(f"{prefix}_teacher_agreement")
    if trainer.task == SPEECH:
        found = transcribe(trainer, dataset, model)
        return Judged(found.wer, agreement, found.errors, found.words, found.seconds_per_clip)
    return Judged(metrics[f"{prefix}_{metric_of(trainer.task).key}"], agreement)


def students_costs(trainer: GenkitTrainer, dataset) -> dict[str, dict]:
    """What [`~hf_genkit.evaluation.measure_efficiency`] finds, under the names that [`judge_students`] gives."""
    if not isinstance(trainer, MutualDistillationTrainer):
        costs = trainer.measure_efficiency(dataset)
        beside = companion_parameters(trainer.student)  # which are not exported
        return {"student": costs | {"parameters": costs["parameters"] - beside}}
    batch = trainer._prepare_inputs(next(iter(trainer.get_test_dataloader(dataset))))
    sample = {name: value[:1] for name, value in batch.items() if isinstance(value, torch.Tensor)}
    pairs = zip(trainer.peers, trainer.take_apart(sample), strict=True)
    return {f"peer {number}": measure_efficiency(peer, own) for number, (peer, own) in enumerate(pairs)}


def teachers_costs(trainer: DistillationTrainer, dataset) -> dict[str, dict]:
    """What [`~hf_genkit.evaluation.measure_efficiency`] finds, under the names that [`judge_teachers`] gives."""
    return {name: trainer.measure_efficiency(dataset, of_teacher=True) for name in _each_teacher(trainer)}


def _each_teacher(trainer: DistillationTrainer) -> Iterator[str]:
    """The teachers' names, each while the trainer has that teacher alone."""
    teachers = trainer.teachers
    for number, teacher in enumerate(teachers):
        trainer.teachers = [teacher]
        yield "teacher" if len(teachers) == 1 else f"teacher {number}"
    trainer.teachers = teachers


def labelled_items(trainer: GenkitTrainer, dataset) -> int:
    """How many labels a data set has, on all processes together."""
    total = 0
    for batch in trainer.get_test_dataloader(dataset):
        labelled = trainer._prepare_inputs(batch)["labels"] != -100
        total += int(trainer.accelerator.gather_for_metrics(labelled.reshape(len(labelled), -1).sum(1)).sum())
    return total
