"""Command lines, YAML files and terminals of recipes, and the argument dataclasses that recipes share."""

import argparse
import dataclasses
import difflib
import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.hf_argparser import HfArgumentParser
from transformers.utils.logging import disable_progress_bar


def nearest(word: str, known: list[str]) -> str:
    """Returns " (did you mean 'x'?)" for the known word closest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def check_range(owner: Any, name: str, low: float, high: float = float("inf"), *, above: bool = False) -> None:
    """
    Raises a `ValueError` that names the value and the range unless `low <= owner.name <= high`.

    Args:
        owner (`Any`): The dataclass instance that holds the value; a value of `None` passes.
        name (`str`): The field to check.
        low (`float`): The smallest value allowed.
        high (`float`, *optional*, defaults to infinity): The largest value allowed.
        above (`bool`, *optional*, defaults to `False`): Whether `low` itself is refused.
    """
    value = getattr(owner, name)
    if value is None or (low < value <= high if above else low <= value <= high):
        return
    allowed = f"above {low}" if above else f"at least {low}"
    if high != float("inf"):
        allowed += f" and at most {high}"
    raise ValueError(f"`{name}` is {value}, but it must be {allowed}.")


def check_choice(name: str, value: str, allowed: list[str]) -> None:
    """Raises a `ValueError` that names `value` and what is allowed unless it is one of `allowed`."""
    if value not in allowed:
        names = ", ".join(allowed) if len(allowed) <= 20 else f"{len(allowed)} known names"
        raise ValueError(f"`{name}` is '{value}', but it must be one of {names}{nearest(value, allowed)}.")


def parse_json(name: str, text: str) -> dict:
    """A JSON object given as an option's text; a `ValueError` names the option if it is none."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` is '{text}', but it must be a JSON object such as '{{\"key\": 1}}'.")
    return value


class PlainLoader(yaml.SafeLoader):
    """Reads plain words as YAML 1.2 does: `5e-4` is a number, `off` and `no` are words and not booleans."""


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|false)$", re.IGNORECASE), list("tTfF"))
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


