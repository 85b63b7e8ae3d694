"""Training the three families with one budget: what a step costs, how many steps that makes, and each run's record."""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback, set_seed

from ..arguments import DataArguments
from ..arguments.comparison_arguments import ComparisonArguments
from ..data import ArrayImageDataset, ImageData
from ..trainers.finetuning_report import optimizer_bytes
from ..trainers.generative_config import GenerativeConfig
from ..trainers.pictures import PicturesMixin
from ..trainers.progress import show_one_line
from .budget import Budget, StepCost, TrainingClock
from .families import FAMILIES, Family, build, cycle_of, model_options, trained_parameters, training_config


PROBED_CYCLES = 12
PROBE_SECONDS = 10.0
LOGS = 40
LEEWAY = 2  # times as many steps as were expected, where they are faster than when they were measured


@dataclass
class Pictures:
    """
    The data of a comparison.

    Args:
        data ([`~hf_genkit.data.ImageData`]): The data set.
        side (`int`): Height and width that the images are decoded to.
        train, test ([`~hf_genkit.data.ArrayImageDataset`]): What is learned from, and what all are judged against.
    """

    data: ImageData
    side: int
    train: ArrayImageDataset
    test: ArrayImageDataset

    @classmethod
    def load(cls, data: ImageData, args: DataArguments) -> "Pictures":
        """The training and the test split as arrays."""
        if data.is_streamed:
            raise ValueError("`streaming` is true, but pictures are judged against arrays of images: leave it out.")
        side = data.side(args.image_size)
        train = data.pictures(data.splits["train"], side, augmentation=args.augmentation)
        return cls(data, side, train, data.pictures(data.test_split, side))


@dataclass(frozen=True)
class Plan:
    """
    How a family is trained, the same for all seeds.

    Args:
        steps (`int`): Optimizer steps that the budget pays for; of a budget in seconds, an estimate.
        step_seconds, step_flops (`float`): What a step was measured to cost.
        cycle (`int`): Steps in which each network is trained once.
        model_config (`dict`): Options of its network.
        parameters (`int`): How many parameters are trained.
    """

    steps: int
    step_seconds: float
    step_flops: float
    cycle: int
    model_config: dict
    parameters: int


