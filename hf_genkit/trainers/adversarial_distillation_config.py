"""Arguments of [`AdversarialDistillationTrainer`]."""

from dataclasses import dataclass, field

from ..arguments import check_choice, check_range
from ..losses.gan import GAN_LOSSES
from .distillation_config import DistillationConfig


# Those that need neither a bound on the discriminator's slope nor the teacher's scores in the student's steps.
ADVERSARIAL_LOSSES = [
    name
    for name, loss in GAN_LOSSES.items()
    if not (loss.weight_clip or loss.gradient_penalty or loss.needs_real_in_generator)
]


@dataclass
class AdversarialDistillationConfig(DistillationConfig):
    """
    Arguments of [`AdversarialDistillationTrainer`], on top of those of [`DistillationConfig`].

    Of each `n_critic + 1` optimizer steps the first `n_critic` are the discriminator's and the last is the student's.
    `max_steps` and epochs count both: with `n_critic` 1, a student learns in half of the steps.

    Args:
        discriminator_on (`str`, *optional*, defaults to `"logits"`):
            What the discriminator sees of teacher and student: "logits" (the log-probabilities at `temperature`) or
            "features" (the last hidden states: of tokens their own, of other samples the mean over all positions).
        discriminator_sees_labels (`bool`, *optional*, defaults to `False`): Whether it sees the item's label, too.
        discriminator_hidden_size (`int`, *optional*, defaults to 128): The width of its two hidden layers.
        discriminator_learning_rate (`float`, *optional*): Defaults to `learning_rate`, which is the student's.
        adversarial_loss_type (`str`, *optional*, defaults to `"non_saturating"`):
            "non_saturating", "saturating", "least_squares", "hinge" or "ganetic", see `hf_genkit.losses.gan`.
        adversarial_weight (`float`, *optional*, defaults to 0.1): Weight of the adversarial term in the student's loss.
        n_critic (`int`, *optional*, defaults to 1): Discriminator steps for each step of the student.

    Raises:
        `ValueError`: A value is outside its range; the message names it and what is allowed.
    """

    discriminator_on: str = field(
        default="logits", metadata={"help": "What the discriminator sees of teacher and student: logits or features."}
    )
    discriminator_sees_labels: bool = field(
        default=False, metadata={"help": "Whether the discriminator sees the item's label, too."}
    )
    discriminator_hidden_size: int = field(
        default=128, metadata={"help": "Width of the discriminator's two hidden layers."}
    )
    discriminator_learning_rate: float | None = field(
        default=None, metadata={"help": "The discriminator's learning rate; default: the student's."}
    )
    adversarial_loss_type: str = field(
        default="non_saturating", metadata={"help": f"Adversarial loss: {', '.join(ADVERSARIAL_LOSSES)}."}
    )
    adversarial_weight: float = field(
        default=0.1, metadata={"help": "Weight of the adversarial term in the student's loss."}
    )
    n_critic: int = field(default=1, metadata={"help": "Discriminator steps for each step of the student."})

    def __post_init__(self):
        check_choice("discriminator_on", self.discriminator_on, ["logits", "features"])
        check_choice("adversarial_loss_type", self.adversarial_loss_type, ADVERSARIAL_LOSSES)
        check_range(self, "discriminator_learning_rate", 0)
        check_range(self, "adversarial_weight", 0)
        for name in ("discriminator_hidden_size", "n_critic"):
            check_range(self, name, 1)
        if self.fp16:
            raise ValueError("`fp16` is true, but two networks can't share one loss scale: use bf16.")
        if self.teacher_top_k is not None and self.discriminator_on == "logits":
            raise ValueError(
                f"`teacher_top_k` is {self.teacher_top_k}, but a discriminator on logits needs every class."
            )
        if self.loss_type == "uld":
            raise ValueError(
                "`loss_type` is 'uld', but a discriminator needs teacher and student to share their tokens."
            )
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = True  # in each phase the other network is unused
        super().__post_init__()
