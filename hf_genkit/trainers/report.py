"""A comparison's folder and what it leaves there: results.json, curves.png and the exported model's card."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState

from ..arguments import FineTuningDataArguments, StudentArguments, TeacherStudentArguments
from ..data import ArrayImageDataset
from ..evaluation import ComparedModel, describe_difference, mean_interval, plot_curves, text_table
from ..hub import Result, TeacherFacts, check_push_access, hub_id
from .base import GenkitTrainer
from .base_config import GenkitConfig
from .claim_arguments import commit_of, model_arguments
from .finetuning_report import LIMITS, example_facts
from .generation_report import dataset_facts, image_facts
from .judging import (
    Judged,
    judge_students,
    judge_teachers,
    labelled_items,
    metric_of,
    students_costs,
    teachers_costs,
)
from .mutual_trainer import MutualDistillationTrainer
from .soft_target_config import SoftTargetConfig
from .task_data import TaskData
from .tasks import CLASSIFICATION


# Settings that may change from one call to the next in the same folder.
OPEN_SETTINGS = {"seeds", "seed", "baseline", "cache_only", "also_test_on"}


class ComparisonReport:
    """
    Collects teachers and students over seeds, on the test split. Make it before anything is trained.

    Args:
        model_args ([`~hf_genkit.arguments.StudentArguments`]): The models to compare.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        args (`SoftTargetConfig`): How the students are trained, and the folder of the comparison.
        command (`str`): The command that is being run.

    Raises:
        `ValueError`: The folder holds another comparison, and `args.resume_from_checkpoint` is not set; or the result
            shall be pushed and can't be.
    """

    def __init__(
        self,
        model_args: StudentArguments,
        data_args: FineTuningDataArguments,
        args: SoftTargetConfig,
        command: str,
    ):
        claim_comparison(args, model_args, data_args)
        self.has_teachers = isinstance(model_args, TeacherStudentArguments)
        self.data_args, self.command = data_args, command
        self.mask_seed = args.seed
        self.teachers_are_trained = self.has_teachers and model_args.teacher_epochs > 0
        self.start = time.time()
        self.models: dict[str, ComparedModel] = {}
        self.seeds: dict[str, list[int]] = {}
        self.histories: dict[str, list[list[dict]]] = {}
        self.teachers: list[str] = []

    def add(self, kind: str, seed: int, trainer: GenkitTrainer, test, others: Mapping | None = None) -> None:
        """
        Tests what a trainer has trained, and at the first call its teachers.

        Args:
            kind (`str`): How its students were trained: "distilled" or "alone".
            seed (`int`): The seed they were trained with.
            trainer ([`DistillationTrainer`] or [`MutualDistillationTrainer`]): Their trainer.
            test: Model inputs of the test split.
            others (`Mapping`, *optional*): Model inputs of other data sets to test on, by name.
        """
        self._test = test
        self.histories.setdefault(f"students, {kind}", []).append(list(trainer.state.log_history))
        if self.has_teachers and not self.teachers:
            judged, costs = judge_teachers(trainer, test), teachers_costs(trainer, test)
            elsewhere = {name: judge_teachers(trainer, inputs) for name, inputs in (others or {}).items()}
            self.teachers = list(judged)
            self._record("", judged, costs, elsewhere, trainer, test)
        judged = judge_students(trainer, test)
        elsewhere = {name: judge_students(trainer, inputs) for name, inputs in (others or {}).items()}
        is_new = f"{next(iter(judged))}, {kind}" not in self.models
        costs = students_costs(trainer, test) if is_new else {}
        self._record(f", {kind}", judged, costs, elsewhere, trainer, test)
        for name in judged:
            self.seeds.setdefault(f"{name}, {kind}", []).append(seed)

    def _record(
        self,
        suffix: str,
        judged: dict[str, Judged],
        costs: dict[str, dict],
        elsewhere: dict[str, dict[str, Judged]],
        trainer: GenkitTrainer,
        test,
    ) -> None:
        for who, found in judged.items():
            name = who + suffix
            if name not in self.models:
                self.models[name] = ComparedModel(
                    name,
                    [],
                    labelled_items(trainer, test) if trainer.task in CLASSIFICATION else len(test),
                    costs[who],
                    metric=metric_of(trainer.task),
                    parts=found.errors,
                    wholes=found.words,
                    seconds_per_clip=found.seconds_per_clip,
                )
            model = self.models[name]
            model.values.append(found.value)
            if found.agreement is not None and self.has_teachers:
                model.agreement.append(found.agreement)
            for other, theirs in elsewhere.items():
                model.elsewhere.setdefault(other, []).append(theirs[who].value)

    def write(self, exported: GenkitTrainer, data: TaskData) -> None:
        """
        Prints the table and writes the exported model with card, results.json and curves.png.

        Args:
            exported ([`DistillationTrainer`] or [`MutualDistillationTrainer`]):
                The trainer of the first seed's distilled students.
            data ([`~hf_genkit.trainers.task_data.TaskData`]): What the models were trained and tested on.
        """
        exported.save_model(_internal_call=True)  # the push comes later, with the card
        if not exported.is_world_process_zero():
            return
        folder = Path(exported.args.output_dir)
        order = sorted(self.models, key=lambda name: (name not in self.teachers, name))
        rows = [self.models[name].row() for name in order]
        sentences = [
            describe_difference(self.models[name], self.models[alone])
            for name in order
            if name.endswith(", distilled") and (alone := name.replace(", distilled", ", alone")) in self.models
        ]
        seconds = time.time() - self.start
        print("\n".join(["", text_table(rows), "", *sentences]))
        results = {
            "models": {name: asdict(self.models[name]) for name in order},
            "seeds": self.seeds,
            "difference": " ".join(sentences),
            "seconds": round(seconds, 1),
            "processes": exported.accelerator.num_processes,
        }
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        shown = "accuracy" if data.task in CLASSIFICATION else "perplexity"
        plot_curves(self.histories, folder / "curves.png", metric=f"eval_{shown}", x="step")
        exported.create_model_card(**self._facts(exported, data, rows, sentences, seconds))
        print(f"\nThe distilled student, its card (README.md) and curves.png are in {folder}.")

    def _facts(
        self, exported: GenkitTrainer, data: TaskData, rows: list[dict], sentences: list[str], seconds: float
    ) -> dict:
        """What the card says beyond what the trainer knows."""
        of_peers = isinstance(exported, MutualDistillationTrainer)
        name = f"peer {exported.best_peer}, distilled" if of_peers else "student, distilled"
        main, metric = self.models[name], metric_of(data.task)
        interval = mean_interval(main.values)
        dataset = dataset_facts(data.data, self.data_args, main.samples)
        if isinstance(self._test, ArrayImageDataset) and self._test.pixels.shape[2] == self._test.pixels.shape[3]:
            dataset.args["image_size"] = self._test.pixels.shape[2]  # a teacher may want larger ones than the student
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
        knows = (
            f"It knows the {len(data.labels)} classes of {dataset.name} only, and answers with one of them for any input."
            if data.labels
            else LIMITS[data.task]
        )
        limits = [knows, f"The figures come from {main.samples:,} samples of one data set; other data were not tried."]
        if main.elsewhere:
            limits[1] = f"The figures come from {main.samples:,} samples, and from {', '.join(main.elsewhere)}."
        if self.teachers:
            limits.append("The teacher's mistakes and biases are passed on to the student.")
        if len(main.values) < 3:
            limits.append("One or two seeds are too few to tell small differences from chance.")
        facts = {
            "dataset": dataset,
            "results": [
                Result(
                    metric.key,
                    main.values[0],
                    name=metric.title,
                    mean=interval.mean,
                    interval=(interval.low, interval.high) if len(main.values) > 1 else None,
                    seeds=self.seeds[name],
                    args=model_arguments(exported, self.mask_seed),
                )
            ],
            "comparison": rows,
            "method": " ".join([exported.method_sentence, *(text[:1].upper() + text[1:] for text in sentences)]),
            "command": self.command,
            "hardware": f"{device}, {seconds:.0f} seconds for the whole comparison",
            "limits": limits,
            "pictures": [("curves.png", "Training loss and evaluation, mean and range over the seeds")],
        }
        if self.teachers:
            scores = [
                Result(metric.key, self.models[teacher].values[0], name=f"{metric.title} of {teacher}")
                for teacher in self.teachers
            ]
            if len(scores) == 1:
                scores[0].name = metric.title
            facts["teacher"] = TeacherFacts(exported.teacher_title, id=hub_id(exported.teacher.name), results=scores)
            if len(scores) == 1 and not self.teachers_are_trained and facts["teacher"].id is not None:
                facts["results"][0].args |= _teacher_arguments(exported, scores[0].value)
        return facts | example_facts(data.task, data.data) | image_facts(data.data, exported.processing_class)


def _teacher_arguments(exported: GenkitTrainer, value: float) -> dict:
    """The score of a teacher of the Hub in full precision, for whoever measures the student's again."""
    model = exported.teacher.model
    if model.dtype != torch.float32 or hasattr(model.config, "quantization_config"):
        return {}
    revision = commit_of(exported.teacher.name, exported.args.teacher_revision)
    found = {"teacher": exported.teacher.name, "teacher_value": value}
    return found if revision is None else found | {"teacher_revision": revision}


