"""Arguments of [`DiffusionDistillationTrainer`]."""

from dataclasses import dataclass, field

from ..arguments import check_choice, check_range
from .diffusion_config import DiffusionConfig


METHODS = ["progressive", "consistency"]
# What the teacher or the method decides.
DECIDED = (
    "prediction_type", "noise_schedule", "num_train_timesteps", "zero_terminal_snr", "sigma_data", "flow_shift",
    "weighting", "snr_gamma", "timestep_density", "edm_mean", "edm_std", "super_resolution_factor", "latent_scaling",
    "sampler", "num_inference_steps",
)  # fmt: skip


@dataclass
class DiffusionDistillationConfig(DiffusionConfig):
    """
    Arguments of [`DiffusionDistillationTrainer`], on top of those of [`DiffusionConfig`] that neither the teacher nor the
    method decides.

    Args:
        method (`str`, *optional*, defaults to `"progressive"`):
            "progressive" ([Salimans and Ho, 2022](https://huggingface.co/papers/2202.00512)): in each stage the student
            learns to do in one step of DDIM what its teacher does in several, and then becomes the teacher of the next
            stage. "consistency" ([Song et al., 2023](https://huggingface.co/papers/2303.01469)): the student learns
            that all points of a path of the teacher lead to the same picture.
        teacher_steps (`int`, *optional*, defaults to 32): Steps of the teacher from noise to picture.
        student_steps (`int`, *optional*, defaults to 4): Steps of the student.
        stage_factor (`int`, *optional*, defaults to 2):
            How many of its teacher's steps a progressive student learns at once: 2 halves the steps in each stage; more
            needs fewer stages, each with as many calls of the teacher for every picture. The last stage may need fewer.
        teacher_guidance_scale (`float`, *optional*, defaults to 1.0):
            Guidance with which the teacher draws, to be learned along: the student needs one call where the teacher
            needs two; 1 is none.
        target_decay (`float`, *optional*, defaults to 0.95):
            Decay of the moving average that a consistency student learns from.
        condition_dropout (`float`, *optional*, defaults to 0.0):
            Share of labels or captions that are left out: above 0 if the student shall be guided, too.
        ema_decay (`float`, *optional*, defaults to 0.999): As for [`DiffusionConfig`]; averages begin anew in each stage.
        max_steps (`int`): Optimizer steps of all stages together, which share them evenly. The schedule of the learning
            rate, warm-up included, runs once in each.

    Raises:
        `ValueError`: A value lies outside its range, `student_steps` can't be reached by halving, there are fewer steps
            than stages, or an option is set that the teacher or the method decides.
    """

    method: str = field(default="progressive", metadata={"help": f"How the student learns: {', '.join(METHODS)}."})
    teacher_steps: int = field(default=32, metadata={"help": "Steps of the teacher from noise to picture."})
    student_steps: int = field(default=4, metadata={"help": "Steps of the student."})
    stage_factor: int = field(
        default=2, metadata={"help": "How many steps of its teacher a progressive student learns at once, in a stage."}
    )
    teacher_guidance_scale: float = field(
        default=1.0, metadata={"help": "Guidance of the teacher that the student learns along; 1 is none."}
    )
    target_decay: float = field(
        default=0.95, metadata={"help": "Decay of the average that a consistency student learns from."}
    )
    condition_dropout: float = field(default=0.0, metadata={"help": "Share of labels or captions to leave out."})
    ema_decay: float = field(default=0.999, metadata={"help": "Decay of the weights' moving average; 0 for none."})

    def __post_init__(self):
        fields = DiffusionConfig.__dataclass_fields__
        for name in DECIDED:
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"`{name}` is {getattr(self, name)}, but the teacher or the method decides it.")
        check_choice("method", self.method, METHODS)
        check_range(self, "student_steps", 1)
        check_range(self, "teacher_steps", self.student_steps + (self.method == "progressive"))
        check_range(self, "teacher_guidance_scale", 0)
        check_range(self, "target_decay", 0, 0.999999)
        if self.stage_factor < 2 or not is_power_of_two(self.stage_factor):
            raise ValueError(f"`stage_factor` is {self.stage_factor}, but it must be a power of two, such as 2 or 4.")
        ratio, rest = divmod(self.teacher_steps, self.student_steps)
        if self.method == "progressive" and (rest or not is_power_of_two(ratio)):
            raise ValueError(
                f"`student_steps` is {self.student_steps}, but halving the {self.teacher_steps} of `teacher_steps` never "
                "gets there."
            )
        if self.max_steps < len(self.stages):
            raise ValueError(
                f"`max_steps` is {self.max_steps}, but there {_are(len(self.stages))} from {self.teacher_steps} steps to "
                f"{self.student_steps}, which share them."
            )
        super().__post_init__()
        self.num_inference_steps = self.stages[0][1]

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Steps of teacher and student in each stage."""
        if self.method == "consistency":
            return [(self.teacher_steps, self.student_steps)]
        found, steps = [], self.teacher_steps
        while steps > self.student_steps:
            found.append((steps, max(steps // self.stage_factor, self.student_steps)))
            steps = found[-1][1]
        return found

    def stage_start(self, stage: int) -> int:
        """The optimizer step with which a stage begins."""
        return -(-stage * self.max_steps // len(self.stages))

    def stage_of(self, step: int) -> int:
        """The stage that an optimizer step, counted from 0, belongs to."""
        return min(step * len(self.stages) // self.max_steps, len(self.stages) - 1)


def is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _are(stages: int) -> str:
    return "is one stage" if stages == 1 else f"are {stages} stages"
