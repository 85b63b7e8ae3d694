"""The argument dataclass of few-step students: which teacher, and what the students are compared with."""

from dataclasses import dataclass, field

from .checks import check_range, parse_json


@dataclass
class FewStepArguments:
    """Which diffusion model a few-step student learns from, and in how many steps both are judged."""

    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Diffusion pipeline to learn from: Hub id or local folder."}
    )
    teacher_revision: str | None = field(default=None, metadata={"help": "Its commit, tag or branch."})
    teacher_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Train a teacher first: config of its network, as JSON as model_config of train_ddpm.py has it."
        },
    )
    teacher_max_steps: int = field(default=1000, metadata={"help": "Optimizer steps of a teacher that is trained."})
    teacher_learning_rate: float = field(default=2e-3, metadata={"help": "Learning rate of that training."})
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
    compared_steps: list[int] = field(
        default_factory=lambda: [1, 2, 4, 8], metadata={"help": "Steps in which students and DPM++ are judged."}
    )
    compared_teacher_steps: int = field(default=50, metadata={"help": "Steps in which the teacher is judged."})
    caption_column: str | None = field(default=None, metadata={"help": "Column of the captions."})
    caption_template: str = field(
        default="a picture of a {label}",
        metadata={"help": "Caption of an image where there is no such column: {label} is the name of its class."},
    )

    def __post_init__(self):
        if isinstance(self.teacher_config, str):
            given = self.teacher_config
            self.teacher_config = None if given == "null" else parse_json("teacher_config", given)
        if (self.teacher_model_name_or_path is None) == (self.teacher_config is None):
            given = "neither" if self.teacher_config is None else "both"
            raise ValueError(
                f"A teacher is given by one of `teacher_model_name_or_path` and `teacher_config`; given: {given}."
            )
        for name in ("teacher_max_steps", "compared_teacher_steps", "feature_size"):
            check_range(self, name, 1)
        check_range(self, "teacher_learning_rate", 0, above=True)
        if any(steps < 1 for steps in self.compared_steps):
            raise ValueError(f"`compared_steps` is {self.compared_steps}, but each must be 1 or more.")