def claim_comparison(args: GenkitConfig, *others) -> None:
    """
    Notes what is compared in the output folder of `args`, before anything is trained.

    Args:
        args ([`GenkitConfig`]): How the models are trained.
        others: The other dataclasses that say what is compared.

    Raises:
        `ValueError`: The folder holds another comparison, and `args.resume_from_checkpoint` is not set; or the result
            shall be pushed and can't be.
    """
    folder = Path(args.output_dir)
    if args.push_to_hub:
        check_push_access(args.hub_model_id or folder.absolute().name, args.hub_token)
    settings = {name: value for other in others for name, value in asdict(other).items()} | args.changed()
    settings = {name: value for name, value in settings.items() if name not in OPEN_SETTINGS}
    with PartialState().main_process_first():
        _claim_folder(folder, settings, resuming=bool(args.resume_from_checkpoint))


def _claim_folder(folder: Path, settings: dict, resuming: bool) -> None:
    """Notes what is compared in a folder, and refuses one that holds another comparison."""
    note = folder / "runs" / "comparison.json"
    here = json.loads(json.dumps(settings))
    if not note.is_file():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(here, indent=2), encoding="utf-8")
        return
    there = json.loads(note.read_text(encoding="utf-8"))
    if there == here or resuming:
        return
    changes = [
        f"{name} {there.get(name, 'its default')} there, {here.get(name, 'its default')} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    raise ValueError(
        f"'{folder}' holds another run ({'; '.join(changes[:3])}): set resume_from_checkpoint to go on with it, or "
        "choose another output_dir."
    )
