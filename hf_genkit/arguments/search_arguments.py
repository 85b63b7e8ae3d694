"""The arguments of a hyperparameter search."""

from dataclasses import dataclass, field

from .checks import check_choice, check_range, parse_json


SAMPLERS = ["tpe", "gp", "random", "grid"]
PRUNERS = ["median", "hyperband", "none"]
DIRECTIONS = ["minimize", "maximize"]


@dataclass
class SearchArguments:
    """Which options of which recipe a search tries, how it draws them, and what it goes by."""

    recipe: str | None = field(
        default=None, metadata={"help": "Name of the recipe to run, such as 'train_vae', or the path of a script."}
    )
    space: dict | str | None = field(
        default=None,
        metadata={
            "help": "What to try, as JSON: an option of the recipe to {low, high}, with log: true or a step, or to "
            '{choices}, such as \'{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}}\'. '
            "'model_config.latent_dim' is a key of an option that holds JSON."
        },
    )
    objectives: list[str] = field(
        default_factory=lambda: ["eval_loss:minimize"],
        metadata={
            "help": "What decides, as name:minimize or name:maximize: the last value in the run's log, else one of "
            "its results.json, with dots for what lies deeper. Several are weighed as a Pareto front."
        },
    )
    base_config: str | None = field(
        default=None,
        metadata={
            "help": "YAML file of the recipe, or the name of one of its configs, with what all trials share; default: the recipe's own."
        },
    )
    options: dict | str | None = field(
        default=None,
        metadata={"help": "Further options that all trials share, as JSON; they win over the base config."},
    )
    output_dir: str = field(
        default="outputs/search", metadata={"help": "Folder of the study, the trials and the report."}
    )
    n_trials: int | None = field(
        default=None, metadata={"help": "How many trials in all; default: 20, and all points of a grid."}
    )
    sampler: str = field(default="tpe", metadata={"help": "How values are drawn: tpe, gp, random or grid."})
    pruner: str = field(
        default="median",
        metadata={"help": "How evaluations end a bad trial early: median, hyperband or none; by one objective alone."},
    )
    workers: int = field(
        default=1, metadata={"help": "How many trials run at a time; on several GPUs, each has its own."}
    )
    seed: int = field(default=0, metadata={"help": "Trial i is drawn with this seed and i."})
    resume: bool = field(default=False, metadata={"help": "Go on with the search in output_dir."})
    launcher: str | None = field(
        default=None,
        metadata={"help": "What starts a trial, such as 'accelerate launch --num_processes 2'; default: Python."},
    )

    def __post_init__(self):
        for name in ("space", "options"):
            value = getattr(self, name)
            if isinstance(value, str):
                setattr(self, name, parse_json(name, value))
        for name in ("recipe", "space"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` is missing: a search needs a recipe and a space of its options.")
        self.options = self.options or {}
        check_choice("sampler", self.sampler, SAMPLERS)
        check_choice("pruner", self.pruner, PRUNERS)
        check_range(self, "n_trials", 1)
        check_range(self, "workers", 1)
        check_range(self, "seed", 0)
        for objective in self.objectives:
            name, _, direction = objective.rpartition(":")
            if not name:
                raise ValueError(f"`objectives` has '{objective}', but it must be name:minimize or name:maximize.")
            check_choice("objectives", direction, DIRECTIONS)
        if not self.objectives or len(self.metrics) != len(self.objectives):
            raise ValueError(f"`objectives` is {self.objectives}, but it must hold one or more different metrics.")

    @property
    def metrics(self) -> dict[str, str]:
        """Name of each metric that decides to its direction."""
        return {name: direction for name, _, direction in (text.rpartition(":") for text in self.objectives)}
