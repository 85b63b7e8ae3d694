"""What a comparison of transfers leaves in its folder: results.json, curves.png, the best model and its card."""

import json
import os
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from ..arguments import DataArguments
from ..arguments.transfer_arguments import TransferArguments
from ..data import ClassificationData
from ..evaluation import ComparedModel, describe_difference, plot_curves, text_table
from ..hub import Result
from ..trainers.claim_arguments import model_arguments
from ..trainers.finetuning_config import FineTuningConfig
from ..trainers.finetuning_report import optimizer_bytes
from ..trainers.finetuning_trainer import FineTuningTrainer
from ..trainers.generation_report import dataset_facts, image_facts
from ..trainers.inputs import student_inputs, with_float_pixels
from ..trainers.report import claim_comparison
from .cost import training_cost


@dataclass
class TransferredModel(ComparedModel):
    """
    One variant of a transfer.

    Args:
        validation (`list[float]`): Accuracy on the validation split, for each seed.
        seconds (`list[float]`): Time of the training, for each seed.
    """

    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, str]:
        """The variant as a row of a table."""
        cost = self.efficiency
        over = f"{len(self.values)} seeds" if len(self.values) > 1 else f"{self.samples:,} samples"
        return {
            "Variant": self.name,
            "Accuracy": f"{statistics.fmean(self.values):.4f}",
            "95 % interval": f"{self.interval.low:.4f} to {self.interval.high:.4f} ({over})",
            "Trained": f"{cost['trainable_parameters']:,}",
            "Optimizer": f"{cost['optimizer_bytes'] / 1e6:.2f} MB",
            "Activations": f"{cost['activation_bytes'] / 1e6:.2f} MB",
            "Training": f"{statistics.median(self.seconds):.1f} s",
        }


NAMES = {"all": "all frozen", "none": "none frozen", "scratch": "from scratch"}


