"""Arguments of [`MutualDistillationTrainer`]."""

from dataclasses import dataclass, field

from .soft_target_config import SoftTargetConfig


@dataclass
class MutualDistillationConfig(SoftTargetConfig):
    """
    Arguments of [`MutualDistillationTrainer`], on top of those of [`~transformers.TrainingArguments`].

    The loss of each peer is `alpha * soft + (1 - alpha) * hard`, where `soft` is the mean over what the other peers teach
    it. With an `alpha` of 0 the peers are trained side by side, each alone: what mutual learning is to be compared with.

    Args:
        alpha (`float`, *optional*, defaults to 0.5): Weight of the other peers' predictions, between 0 and 1.
        temperature (`float`, *optional*, defaults to 1.0, as in the paper):
            Divides the logits of both sides in the soft loss; above 0. Softened losses are multiplied by its square.
        loss_type (`str`, *optional*, defaults to `"kl"`): A key of `hf_genkit.losses.DISTILLATION_LOSSES`.
        loss_kwargs (`dict` or `str`, *optional*): Numbers for that loss's knobs, such as `{"beta": 0.1}` for "jsd".

    Raises:
        `ValueError`: A value is outside its range; the message names it and what is allowed.
    """

    temperature: float = field(
        default=1.0, metadata={"help": "Softens the logits of both sides; losses are multiplied by its square."}
    )
