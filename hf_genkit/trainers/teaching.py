"""What a trainer does with a teacher beside training on it: judging it, filling its cache, naming it on the card."""

import torch
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback
from transformers.utils import logging

from ..evaluation import measure_efficiency
from ..hub import CardFacts, Result, TeacherFacts, hub_id
from .checkpointing import preserved_rng
from .inputs import student_inputs, with_float_pixels
from .teacher_cache import KeyedCollator, TeacherCache


logger = logging.get_logger(__name__)


class TeachingMixin:
    """The teacher's side of [`DistillationTrainer`]; expects to stand before [`GenkitTrainer`] among the bases."""

    def evaluate_teacher(self, eval_dataset=None) -> dict[str, float]:
        """
        The teacher's accuracy on the evaluation set, and that of always naming its most frequent class.

        Args:
            eval_dataset (*optional*): Defaults to the trainer's (the first one, if it has several).

        Returns:
            `dict[str, float]`: `teacher_accuracy`, `chance` and the number of labelled `items`.
        """
        with preserved_rng():
            classes = self.model.config.num_labels
            totals = torch.zeros(1 + classes)  # right answers, then labels of each class
            for inputs in self._evaluation_dataloader(eval_dataset):
                inputs = dict(self._prepare_inputs(inputs))
                keys = inputs.pop(KeyedCollator.name, None)
                labels = inputs.pop("labels", None)
                if labels is None:
                    continue
                correct = self.teacher.logits(inputs, keys).argmax(dim=-1) == labels
                named = one_hot(labels.where(labels != -100, classes), classes + 1)[..., :-1]
                counts = torch.cat([correct[..., None], named], dim=-1).reshape(len(labels), -1, 1 + classes).sum(1)
                totals += self.accelerator.gather_for_metrics(counts).sum(0).cpu()
        hits, per_class = totals[0].item(), totals[1:]
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

    def card_results(self) -> list[Result]:
        accuracy = self.last_evaluation("eval_accuracy").get("eval_accuracy")
        return [] if accuracy is None else [Result("accuracy", accuracy, name="Accuracy")]

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        facts.labels = facts.labels or list(self.model.config.id2label.values())
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
        for dataset in self.all_datasets():
            for inputs in self._evaluation_dataloader(dataset):
                inputs = dict(self._prepare_inputs(inputs))
                self.teacher.logits(inputs, inputs.pop(KeyedCollator.name))
        self.accelerator.wait_for_everyone()
        self.teacher.cache.refresh()
        return len(self.teacher.cache)

    def check_before_training(self) -> None:
        if self.teacher is None or self.args.alpha == 0:
            return
        if self.uses_cache:
            self._check_replay()
        if self.eval_dataset is not None:
            self._warn_about_chance()

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


class RefreshCache(TrainerCallback):
    """Lets each process see what the others added to the cache in the epoch before."""

    def __init__(self, cache: TeacherCache):
        self.cache = cache

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.cache.refresh()
