"""The comparison of models that make pictures, from the data to the report; what is done is not done again."""

import json
from pathlib import Path

import torch
from accelerate import PartialState

from ..arguments import FineTuningDataArguments, GenerativeModelArguments
from ..arguments.comparison_arguments import IMAGES, ComparisonArguments, ComparisonOutputArguments
from ..data import ImageData, load_data
from ..evaluation import PictureJudge
from ..report.blocks import Report
from ..trainers.generation_report import dataset_facts
from ..trainers.generative_config import GenerativeConfig
from ..trainers.generative_models import feature_extractor
from ..trainers.pictures import PicturesMixin
from .budget import CLOCK_NAMES, Budget
from .claiming import RESULTS, claimed, device_name, versions
from .control import cross_fades, judge_control, smoothness
from .families import FAMILIES
from .findings import budget_words, short_names
from .judging import judge_painter, network_cost
from .kinds import check_kinds
from .painters import Painter, check_alike, load_painter
from .pictures import draw_pictures
from .story import tell
from .training import FamilyTraining, Pictures


NEIGHBOURS = 5  # of precision, recall, density and coverage
SAMPLING_SEED = 1_000_000  # away from the seeds that models are trained with
LIMITS = [
    "Samples show what the training data hold, with their gaps and biases.",
    "It was trained with the budget of a comparison, which is named above, and not to the end.",
    "The scores compare models that were judged with the same features, images and number of samples only.",
]


