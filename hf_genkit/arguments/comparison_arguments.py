"""What a comparison of models is told: what is trained with which budget, what is judged by name, and where it goes."""

import re
from dataclasses import dataclass, field

from .checks import check_choice, check_range, parse_json
from .finetuning_arguments import TASKS


IMAGES = "image-generation"
COMPARED_TASKS = (
    IMAGES,
    "image-classification",
    "text-classification",
    "text-generation",
    "automatic-speech-recognition",
)
FAMILIES = ("vae", "gan", "diffusion")
CLOCKS = ("wall", "cpu")
UNITS = {"s": 1, "m": 60, "h": 3600, "steps": 1, "flops": 1}
BUDGET = re.compile(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*(s|m|h|steps|flops)", re.IGNORECASE)


def parse_budget(text: str) -> tuple[float, str]:
    """
    A budget such as "30s", "10m", "2h", "500steps" or "1e15flops".

    Args:
        text (`str`): What was written.

    Returns:
        `tuple[float, str]`: The amount, and "seconds", "steps" or "flops".

    Raises:
        `ValueError`: It is none of these, or not above 0.
    """
    found = BUDGET.fullmatch(text.strip())
    amount = float(found[1]) * UNITS[found[2].lower()] if found else 0.0
    if not 0 < amount < float("inf"):
        raise ValueError(f"`budget` is '{text}', but it must be like 30s, 10m, 2h, 500steps or 1e15flops.")
    unit = found[2].lower()
    return amount, unit if unit in ("steps", "flops") else "seconds"


@dataclass
class ComparisonArguments:
    """What is compared: a VAE, a GAN and a diffusion model that are trained alike, or models given by name."""

    models: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Judge these models, Hub ids or local folders, and train none: VAEs, GANs and diffusion pipelines, or, "
            "with a task, models of that task, an exported ONNX folder among them."
        },
    )
    task: str = field(default=IMAGES, metadata={"help": f"What the models are for: {', '.join(COMPARED_TASKS)}."})
    budget: str = field(
        default="1m",
        metadata={
            "help": "What each family may use with each seed: time in training steps (30s, 10m, 2h), optimizer steps "
            "(500steps) or training FLOPs (1e15flops)."
        },
    )
    clock: str = field(
        default="wall",
        metadata={
            "help": "How seconds are counted: wall, or cpu for the process's CPU time on a machine that is shared."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={
            "help": "One run of each family for each seed; of models given by name the seeds draw the pictures."
        },
    )
    families: list[str] = field(
        default_factory=lambda: list(FAMILIES), metadata={"help": f"What is trained: some of {', '.join(FAMILIES)}."}
    )
    parameters: int = field(
        default=500_000,
        metadata={"help": "About how many trained parameters each new model gets, where its options set no width."},
    )
    vae: dict | str | None = field(
        default=None,
        metadata={
            "help": "Options of the VAE as JSON: those of VAETrainingConfig, and in model_config those of its config."
        },
    )
    gan: dict | str | None = field(default=None, metadata={"help": "Options of the GAN: those of GANTrainingConfig."})
    diffusion: dict | str | None = field(
        default=None, metadata={"help": "Options of the diffusion model: those of DiffusionConfig."}
    )
    batch_size: int = field(
        default=64, metadata={"help": "Images of a training step on each device, of all families."}
    )
    bf16: bool = field(default=False, metadata={"help": "Train all families in bfloat16 mixed precision."})
    sampling_steps: list[int] = field(
        default_factory=lambda: [5, 10, 20, 50],
        metadata={"help": "Numbers of steps to draw with a diffusion model; the largest is what the tables show."},
    )
    num_judged_pictures: int = field(default=1000, metadata={"help": "Pictures that each model is judged by."})
    num_paths: int = field(
        default=16, metadata={"help": "Interpolations, of 12 pictures each, by which latent control is judged."}
    )
    max_real_pictures: int = field(
        default=10_000, metadata={"help": "Judge against so many pictures of the test split at most."}
    )
    feature_extractor: str = field(
        default="classifier",
        metadata={
            "help": "Vision model whose features judge the pictures: Hub id or local folder, or 'classifier' to train a small "
            "one on the data's labels."
        },
    )
    feature_size: int | None = field(
        default=None, metadata={"help": "Side, in pixels, of the pictures it sees; default: its own."}
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={"help": "Run modeling code that comes with the repo of a model of a task."},
    )

    def __post_init__(self):
        check_choice("task", self.task, list(COMPARED_TASKS))
        check_choice("clock", self.clock, list(CLOCKS))
        parse_budget(self.budget)
        for family in self.families:
            check_choice("families", family, list(FAMILIES))
            self._read(family)
        for name, values in (
            ("seeds", self.seeds),
            ("families", self.families),
            ("sampling_steps", self.sampling_steps),
        ):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` is {values}, but it must hold one value or more, each of them once.")
        if min(self.sampling_steps) < 1:
            raise ValueError(f"`sampling_steps` is {self.sampling_steps}, but each must be at least 1.")
        for name in ("parameters", "batch_size", "num_paths", "feature_size"):
            check_range(self, name, 1)
        for name in ("num_judged_pictures", "max_real_pictures"):
            check_range(self, name, 8)
        if self.feature_extractor == "none":
            raise ValueError("`feature_extractor` is 'none', but a comparison needs features to judge pictures by.")
        if self.task in TASKS and len(self.models) < 2:
            raise ValueError(
                f"`task` is {self.task}, so `models` must name two models or more: only pictures are trained."
            )
        if len(set(self.models)) < len(self.models):
            raise ValueError(f"`models` names one model twice: {' '.join(self.models)}.")

    def _read(self, family: str) -> None:
        """Options that were given as the text of a JSON object become one."""
        given = getattr(self, family)
        if isinstance(given, str):
            setattr(self, family, None if given == "null" else parse_json(family, given))


@dataclass
class ComparisonOutputArguments:
    """Where a comparison goes, and on what it runs."""

    output_dir: str = field(default="outputs/comparison", metadata={"help": "Folder of the report and the models."})
    use_cpu: bool = field(default=False, metadata={"help": "Run on the CPU even where there is an accelerator."})
    license: str | None = field(default=None, metadata={"help": "License of the trained models for their cards."})
    push_to_hub: bool = field(
        default=False, metadata={"help": "Push the report to the Hub, as a static Space that shows it."}
    )
    hub_space_id: str | None = field(
        default=None,
        metadata={"help": "The Space: 'name' or 'namespace/name'; default: the output folder's name."},
    )
    hub_token: str | None = field(
        default=None, metadata={"help": "Token with write permission; default: the login's."}
    )
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new Space is private."})

    def __post_init__(self):
        if self.hub_space_id is not None and not self.push_to_hub:
            raise ValueError(f"`hub_space_id` is '{self.hub_space_id}', but `push_to_hub` is not set.")
