"""A comparison's folder and what it leaves there: results.json, curves.png and the exported model's card."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState

from ..arguments import DataArguments, TeacherStudentArguments
from ..data import ClassificationData
from ..evaluation import ComparedModel, describe_difference, mean_interval, plot_curves, text_table
from ..hub import Result, TeacherFacts, check_push_access, hub_id
from .base_config import GenkitConfig
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationTrainer
from .generation_report import dataset_facts, image_facts


# Settings that may change from one call to the next in the same folder.
OPEN_SETTINGS = {"seeds", "seed", "baseline", "cache_only"}


class ComparisonReport:
    """
    Collects a teacher and its students over seeds, on the test split. Make it before anything is trained.

    Args:
        pair_args ([`~hf_genkit.TeacherStudentArguments`]): The models to compare.
        data_args ([`~hf_genkit.DataArguments`]): Where the data comes from.
        args ([`~hf_genkit.DistillationConfig`]): How the students are trained, and the folder of the comparison.
        command (`str`): The command that is being run.

    Raises:
        `ValueError`: The folder holds another comparison, and `args.resume_from_checkpoint` is not set; or the result
            shall be pushed and can't be.
    """

    def __init__(
        self,
        pair_args: TeacherStudentArguments,
        data_args: DataArguments,
        args: DistillationConfig,
        command: str,
    ):
        claim_comparison(args, pair_args, data_args)
        self.data_args, self.command = data_args, command
        self.start = time.time()
        self.models: dict[str, ComparedModel] = {}
        self.seeds: dict[str, list[int]] = {}
        self.histories: dict[str, list[list[dict]]] = {}

    def add(self, name: str, seed: int, trainer: DistillationTrainer, test) -> None:
        """
        Tests a trained student, and at the first call its teacher.

        Args:
            name (`str`): Which of the students it is, the same for all seeds.
            seed (`int`): The seed it was trained with.
            trainer ([`DistillationTrainer`]): Its trainer.
            test: Model inputs of the test split.
        """
        metrics = trainer.evaluate(test, metric_key_prefix="test")
        if "teacher" not in self.models:
            found = trainer.evaluate_teacher(test)
            efficiency = trainer.measure_efficiency(test, of_teacher=True)
            self.models["teacher"] = ComparedModel("teacher", [found["teacher_accuracy"]], found["items"], efficiency)
        if name not in self.models:
            samples = self.models["teacher"].samples
            self.models[name] = ComparedModel(name, [], samples, trainer.measure_efficiency(test))
            self.seeds[name], self.histories[name] = [], []
        self.models[name].accuracies.append(metrics["test_accuracy"])
        self.models[name].agreement.append(metrics["test_teacher_agreement"])
        self.seeds[name].append(seed)
        self.histories[name].append(list(trainer.state.log_history))

    def write(self, exported: DistillationTrainer, data: ClassificationData, baseline: str) -> None:
        """
        Prints the table and writes the exported model with card, results.json and curves.png.

        Args:
            exported ([`DistillationTrainer`]): The trainer of the first seed's distilled student.
            data ([`~hf_genkit.data.ClassificationData`]): What the models were trained and tested on.
            baseline (`str`): Name of the students that were trained alone, if they were.
        """
        exported.save_model(_internal_call=True)  # the push comes later, with the card
        if not exported.is_world_process_zero():
            return
        folder = Path(exported.args.output_dir)
        main = self.models["student, distilled"]
        rows = [self.models[name].row() for name in sorted(self.models, key=["teacher", baseline, main.name].index)]
        sentence = describe_difference(main, self.models[baseline]) if baseline in self.models else ""
        seconds = time.time() - self.start
        print(f"\n{text_table(rows)}\n\n{sentence}")
        results = {
            "models": {name: asdict(model) for name, model in self.models.items()},
            "seeds": self.seeds,
            "difference": sentence,
            "seconds": round(seconds, 1),
            "processes": exported.accelerator.num_processes,
        }
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        plot_curves(self.histories, folder / "curves.png", x="step")
        exported.create_model_card(**self._facts(exported, data, rows, sentence, seconds))
        print(f"\nThe distilled student, its card (README.md) and curves.png are in {folder}.")

    def _facts(
        self, exported: DistillationTrainer, data: ClassificationData, rows: list[dict], sentence: str, seconds: float
    ) -> dict:
        """What the card says beyond what the trainer knows."""
        main, teacher = self.models["student, distilled"], self.models["teacher"]
        interval = mean_interval(main.accuracies)
        dataset = dataset_facts(data, self.data_args, main.samples)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
        limits = [
            f"It knows the {len(data.id2label)} classes of {dataset.name} only, and answers with one of them for any input.",
            f"The figures come from {main.samples:,} samples of one data set; other data were not tried.",
            "The teacher's mistakes and biases are passed on to the student.",
        ]
        if len(main.accuracies) < 3:
            limits.append("One or two seeds are too few to tell small differences from chance.")
        facts = {
            "dataset": dataset,
            "results": [
                Result(
                    "accuracy",
                    main.accuracies[0],
                    name="Accuracy",
                    mean=interval.mean,
                    interval=(interval.low, interval.high) if len(main.accuracies) > 1 else None,
                    seeds=self.seeds["student, distilled"],
                )
            ],
            "teacher": TeacherFacts(
                exported.teacher_title,
                id=hub_id(exported.teacher.name),
                results=[
                    Result("accuracy", teacher.accuracies[0], name="Accuracy"),
                ],
            ),
            "comparison": rows,
            "method": f"{exported.method_sentence} {sentence[:1].upper()}{sentence[1:]}".strip(),
            "command": self.command,
            "hardware": f"{device}, {seconds:.0f} seconds for the whole comparison",
            "limits": limits,
            "pictures": [("curves.png", "Training loss and evaluation accuracy, mean and range over the seeds")],
        }
        return facts | image_facts(data, exported.processing_class)


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