class PictureComparison:
    """
    One comparison and its folder.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): What is compared.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): The real pictures.
        output ([`~hf_genkit.arguments.ComparisonOutputArguments`]): Where it goes.
        command (`str`): The command that is run.

    Raises:
        `ValueError`: The folder holds another comparison or another's report, models differ in the size of their pictures, or
            there are too few of them to judge.
    """

    def __init__(
        self,
        args: ComparisonArguments,
        data_args: FineTuningDataArguments,
        output: ComparisonOutputArguments,
        command: str,
    ):
        self.args, self.data_args, self.output = args, data_args, output
        self.command = command
        self.folder, self.is_main = Path(output.output_dir), PartialState().is_main_process
        self.common = GenerativeConfig(
            output.output_dir,
            use_cpu=output.use_cpu,
            bf16=args.bf16,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=250,
            num_sample_pictures=36,
            license=output.license,
        )
        check_kinds(args.models, IMAGES)
        with PartialState().main_process_first():
            data = ImageData(load_data(**data_args.for_loading()), **data_args.image_columns())
            self.pictures = Pictures.load(data, data_args)
        painters = [load_painter(name, "cpu") for name in args.models]
        check_alike(painters, self.pictures.train.pixels.shape[1:])
        fewest = min(args.num_judged_pictures, len(self.pictures.test), args.max_real_pictures)
        if fewest <= NEIGHBOURS:
            raise ValueError(
                f"There are {fewest} pictures to judge by, but precision and recall need more than {NEIGHBOURS}."
            )
        together = args.batch_size * PartialState().num_processes
        if not args.models and len(self.pictures.train) < together:
            raise ValueError(
                f"A training step takes {together} images, but there are {len(self.pictures.train)} to learn from."
            )
        self.device = self.common.device

    def _make_judge(self) -> PictureJudge:
        args = self.args
        name = f"{Path(self.data_args.dataset_name).name} classifier"
        extractor = feature_extractor(
            GenerativeModelArguments(feature_extractor=args.feature_extractor, feature_size=args.feature_size),
            self.pictures.data,
            self.folder / "runs" / name,
            self.data_args.image_size,
            use_cpu=self.output.use_cpu,
        )
        extractor.model.to(self.common.device)
        options = {"max_samples": args.max_real_pictures, "neighbours": NEIGHBOURS}
        return PictureJudge(extractor, self.pictures.test, floor_set=self.pictures.train, **options)

    def run(self) -> Report:
        """Trains, judges and draws what is not there yet, writes results.json, and tells it all as a report."""
        plans = {}
        training = FamilyTraining(self.args, self.common, self.pictures, self.folder)
        with claimed(self.folder, self.common, self.args, self.data_args):
            if not self.args.models:
                plans = training.plans()
        self.judge = self._make_judge()  # on all processes: a classifier may be trained
        if self.args.models:
            runs = [self._judged(name, seed) for name in self.args.models for seed in self.args.seeds]
        else:
            runs = [
                self._trained(training, plans, key, seed) for seed in self.args.seeds for key in self.args.families
            ]
        if not self.is_main:
            return None
        found = {
            "runs": runs,
            "plans": {key: vars(plan) for key, plan in plans.items()},
            "floor": self._floor(),
            "cross_fade": self._cross_fade(),
            "facts": self._facts(runs),
            "command": self.command,
            "slug": self.judge.extractor.slug,
            "settings": {
                name: getattr(self.args, name) for name in ("budget", "clock", "seeds", "num_judged_pictures")
            },
        }
        found["pictures"] = draw_pictures(self._shown(runs), self.folder, self.args.sampling_steps)
        (self.folder / RESULTS).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return tell(found)

    # ---- Runs ----

    def _trained(self, training: FamilyTraining, plans: dict, key: str, seed: int) -> dict:
        path = self.folder / "runs" / f"{key}-seed-{seed}.json"
        if not path.is_file():
            own = self.folder / "runs" / f"{key}-seed-{seed}"
            folder = self.folder / FAMILIES[key].folder if seed == self.args.seeds[0] else own
            record = training.run(key, seed, plans[key], folder, self._finish)
            record |= {"name": FAMILIES[key].title, "model": str(folder.relative_to(self.folder))}
            PartialState().wait_for_everyone()
            if record["finite"] and self.is_main:
                record |= self._measure(load_painter(str(folder), self.device, FAMILIES[key].title), seed)
            self._note(path, record)
        PartialState().wait_for_everyone()
        return json.loads(path.read_text())

    def _judged(self, name: str, seed: int) -> dict:
        number = self.args.models.index(name)
        path = self.folder / "runs" / f"model-{number}-seed-{seed}.json"
        if not path.is_file() and self.is_main:
            painter = load_painter(name, self.device, short_names(self.args.models)[number])
            record = {"family": painter.family, "seed": seed, "name": painter.name, "model": name, "finite": True}
            self._note(path, record | self._measure(painter, seed))
        PartialState().wait_for_everyone()
        return json.loads(path.read_text())

    def _measure(self, painter: Painter, seed: int) -> dict:
        """What a model's pictures are worth and cost."""
        args, drawn = self.args, SAMPLING_SEED + seed
        points = judge_painter(painter, self.judge, args.num_judged_pictures, drawn, args.sampling_steps, args.clock)
        control = judge_control(painter, self.judge, args.num_paths, drawn, max(args.sampling_steps))
        return {"points": points, "control": control, **network_cost(painter)}

    def _note(self, path: Path, record: dict) -> None:
        """Keeps a finished run's record, whole or not at all."""
        if self.is_main:
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            unfinished.replace(path)

    def _finish(self, trainer: PicturesMixin, record: dict) -> None:
        """Saves a trained model with its card."""
        trainer.save_model(_internal_call=True)
        used = f"{record['seconds']:.0f} seconds in {record['steps']} steps"
        trainer.create_model_card(
            dataset=dataset_facts(self.pictures.data, self.data_args, len(self.pictures.test)),
            results=[],
            command=self.command,
            hardware=f"{device_name(self.device)}, {used}",
            limits=LIMITS,
        )

    # ---- What is shared by all ----

    def _floor(self) -> dict[str, float]:
        self.judge.samples = self.args.num_judged_pictures
        return self.judge.floor

    def _cross_fade(self) -> dict[str, float]:
        real = torch.from_numpy(self.pictures.test.pixels[: 2 * self.args.num_paths].copy())
        faded = cross_fades(real, len(real) // 2)
        return smoothness(faded, self.judge.extractor, self.judge.reference_features, self.judge.neighbours)

    def _shown(self, runs: list[dict]) -> list[Painter]:
        """The models of the first seed, to draw with."""
        first = [run for run in runs if run["seed"] == self.args.seeds[0] and run["finite"]]
        places = [run["model"] if self.args.models else str(self.folder / run["model"]) for run in first]
        return [load_painter(place, self.device, run["name"]) for place, run in zip(places, first, strict=True)]

    def _facts(self, runs: list[dict]) -> dict[str, str]:
        args, judge, data = self.args, self.judge, dataset_facts(self.pictures.data, self.data_args)
        real, drawn = min(len(self.pictures.test), args.max_real_pictures), args.num_judged_pictures
        side = self.pictures.side
        trained = {
            "Budget": f"{budget_words(args.budget)} for each model and seed"
            + (
                f" ({CLOCK_NAMES[args.clock]} within training steps)"
                if Budget.from_string(args.budget).seconds
                else ""
            ),
            "Batch": f"{args.batch_size} images",
            "Training": f"{sum(run.get('whole_seconds', 0.0) for run in runs):,.0f} seconds of all runs together",
        }
        return {
            "Data": f"{data.name}, {len(self.pictures.train):,} training images of {side} x {side} pixels",
            **({} if args.models else trained),
            "Seeds": ", ".join(map(str, args.seeds)),
            "Judged by": f"{drawn:,} pictures of each model against {real:,} of the split '{data.split}', features of "
            f"{judge.extractor.name}; the floor is as many training images",
            "Hardware": f"{device_name(self.device)}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}",
            "Versions": versions("diffusers"),
        }


def compare_pictures(
    args: ComparisonArguments,
    data_args: FineTuningDataArguments,
    output: ComparisonOutputArguments,
    command: str,
) -> Report | None:
    """
    Trains a VAE, a GAN and a diffusion model with one budget, or takes models by name, judges them alike and writes their
    models, pictures and results.json.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): What is compared.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): The real pictures.
        output ([`~hf_genkit.arguments.ComparisonOutputArguments`]): Where it goes.
        command (`str`): The command that is run.

    Returns:
        [`~hf_genkit.report.blocks.Report`], or `None` on processes other than the first.
    """
    return PictureComparison(args, data_args, output, command).run()
