"""The argument dataclasses of distillation: which student learns from whom, by which method."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .checks import check_choice, check_range, parse_json
from .finetuning_arguments import TASKS
from .parser import PlainLoader


METHODS = {
    "offline": "a finished teacher, or several",
    "online": "peers that teach each other",
    "self": "the student itself",
    "adversarial": "a finished teacher and a discriminator",
}


def chosen_method(words: list[str]) -> str:
    """
    The method that a command line names, or else its YAML file; "offline" by default.

    Args:
        words (`list[str]`): The words of the command line.

    Raises:
        `ValueError`: There is no such method.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method")
    finder.add_argument("--config")
    given, _ = finder.parse_known_args(words)
    method = given.method
    if method is None and given.config is not None and Path(given.config).is_file():
        try:
            values = yaml.load(Path(given.config).read_text(encoding="utf-8"), PlainLoader)
        except yaml.YAMLError:
            values = None  # which the parser of all options refuses
        method = values.get("method") if isinstance(values, dict) else None
    method = "offline" if method is None else str(method)
    check_choice("method", method, list(METHODS))
    return method


@dataclass
class StudentArguments:
    """Which students a recipe distils, for which task, and over which seeds it compares them."""

    method: str = field(
        default="offline",
        metadata={"help": f"Who teaches: {'; '.join(f'{name}: {who}' for name, who in METHODS.items())}."},
    )
    student_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Student to start from: Hub id or local folder."}
    )
    student_config: dict | str | None = field(
        default=None, metadata={"help": "Config of a student with random weights, as JSON with 'model_type'."}
    )
    freeze_encoder: bool = field(
        default=False,
        metadata={
            "help": "Keep the encoder of a sequence-to-sequence student as it is; a teacher's equal one shares it."
        },
    )
    task: str = field(default="auto", metadata={"help": f"auto (from the data and the model), {', '.join(TASKS)}."})
    vocab_size: int = field(
        default=4096, metadata={"help": "Size of the vocabulary that new language models learn from their data."}
    )
    chat_template: str | None = field(
        default=None, metadata={"help": "Jinja file with the chat template of a tokenizer that has none."}
    )
    language: str | None = field(
        default=None, metadata={"help": "Language of a multilingual model of speech, such as 'english'."}
    )
    also_test_on: list[str] = field(
        default_factory=list,
        metadata={"help": "Other data sets of the same form to test on, too: Hub ids or local folders."},
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={"help": "Students are trained for each of these seeds; default: 0 1 2 for classes, else 0."},
    )
    baseline: bool = field(
        default=True, metadata={"help": "Also train the same student alone, on the labels, to compare with."}
    )

    def __post_init__(self):
        check_choice("method", self.method, list(METHODS))
        check_choice("task", self.task, ["auto", *TASKS])
        check_range(self, "vocab_size", 300)
        self.student_config = _parsed("student_config", self.student_config)
        self._check_sources()
        if self.chat_template is not None and not Path(self.chat_template).is_file():
            raise ValueError(f"`chat_template` is '{self.chat_template}', but there is no such file.")
        seeds = self.seeds
        if seeds is not None and (not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0):
            raise ValueError(f"`seeds` is {seeds}, but it must hold one or more different numbers from 0 on.")

    def _check_sources(self) -> None:
        self._check_one_of("student", "student_model_name_or_path", "student_config")

    def _check_one_of(self, role: str, *names: str) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"The {role} needs exactly one of {', '.join(names)}; given: {', '.join(given) or 'none'}."
            )


@dataclass
class TeacherStudentArguments(StudentArguments):
    """Which teachers and student a recipe pairs, and over which seeds it compares them."""

    teacher_model_name_or_path: list[str] | None = field(
        default=None, metadata={"help": "Teacher, or several: Hub ids or local folders of models for the task."}
    )
    teacher_config: list[str] | None = field(
        default=None,
        metadata={"help": "Config of a teacher to train from scratch, as JSON with 'model_type', or several."},
    )
    teacher_epochs: float = field(
        default=0,
        metadata={"help": "Train the teachers on the labels for so many epochs first; 0 takes them as they are."},
    )
    teacher_learning_rate: float = field(default=1e-3, metadata={"help": "Learning rate of that training."})
    student_layers: list[int] | None = field(
        default=None,
        metadata={
            "help": "Make the student of these layers of the (first) teacher, such as 0 5; of its decoder if it has one."
        },
    )
    cache_only: bool = field(
        default=False, metadata={"help": "Fill the teacher cache and stop: no student is trained."}
    )

    def __post_init__(self):
        self.teacher_model_name_or_path = _as_list(self.teacher_model_name_or_path)
        self.teacher_config = _parsed("teacher_config", _as_list(self.teacher_config))
        super().__post_init__()

    def _check_sources(self) -> None:
        self._check_one_of("teacher", "teacher_model_name_or_path", "teacher_config")
        self._check_one_of("student", "student_model_name_or_path", "student_config", "student_layers")
        check_range(self, "teacher_epochs", 0)
        check_range(self, "teacher_learning_rate", 0, above=True)
        if self.teacher_config is not None and self.teacher_epochs == 0:
            raise ValueError("`teacher_epochs` is 0, but a teacher built from `teacher_config` has to be trained.")


@dataclass
class PeerArguments(StudentArguments):
    """Which students a recipe lets teach each other, and over which seeds it compares them."""

    student_model_name_or_path: list[str] | None = field(
        default=None, metadata={"help": "Peers to start from: Hub ids or local folders."}
    )
    student_config: list[str] | None = field(
        default=None,
        metadata={
            "help": "Configs of peers with random weights, each as JSON with 'model_type'; as many words as peers."
        },
    )

    def __post_init__(self):
        self.student_model_name_or_path = _as_list(self.student_model_name_or_path)
        self.student_config = _as_list(self.student_config)
        super().__post_init__()

    def _check_sources(self) -> None:
        peers = len(self.student_model_name_or_path or []) + len(self.student_config or [])
        if peers < 2:
            raise ValueError(
                "Peers come from `student_model_name_or_path` and `student_config`, two or more altogether; "
                f"given: {peers}."
            )


@dataclass
class SelfTaughtArguments(StudentArguments):
    """Which student a recipe lets teach itself, and over which seeds it is compared."""

    exits: list[int] | None = field(
        default=None,
        metadata={"help": "Give the student early exits behind these layers, for self_teacher deep_supervision."},
    )
    lora_rank: int | None = field(
        default=None,
        metadata={"help": "Give the student an adapter of this rank, for self_teacher adapter_off."},
    )

    def _check_sources(self) -> None:
        super()._check_sources()
        check_range(self, "lora_rank", 1)


def _as_list(value) -> list | None:
    return value if value is None or isinstance(value, list) else [value]


def _parsed(name: str, value):
    """A config, or each of several, that may be the text of a JSON object; "null" takes a YAML's back."""
    if value in ("null", ["null"]):
        return None
    if isinstance(value, list):
        return [_parsed(name, each) for each in value]
    return parse_json(name, value) if isinstance(value, str) else value
