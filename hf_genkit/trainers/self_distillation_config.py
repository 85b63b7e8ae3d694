"""Arguments of [`SelfDistillationTrainer`]."""

from dataclasses import dataclass, field, fields

from ..arguments import check_choice, check_range
from .distillation_config import DistillationConfig


SELF_TEACHERS = ("ema", "adapter_off", "deep_supervision", "born_again")

OF_ANOTHER_MODEL = ("teacher_weights", "teacher_revision", "teacher_dtype", "teacher_quantization")

KINDS_OF = {
    "ema_decay": ("ema",),
    "export_ema": ("ema",),
    "feature_hint": ("deep_supervision",),
    "generations": ("born_again",),
    "export_generation": ("born_again",),
    "feature_loss": ("ema", "born_again"),
    "relation_loss": ("ema", "born_again"),
    "teacher_top_k": ("ema", "adapter_off", "born_again"),
    "on_policy": ("ema", "adapter_off", "born_again"),
}


@dataclass
class SelfDistillationConfig(DistillationConfig):
    """
    Arguments of [`SelfDistillationTrainer`], on top of those of [`DistillationConfig`].

    Args:
        self_teacher (`str`, *optional*, defaults to `"ema"`):
            Where the soft targets come from:

            - `"ema"`: a moving average of the student's weights
              ([Tarvainen and Valpola, 2017](https://huggingface.co/papers/1703.01780)).
            - `"adapter_off"`: the base under the student's adapter, with the adapter switched off.
            - `"deep_supervision"`: the last layer of the student, for its own early exits
              ([Zhang et al., 2019](https://huggingface.co/papers/1905.08094)).
            - `"born_again"`: the generation before, which had the same architecture
              ([Furlanello et al., 2018](https://huggingface.co/papers/1805.04770)).
        ema_decay (`float`, *optional*, defaults to 0.999):
            What the average keeps of itself in each optimizer step, below 1. After n steps it is `(1 + n) / (10 + n)` at
            most, so that the first weights are soon forgotten.
        export_ema (`bool`, *optional*, defaults to `False`):
            Whether the trained model becomes the average at the end of training. Evaluations during training are those of
            the weights themselves.
        feature_hint (`float`, *optional*, defaults to 0.0):
            Weight of the cosine distance of what each exit reads from the mean over the last layer's positions.
        generations (`int`, *optional*, defaults to 3): How many generations there are, the first one included.
        export_generation (`str`, *optional*, defaults to `"last"`):
            "last", or "best" for the one with the highest accuracy on the evaluation set.

    Raises:
        `ValueError`: A value is outside its range, or belongs to another `self_teacher`; the message names it.
    """

    self_teacher: str = field(
        default="ema", metadata={"help": f"Where the soft targets come from: {', '.join(SELF_TEACHERS)}."}
    )
    ema_decay: float = field(
        default=0.999, metadata={"help": "What the moving average keeps of itself in each step, at full length."}
    )
    export_ema: bool = field(default=False, metadata={"help": "Let the trained model become the average in the end."})
    feature_hint: float = field(
        default=0.0, metadata={"help": "Weight of the distance of each exit's features from the last layer's."}
    )
    generations: int = field(default=3, metadata={"help": "Born-again generations, the first one included."})
    export_generation: str = field(
        default="last", metadata={"help": "Which generation is exported: last, or best on the evaluation set."}
    )

    def __post_init__(self):
        check_choice("self_teacher", self.self_teacher, list(SELF_TEACHERS))
        check_choice("export_generation", self.export_generation, ["last", "best"])
        check_range(self, "ema_decay", 0, 0.999999)
        check_range(self, "feature_hint", 0)
        check_range(self, "generations", 2)
        defaults = {each.name: each.default for each in fields(self)}
        for name in OF_ANOTHER_MODEL:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)!r}, but it is about another model, and this student is its own teacher."
                )
        for name, kinds in KINDS_OF.items():
            if getattr(self, name) not in (defaults[name], {}) and self.self_teacher not in kinds:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)!r}, but it belongs to self_teacher {' or '.join(kinds)}, and "
                    f"self_teacher is '{self.self_teacher}'."
                )
        if self.teacher_cache not in ("auto", "off") and self.self_teacher != "born_again":
            raise ValueError(
                f"`teacher_cache` is '{self.teacher_cache}', but a teacher that is the student itself has no cache: leave it "
                "at 'auto'."
            )
        super().__post_init__()