class TransferReport:
    """
    Collects variants of a transfer over seeds, on the test split. Make it before anything is trained.

    Args:
        transfer_args ([`~hf_genkit.arguments.TransferArguments`]): What is compared.
        data_args ([`~hf_genkit.DataArguments`]): Where the data comes from.
        args ([`~hf_genkit.FineTuningConfig`]): How the models are trained, and the folder of the comparison.
        command (`str`): The command that is being run.

    Raises:
        `ValueError`: The folder holds another comparison, and `args.resume_from_checkpoint` is not set; or the result
            shall be pushed and can't be.
    """

    def __init__(
        self, transfer_args: TransferArguments, data_args: DataArguments, args: FineTuningConfig, command: str
    ):
        claim_comparison(args, transfer_args, data_args)
        self.transfer_args, self.data_args, self.command = transfer_args, data_args, command
        self.folder, self.start = Path(args.output_dir), time.time()
        self.models: dict[str, TransferredModel] = {}
        self.histories: dict[str, list[list[dict]]] = {}
        self.best: TransferredModel | None = None

    def add(self, variant: str, trainer: FineTuningTrainer, test) -> None:
        """
        Validates and tests a trained model. All seeds of a variant come one after another.

        Args:
            variant (`str`): What it is, as in `transfer_args.variants`.
            trainer ([`~hf_genkit.FineTuningTrainer`]): Its trainer.
            test: Model inputs of the test split.
        """
        name = variant_name(variant)
        if name not in self.models:
            self.models[name] = TransferredModel(name, [], len(test), _cost(trainer))
            self.histories[name], self._first = [], trainer
        model = self.models[name]
        self.histories[name].append(list(trainer.state.log_history))
        model.seconds.append(
            next(log["train_runtime"] for log in trainer.state.log_history[::-1] if "train_runtime" in log)
        )
        model.validation.append(trainer.evaluate()["eval_accuracy"])
        model.values.append(trainer.evaluate(test, metric_key_prefix="test")["test_accuracy"])
        whole = len(model.values) == len(self.transfer_args.seeds)
        if whole and (
            self.best is None or statistics.fmean(model.validation) > statistics.fmean(self.best.validation)
        ):
            self.best, self.exported = model, self._first

    def write(self, data: ClassificationData, labels: int) -> FineTuningTrainer:
        """
        Prints the table and writes the model that was best on the validation split, of the first seed, with its card,
        results.json and curves.png.

        Args:
            data ([`~hf_genkit.data.ClassificationData`]): What the models were trained and tested on.
            labels (`int`): How many labelled samples they were trained on.

        Returns:
            [`~hf_genkit.FineTuningTrainer`]: The trainer of the written model, to push it with.
        """
        exported = self.exported
        exported.args.output_dir = str(self.folder)
        exported.save_model(_internal_call=True)
        if not exported.is_world_process_zero():
            return exported
        rows = [model.row() for model in self.models.values()]
        scratch, sentence = self.models.get(variant_name("scratch")), ""
        if scratch is not None and scratch is not self.best:
            sentence = describe_difference(self.best, scratch)
        seconds = time.time() - self.start
        print(f"\n{text_table(rows)}\n\n{sentence}")
        results = {
            "models": {name: asdict(model) for name, model in self.models.items()},
            "seeds": self.transfer_args.seeds,
            "best": self.best.name,
            "difference": sentence,
            "labels": labels,
            "seconds": round(seconds, 1),
            "processes": exported.accelerator.num_processes,
        }
        (self.folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        plot_curves(self.histories, self.folder / "curves.png", x="step")
        exported.create_model_card(**self._facts(data, labels, rows, sentence, seconds))
        print(
            f"\nThe best model on the validation split ({self.best.name}), its card and curves.png are in {self.folder}."
        )
        return exported

    def _facts(self, data: ClassificationData, labels: int, rows: list[dict], sentence: str, seconds: float) -> dict:
        """What the card says beyond what the trainer knows."""
        best, seeds = self.best, self.transfer_args.seeds
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
        interval = (best.interval.low, best.interval.high) if len(seeds) > 1 else None
        mean = statistics.fmean(best.values)
        result = Result(
            "accuracy",
            best.values[0],
            name="Accuracy",
            mean=mean,
            interval=interval,
            seeds=seeds,
            args=model_arguments(self.exported),
        )
        limits = [
            f"It knows {len(data.id2label)} classes only, and answers with one of them for any input.",
            f"The figures come from {best.samples:,} samples of one data set; other data were not tried.",
        ]
        if len(seeds) < 3:
            limits.append("One or two seeds are too few to tell small differences from chance.")
        dataset = dataset_facts(data, self.data_args, best.samples)
        if self.transfer_args.pretraining_classes:  # which are left out
            dataset.args["classes"] = list(data.label2id)
        facts = {
            "dataset": dataset,
            "results": [result],
            "comparison": rows,
            "method": self._method(labels, sentence),
            "command": self.command,
            "hardware": f"{device}, {seconds:.0f} seconds for the whole comparison",
            "limits": limits,
            "pictures": [("curves.png", "Training loss and evaluation accuracy, mean and range over the seeds")],
        }
        return facts | image_facts(data, self.exported.processing_class)

    def _method(self, labels: int, sentence: str) -> str:
        names, classes = ", ".join(self.models), ", ".join(self.transfer_args.pretraining_classes)
        first = (
            f"The model was first trained on the classes {classes} and then transferred to these. " if classes else ""
        )
        return (
            f"{first}It is transfer learning with {labels:,} labelled samples. Of the variants {names}, {self.best.name} was "
            f"the most accurate on the validation split. {sentence[:1].upper()}{sentence[1:]}"
        ).strip()


def variant_name(variant: str) -> str:
    """What people call a variant."""
    return NAMES.get(variant) or f"first {variant.partition(':')[2]} frozen"


def _cost(trainer: FineTuningTrainer) -> dict:
    """What a step costs, on the first batch; the optimizer's memory is that of the trainer's own."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    labels = batch.pop("labels")
    inputs = with_float_pixels(student_inputs(batch, trainer.input_names), trainer.image_processor)
    with trainer.compute_loss_context_manager():
        cost = training_cost(trainer.accelerator.unwrap_model(trainer.model), {**inputs, "labels": labels}, steps=3)
    return {**asdict(cost), "optimizer_bytes": optimizer_bytes(trainer.optimizer)}