class GenkitParser(HfArgumentParser):
    """
    Reads dataclasses from the command line and, with `--config FILE.yaml`, from a YAML file.

    The YAML gives defaults and the command line wins. YAML values take the same road as the command line's, so types
    and choices are checked alike (`5e-4` is a number in both); null leaves an option at its default. An unknown key is
    an error that names the nearest known one, abbreviations are off, and a value that a dataclass refuses ends the
    program with that one sentence.

    Args:
        dataclass_types (`type` or `Iterable[type]`): The dataclasses to fill, from any number of modules.
        default_config (`Path`, *optional*): The YAML file of a command line that names neither a config nor data.
        kwargs (`dict[str, Any]`, *optional*): Passed to `argparse.ArgumentParser`.

    Example:

    ```python
    >>> from hf_genkit import DistillationConfig, GenkitParser
    >>> parser = GenkitParser(DistillationConfig)
    >>> (config,) = parser.parse_args_into_dataclasses(["--alpha", "0.9"])
    >>> config.alpha
    0.9
    ```
    """

    def __init__(self, dataclass_types, default_config: Path | None = None, **kwargs):
        self.default_config = default_config
        kwargs = {"allow_abbrev": False, "usage": "%(prog)s [--config FILE.yaml] [--option value ...]", **kwargs}
        super().__init__(dataclass_types, **kwargs)
        self.add_argument("--config", metavar="FILE.yaml", help="YAML file with defaults for any of these options.")

    def parse_args_into_dataclasses(self, args: list[str] | None = None) -> tuple:
        """
        Parses a command line.

        Args:
            args (`list[str]`, *optional*, defaults to `sys.argv[1:]`): The words of the command line.

        Returns:
            `tuple`: One instance of each dataclass, in the order they were given.
        """
        args = sys.argv[1:] if args is None else list(args)
        names_data = any(word.startswith(("--config", "--dataset_name", "--dataset-name")) for word in args)
        if self.default_config is not None and not names_data:
            args = ["--config", str(self.default_config), *args]
        config_finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config_finder.error = self.error
        config_finder.add_argument("--config")
        config_file = config_finder.parse_known_args(args)[0].config
        words_from_yaml = [] if config_file is None else self._words_from_yaml(config_file)
        namespace, unknown = self.parse_known_args(words_from_yaml + args)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0]).split("=")[0]
            options = [option for action in self._actions for option in action.option_strings]
            self.error(f"unknown option '{word}'{nearest(word, options)}.")
        values = vars(namespace)
        instances = []
        for cls in self.dataclass_types:
            names = [f.name for f in dataclasses.fields(cls) if f.init]
            try:
                instances.append(cls(**{name: values[name] for name in names}))
            except ValueError as error:
                self.error(str(error))
        return tuple(instances)

    def error(self, message: str):
        """Ends the program with one sentence: the usage line of a hundred options would hide it."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def _words_from_yaml(self, path: str) -> list[str]:
        """The YAML file as the words of a command line."""
        if not Path(path).is_file():
            self.error(f"the config file '{path}' does not exist.")
        try:
            values = yaml.load(Path(path).read_text(encoding="utf-8"), PlainLoader)
        except yaml.YAMLError as error:
            self.error(f"the config file '{path}' is not valid YAML: {' '.join(str(error).split())}.")
        if not isinstance(values, dict):
            self.error(f"the config file '{path}' must hold 'key: value' lines, not a {type(values).__name__}.")
        known = [action.dest for action in self._actions if action.dest not in ("help", "config")]
        words = []
        for key, value in values.items():
            if key not in known:
                self.error(f"unknown key '{key}' in '{path}'{nearest(str(key), known)}.")
            if isinstance(value, list):
                words += [f"--{key}", *map(str, value)]
            elif value is not None:
                words.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
        return words


@contextmanager
def recipe_terminal() -> Iterator[None]:
    """
    Keeps a recipe's terminal readable: only downloads have bars of their own, and an error that hf_genkit, a file or
    the network raised ends the program with its sentence and the exit status 1. Other errors keep their traceback.
    """
    shows_downloads = not are_progress_bars_disabled()
    disable_progress_bar()
    if shows_downloads:
        enable_progress_bars()
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raised_in, _ = list(traceback.walk_tb(error.__traceback__))[-1]
        if not isinstance(error, OSError) and not raised_in.f_globals["__name__"].startswith("hf_genkit."):
            raise
        sys.exit(f"error: {error}")


@dataclass
class DataArguments:
    """Which data a recipe reads, and how its rows become model inputs."""

    dataset_name: str = field(
        default="digits",
        metadata={
            "help": "Hub id, local folder (save_to_disk, imagefolder, parquet/csv/json files) or file, or 'digits' "
            "(scikit-learn's 1,797 real 8x8 images, nothing to download)."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration (subset) of the data set."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Commit, tag or branch to pin the data to."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default=None,
        metadata={"help": "Split to evaluate and tune on; default: 'validation', else cut from the training split."},
    )
    test_split: str | None = field(
        default=None, metadata={"help": "Split for the final table; default: 'test', else the evaluation split."}
    )
    eval_fraction: float = field(
        default=0.1, metadata={"help": "Share of the training split to evaluate on where no split is there for it."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column; default: found by its type."})
    text_column: str | None = field(default=None, metadata={"help": "Text column; default: found by its type."})
    text_pair_column: str | None = field(default=None, metadata={"help": "Second text column for sentence pairs."})
    label_column: str | None = field(default=None, metadata={"help": "Label column; default: found by its name."})
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width, in pixels, to decode images to; default: as they are."}
    )
    augmentation: str | None = field(
        default=None,
        metadata={"help": "Image augmentation such as 'flip,shift:2'; drawn from (seed, epoch, index)."},
    )
    max_length: int = field(default=128, metadata={"help": "Longest text, in tokens; longer ones are cut."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on this many samples at most."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on this many samples at most."})
    labelled_samples: int | None = field(
        default=None,
        metadata={"help": "Keep this many labels; the other samples teach through the teacher's soft labels alone."},
    )
    streaming: bool = field(
        default=False, metadata={"help": "Read the training data as a stream, in constant memory (set --max_steps)."}
    )

    def __post_init__(self):
        check_range(self, "eval_fraction", 0, 0.9, above=True)
        for name in ("image_size", "max_length", "max_train_samples", "max_eval_samples", "labelled_samples"):
            check_range(self, name, 1)

    def for_loading(self) -> dict:
        """The arguments of [`~hf_genkit.data.load_data`]."""
        names = ("train_split", "eval_split", "test_split", "eval_fraction", "label_column", "streaming")
        limits = ("max_train_samples", "max_eval_samples")
        return {
            "name": self.dataset_name,
            "config": self.dataset_config,
            "revision": self.dataset_revision,
            **{name: getattr(self, name) for name in (*names, *limits)},
        }

    def columns(self) -> dict:
        """The arguments of [`~hf_genkit.data.ClassificationData`]."""
        names = ("image_column", "text_column", "text_pair_column", "label_column")
        return {name: getattr(self, name) for name in names}

    def image_columns(self) -> dict:
        """The arguments of [`~hf_genkit.data.ImageData`]."""
        return {name: getattr(self, name) for name in ("image_column", "label_column")}

    def for_inputs(self) -> dict:
        """The arguments of [`~hf_genkit.data.ClassificationData.inputs`] that all splits share."""
        return {"image_size": self.image_size, "max_length": self.max_length}


@dataclass
class NewModelArguments:
    """Which model that makes images a recipe trains."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Go on training this model: Hub id or local folder."}
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Config of a new model, as JSON with what differs from the defaults, such as '{\"latent_dim\": 32}'; "
            "size and channels come from the data, and with '\"conditional\": true' its classes."
        },
    )

    def __post_init__(self):
        if isinstance(self.model_config, str):
            self.model_config = None if self.model_config == "null" else parse_json("model_config", self.model_config)
        if self.model_config is not None and self.model_name_or_path is not None:
            raise ValueError(
                "Both `model_name_or_path` and `model_config` are given: a model is loaded or new. A YAML's model_config is "
                "taken back by --model_config null."
            )


