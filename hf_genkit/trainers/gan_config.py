"""Arguments of [`GANTrainer`]."""

from dataclasses import dataclass, field

from ..arguments import check_choice, check_range
from ..data import DifferentiableAugmentation
from ..losses.gan import GAN_LOSSES
from .generative_config import GenerativeConfig


AUGMENTATIONS = ["none", "diffaugment", "ada"]


@dataclass
class GANTrainingConfig(GenerativeConfig):
    """
    Arguments of [`GANTrainer`], on top of those of [`~transformers.TrainingArguments`].

    Of each `n_critic + 1` optimizer steps the first `n_critic` are the discriminator's and the last is the
    generator's; `max_steps` counts both. Defaults that differ from `TrainingArguments`: `learning_rate` 2e-4,
    `adam_beta1` 0.5, `lr_scheduler_type` "constant", `max_grad_norm` 0 (no clipping).

    Args:
        loss_type (`str`, *optional*, defaults to `"non_saturating"`): A key of `hf_genkit.losses.gan.GAN_LOSSES`.
        n_critic (`int`, *optional*, defaults to 1): Discriminator steps for each step of the generator.
        discriminator_learning_rate (`float`, *optional*): Defaults to `learning_rate`, which is the generator's.
        discriminator_max_grad_norm (`float`, *optional*): Defaults to `max_grad_norm`, which is the generator's.
        r1_gamma, r2_gamma (`float`, *optional*, default to 0):
            Weights of the squared gradient norm at real (R1) and at generated pictures (R2); the loss gets half of
            each product ([Mescheder et al., 2018](https://huggingface.co/papers/1801.04406)).
        gradient_penalty (`float`, *optional*):
            Weight of `(|gradient| - 1)^2` between real and generated pictures; defaults to 10 for "wgan_gp", else 0
            ([Gulrajani et al., 2017](https://huggingface.co/papers/1704.00028)).
        penalty_interval (`int`, *optional*, defaults to 1):
            Apply these penalties at each n-th discriminator step alone, n times as strong, with Adam's rates adjusted
            ([Karras et al., 2020](https://huggingface.co/papers/1912.04958)).
        weight_clip (`float`, *optional*): Largest absolute weight of the critic; defaults to 0.01 for "wgan", else off.
        discriminator_augmentation (`str`, *optional*, defaults to `"none"`):
            What the discriminator sees through: "diffaugment" changes every picture
            ([Zhao et al., 2020](https://huggingface.co/papers/2006.10738)), "ada" as many as keep the discriminator
            from overfitting ([Karras et al., 2020](https://huggingface.co/papers/2006.06676)).
        discriminator_augmentation_policy (`str`, *optional*):
            Comma-separated parts, see [`~hf_genkit.data.DifferentiableAugmentation`]; the default is the augmentation's.
        ada_target (`float`, *optional*, defaults to 0.6): The mean sign of the real logits that "ada" aims at.
        ada_images (`int`, *optional*, defaults to 100000): Real images in which its probability may rise from 0 to 1.
        ema_decay (`float`, *optional*, defaults to 0.999): Decay of the generator's moving average, at full length.
        stop_on_failure (`bool`, *optional*, defaults to `True`):
            Stop when a loss is no number or the samples have collapsed, and go back to the last good checkpoint.

    Raises:
        `ValueError`: A value lies outside its range, or a name is unknown; the message names both.
    """

    loss_type: str = field(default="non_saturating", metadata={"help": f"Adversarial loss: {', '.join(GAN_LOSSES)}."})
    n_critic: int = field(default=1, metadata={"help": "Discriminator steps for each step of the generator."})
    learning_rate: float = field(default=2e-4, metadata={"help": "The generator's learning rate."})
    discriminator_learning_rate: float | None = field(
        default=None, metadata={"help": "The discriminator's learning rate; default: the generator's."}
    )
    adam_beta1: float = field(default=0.5, metadata={"help": "Adam's first decay rate."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Schedule of both learning rates."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "The generator's largest gradient norm; 0: any."})
    discriminator_max_grad_norm: float | None = field(
        default=None, metadata={"help": "The discriminator's largest gradient norm; default: the generator's."}
    )
    r1_gamma: float = field(default=0.0, metadata={"help": "Weight of the gradient penalty at real pictures (R1)."})
    r2_gamma: float = field(default=0.0, metadata={"help": "Weight of the penalty at generated pictures (R2)."})
    gradient_penalty: float | None = field(
        default=None, metadata={"help": "Weight of WGAN-GP's penalty; default: 10 for wgan_gp, else 0."}
    )
    penalty_interval: int = field(
        default=1, metadata={"help": "Apply the penalties at each n-th step, n times as strong."}
    )
    weight_clip: float | None = field(
        default=None, metadata={"help": "Largest absolute weight of the critic; default: 0.01 for wgan, else off."}
    )
    discriminator_augmentation: str = field(
        default="none", metadata={"help": f"Differentiable augmentation: {', '.join(AUGMENTATIONS)}."}
    )
    discriminator_augmentation_policy: str | None = field(
        default=None, metadata={"help": "Parts of the augmentation such as 'color,translation,cutout'."}
    )
    ada_target: float = field(default=0.6, metadata={"help": "Mean sign of the real logits that 'ada' aims at."})
    ada_images: int = field(
        default=100_000, metadata={"help": "Real images in which the probability of 'ada' may rise from 0 to 1."}
    )
    ema_decay: float = field(default=0.999, metadata={"help": "Decay of the generator's moving average."})
    stop_on_failure: bool = field(
        default=True, metadata={"help": "Stop at NaN or mode collapse and go back to the last good checkpoint."}
    )

    def __post_init__(self):
        check_choice("loss_type", self.loss_type, list(GAN_LOSSES))
        check_choice("discriminator_augmentation", self.discriminator_augmentation, AUGMENTATIONS)
        check_range(self, "n_critic", 1)
        check_range(self, "penalty_interval", 1)
        for name in ("discriminator_learning_rate", "discriminator_max_grad_norm"):
            check_range(self, name, 0)
        for name in ("r1_gamma", "r2_gamma", "gradient_penalty"):
            check_range(self, name, 0)
        check_range(self, "weight_clip", 0, above=True)
        check_range(self, "ada_target", 0, 1)
        check_range(self, "ada_images", 1)
        check_range(self, "ema_decay", 0, 1)
        if self.fp16:
            raise ValueError("`fp16` is true, but two networks can't share one loss scale: use bf16.")
        if self.discriminator_augmentation_policy is not None and self.discriminator_augmentation == "none":
            raise ValueError(
                f"`discriminator_augmentation_policy` is '{self.discriminator_augmentation_policy}', but `discriminator_augmentation` is 'none'."
            )
        self.make_augmentation()  # an unknown part is refused here
        if self.load_best_model_at_end and self.metric_for_best_model in (None, "loss", "eval_loss"):
            raise ValueError(
                "`load_best_model_at_end` is true, but no loss of a GAN says which checkpoint is best: set "
                "metric_for_best_model to a metric of the pictures such as 'fd_<extractor>'."
            )
        self.logging_nan_inf_filter = False
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = True  # in each phase the other network is unused
        if self.ddp_broadcast_buffers is None:
            self.ddp_broadcast_buffers = False
        super().__post_init__()

    def make_augmentation(self) -> DifferentiableAugmentation | None:
        """The augmentation that these arguments name, or `None`."""
        if self.discriminator_augmentation == "none":
            return None
        return DifferentiableAugmentation(self.discriminator_augmentation_policy or self.discriminator_augmentation)