class FamilyTraining:
    """
    Trains families on the same pictures with the same budget, one run for each seed.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): What is compared.
        common (`GenerativeConfig`): What all runs have in common.
        pictures ([`Pictures`]): The data.
        folder (`Path`): The comparison's folder.
    """

    def __init__(self, args: ComparisonArguments, common: GenerativeConfig, pictures: Pictures, folder: Path):
        self.args, self.common, self.pictures, self.folder = args, common, pictures, folder
        self.budget = Budget.from_string(args.budget)

    # ---- The plan ----

    def plans(self) -> dict[str, Plan]:
        """
        The plan of each family; made once for a folder, by a few steps of each that are thrown away.

        Raises:
            `ValueError`: The budget does not pay for one step of a family. Nothing is trained then.
        """
        path = self.folder / "runs" / "plan.json"
        known = {key: Plan(**plan) for key, plan in json.loads(path.read_text()).items()} if path.is_file() else {}
        for key in self.args.families:
            if key not in known:
                known[key] = self._plan(FAMILIES[key])
        if PartialState().is_main_process:
            path.write_text(json.dumps({key: asdict(plan) for key, plan in known.items()}, indent=2) + "\n")
        PartialState().wait_for_everyone()
        return {key: known[key] for key in self.args.families}

    def _plan(self, family: Family) -> Plan:
        side, data = self.pictures.side, self.pictures.data
        with tempfile.TemporaryDirectory() as folder:
            config = training_config(family, self.args, self.common, output_dir=folder, seed=0, max_steps=1)
            cycle = cycle_of(config)
            if self.budget.unit == "steps":
                self.budget.steps(StepCost(0.0, 0.0), cycle, family.title)  # refused before anything is measured
            options = model_options(family, self.args, data, config, side)
            clock = TrainingClock(self.args.clock, PROBE_SECONDS, least=3 * cycle, counted=cycle)
            steps = {"max_steps": PROBED_CYCLES * cycle, "logging_strategy": "no", "disable_tqdm": True}
            trainer = self._trainer(family, options, clock, output_dir=folder, seed=0, **steps)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            found = [clock.cost(cycle)]
            cost = broadcast_object_list(found)[0] if PartialState().num_processes > 1 else found[0]
            parameters = trained_parameters(trainer.accelerator.unwrap_model(trainer.model))
        steps = self.budget.steps(cost, cycle, family.title)
        return Plan(steps, cost.seconds, cost.flops, cycle, options, parameters)

    def _trainer(self, family: Family, options: dict, clock: TrainingClock, **run) -> PicturesMixin:
        config = training_config(family, self.args, self.common, **run)
        set_seed(config.seed)
        parts = build(family, options, self.pictures.data, config, self.pictures.side)
        trainer = family.trainer(
            args=config,
            train_dataset=self.pictures.train,
            processing_class=self.pictures.data.processor(self.pictures.side),
            **parts,
        )
        trainer.add_callback(clock)
        return trainer

    # ---- Runs ----

    def run(
        self, key: str, seed: int, plan: Plan, folder: Path, finish: Callable[[PicturesMixin, dict], None]
    ) -> dict:
        """
        Trains a family with one seed and saves its model.

        Args:
            key (`str`): A key of `FAMILIES`.
            seed (`int`): The seed of its weights, data order and noise.
            plan ([`Plan`]): How long.
            folder (`Path`): Where the model goes.
            finish (`Callable`): Called with the trainer of a model whose weights are finite and the record, before it is
                saved.

        Returns:
            `dict`: What was used in each currency, what the training keeps in memory, the log with seconds, and whether it
            came to an end: `finite` and, of a GAN, `verdict`.
        """
        family = FAMILIES[key]
        clock = TrainingClock(self.args.clock, self.budget.seconds, least=plan.cycle)
        log = max(plan.cycle, plan.steps // LOGS // plan.cycle * plan.cycle)
        most = plan.steps if self.budget.seconds is None else math.ceil(LEEWAY * plan.steps)  # the clock ends it
        run = {"output_dir": str(folder), "seed": seed, "max_steps": most, "logging_steps": log}
        trainer = self._trainer(family, plan.model_config, clock, **run)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        start, finite = time.perf_counter(), True
        try:
            show_one_line(trainer, f"{family.title}, seed {seed}").train()
        except ValueError:
            if trainer.has_finite_weights():
                raise
            finite = False
        record = {
            "family": key,
            "seed": seed,
            "steps": trainer.state.global_step,
            "seconds": clock.seconds,
            "flops": trainer.state.global_step * plan.step_flops,
            "images": trainer.state.global_step * self.args.batch_size * trainer.args.world_size,
            "whole_seconds": time.perf_counter() - start,
            "parameters": plan.parameters,
            "finite": finite,
            **self._memory(trainer),
        }
        record["log"] = [
            {**_finite(entry), "seconds": clock.at[entry["step"]]}
            for entry in trainer.state.log_history
            if entry["step"] in clock.at
            and ("loss" in entry or "generator_loss" in entry or "discriminator_loss" in entry)
        ]
        if key == "gan" and record["log"]:
            verdict = trainer.analyze_stability()
            record |= {
                "verdict": verdict.title,
                "evidence": verdict.evidence,
                "collapsed": verdict.verdict == "mode_collapse",
            }
        if finite:
            start = time.perf_counter()
            if key == "vae":
                trainer.args.dataloader_drop_last = False  # which is meant for training: the prior sees all images
                trainer.fit_prior(self.pictures.train)
            record["after_seconds"] = time.perf_counter() - start
            finish(trainer, record)
        return record

    @staticmethod
    def _memory(trainer: PicturesMixin) -> dict:
        """Bytes that training keeps between two steps, and on a GPU the most that it ever held."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        return {
            "weight_bytes": sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]),
            "gradient_bytes": sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad),
            "optimizer_bytes": optimizer_bytes(trainer.optimizer),
            "peak_bytes": peak,
        }


def _finite(entry: dict) -> dict:
    """A log's numbers as JSON can hold them."""
    return {name: value for name, value in entry.items() if not isinstance(value, float) or math.isfinite(value)}