@dataclass
class GenerativeModelArguments(NewModelArguments):
    """Which model that makes images a recipe trains, and which vision model judges its images."""

    feature_extractor: str = field(
        default="classifier",
        metadata={
            "help": "Vision model whose features judge the pictures: Hub id or local folder, 'classifier' to train a small "
            "one on the data's labels, or 'none'."
        },
    )
    feature_size: int | None = field(
        default=None, metadata={"help": "Side, in pixels, of the pictures it sees; default: its own."}
    )

    def __post_init__(self):
        super().__post_init__()
        check_range(self, "feature_size", 1)


@dataclass
class AnomalyArguments:
    """What counts as normal for a recipe that detects anomalies, and how it scores them."""

    normal_classes: list[str] = field(
        default_factory=list,
        metadata={"help": "Names of the classes to train on; images of all other classes are the anomalies."},
    )
    anomaly_dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Another data set as the anomalies: Hub id, local folder, or 'digits'; resized to the normal one."
        },
    )
    anomaly_split: str = field(default="test", metadata={"help": "Its split."})
    anomaly_kind: str = field(
        default="reconstruction",
        metadata={"help": "Score: reconstruction, scaled_reconstruction, elbo, likelihood or regret."},
    )
    target_fpr: float = field(
        default=0.01, metadata={"help": "Share of normal images that the saved threshold may flag."}
    )

    def __post_init__(self):
        if bool(self.normal_classes) == (self.anomaly_dataset_name is not None):
            given = "both" if self.normal_classes else "neither"
            raise ValueError(
                f"Anomalies come from exactly one of `normal_classes` and `anomaly_dataset_name`; given: {given}."
            )
        check_range(self, "target_fpr", 0, 0.5, above=True)


@dataclass
class TeacherStudentArguments:
    """Which teacher and student a recipe pairs, and over which seeds it compares them."""

    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Teacher: Hub id or local folder of a model with a classification head."}
    )
    teacher_config: dict | str | None = field(
        default=None,
        metadata={"help": "Config of a teacher to train from scratch, as JSON with 'model_type' and what differs."},
    )
    teacher_epochs: float = field(
        default=0, metadata={"help": "Train the teacher on the labels for so many epochs first; 0 takes it as it is."}
    )
    teacher_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of that training."})
    student_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Student to start from: Hub id or local folder."}
    )
    student_config: dict | str | None = field(
        default=None, metadata={"help": "Config of a student with random weights, as JSON with 'model_type'."}
    )
    student_layers: list[int] | None = field(
        default=None, metadata={"help": "Make the student of these layers of the teacher, such as 0 5."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2],
        metadata={"help": "One pair of students is trained for each of these seeds."},
    )
    baseline: bool = field(
        default=True, metadata={"help": "Also train the same student alone, on the labels, to compare with."}
    )
    cache_only: bool = field(
        default=False, metadata={"help": "Fill the teacher cache and stop: no student is trained."}
    )

    def __post_init__(self):
        for role in ("teacher", "student"):
            config = getattr(self, f"{role}_config")
            if isinstance(config, str):
                setattr(self, f"{role}_config", parse_json(f"{role}_config", config))
        sources = {
            "teacher": ("teacher_model_name_or_path", "teacher_config"),
            "student": ("student_model_name_or_path", "student_config", "student_layers"),
        }
        for role, names in sources.items():
            given = [name for name in names if getattr(self, name) is not None]
            if len(given) != 1:
                raise ValueError(
                    f"The {role} needs exactly one of {', '.join(names)}; given: {', '.join(given) or 'none'}."
                )
        check_range(self, "teacher_epochs", 0)
        check_range(self, "teacher_learning_rate", 0, above=True)
        if self.teacher_config is not None and self.teacher_epochs == 0:
            raise ValueError("`teacher_epochs` is 0, but a teacher built from `teacher_config` has to be trained.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"`seeds` is {self.seeds}, but it must hold one or more different numbers from 0 on.")
