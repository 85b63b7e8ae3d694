"""Arguments of [`DistillationTrainer`]."""

import json
from dataclasses import dataclass, field

from ..arguments import check_choice, check_range, parse_terms
from ..losses import FEATURE_LOSSES, RELATION_LOSSES
from .soft_target_config import SoftTargetConfig


TOP_K_LOSSES = ("kl", "soft_ce")


@dataclass
class DistillationConfig(SoftTargetConfig):
    """
    Arguments of [`DistillationTrainer`], on top of those of [`~transformers.TrainingArguments`].

    The loss is `alpha * soft + (1 - alpha) * hard`, and to it are added the terms of `feature_loss` and
    `relation_loss`, each times its weight.

    Args:
        alpha (`float`, *optional*, defaults to 0.5): Weight of the teacher's soft targets, between 0 and 1.
        temperature (`float`, *optional*, defaults to 4.0):
            Divides teacher's and student's logits in the soft loss; above 0. Softened losses are multiplied by its
            square, so gradients keep their size.
        loss_type (`str`, *optional*, defaults to `"kl"`): A key of `hf_genkit.losses.DISTILLATION_LOSSES`.
        loss_kwargs (`dict` or `str`, *optional*): Numbers for that loss's knobs, such as `{"beta": 0.1}` for "jsd".
        feature_loss (`str` or `dict`, *optional*):
            What to match of the hidden states: a key of `hf_genkit.losses.FEATURE_LOSSES`, or weights such as
            `{"attention": 1000, "mse": 1}`.
        relation_loss (`str` or `dict`, *optional*):
            Which relations among the samples of a batch to match: a key of `hf_genkit.losses.RELATION_LOSSES`, or weights
            such as `{"rkd_distance": 25, "rkd_angle": 50}`.
        layer_map (`str` or `list[list[int]]`, *optional*, defaults to `"last"`):
            Which hidden states of student and teacher belong together: "last", "uniform", or pairs such as
            `[[1, 2], [2, 4]]`; 0 is what the first layer reads.
        projector (`str`, *optional*, defaults to `"auto"`):
            Learned linear maps from the student's widths to the teacher's: "auto" (where they differ and the loss needs
            them equal), "always" or "none". They are trained and resumed with the student, and never exported.
        teacher_weights (`str` or `list[float]`, *optional*):
            How several teachers share the soft term: one weight for each, or "confidence", which gives each sample more
            of the teachers that know its label; equal by default.
        teacher_top_k (`int`, *optional*):
            Learn from the teacher's so many most likely classes and the mass of all others, which is all that its
            cache then keeps.
        fused_head (`bool`, *optional*, defaults to `True`):
            Whether a language model's head and its loss are computed together, a part of the items at a time, where the
            architecture allows it: the same numbers in less memory and time.
        on_policy (`float`, *optional*, defaults to 0.0):
            Share of the optimizer steps in which a causal language model learns on what it writes itself after the
            prompts, as in [GKD](https://huggingface.co/papers/2306.13649).
        on_policy_tokens (`int`, *optional*, defaults to 128): The most tokens it writes.
        teacher_revision (`str`, *optional*): Commit, tag or branch of a teacher that is given by name.
        teacher_dtype (`str`, *optional*):
            Dtype to load such a teacher in: "bfloat16", "float16", "float32" or "float64"; defaults to the one it was
            saved in.
        teacher_quantization (`str`, *optional*): "4bit" or "8bit" loads such a teacher with bitsandbytes.
        teacher_cache (`str`, *optional*, defaults to `"auto"`):
            Where the teacher's logits are kept: "auto" for `<output_dir>/teacher_cache` where they can be reused (for
            tokens of a language only with `teacher_top_k`), "off", or a folder.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run modeling code that comes with a teacher's repo.

    Raises:
        `ValueError`: A value is outside its range; the message names it and what is allowed.
    """

    feature_loss: dict | str | None = field(
        default=None,
        metadata={"help": f"Match hidden states by {', '.join(FEATURE_LOSSES)}, or weights of several as JSON."},
    )
    relation_loss: dict | str | None = field(
        default=None,
        metadata={
            "help": f"Match relations of samples by {', '.join(RELATION_LOSSES)}, or weights of several as JSON."
        },
    )
    layer_map: str = field(
        default="last",
        metadata={"help": "Which hidden states belong together: last, uniform, or pairs as JSON: '[[1, 2], [2, 4]]'."},
    )
    projector: str = field(
        default="auto",
        metadata={"help": "Learned maps from the student's widths to the teacher's: auto, always, none."},
    )
    teacher_weights: str | None = field(
        default=None,
        metadata={"help": "Weights of several teachers as JSON, '[2, 1]', or confidence; default: equal."},
    )
    teacher_top_k: int | None = field(
        default=None,
        metadata={"help": "Learn from, and cache, so many of the teacher's classes and the others' mass."},
    )
    fused_head: bool = field(
        default=True, metadata={"help": "Compute a language model's head and loss together, to save memory and time."}
    )
    on_policy: float = field(
        default=0.0, metadata={"help": "Share of the steps in which a language model learns on its own writing."}
    )
    on_policy_tokens: int = field(default=128, metadata={"help": "The most tokens it writes then."})
    teacher_revision: str | None = field(
        default=None, metadata={"help": "Commit, tag or branch of a teacher given by name."}
    )
    teacher_dtype: str | None = field(
        default=None, metadata={"help": "Dtype to load the teacher in, such as bfloat16; default: as it was saved."}
    )
    teacher_quantization: str | None = field(
        default=None, metadata={"help": "Load the teacher in '4bit' (NF4) or '8bit' with bitsandbytes."}
    )
    teacher_cache: str = field(
        default="auto",
        metadata={"help": "Where the teacher's logits are kept: 'auto' (in output_dir), 'off', or a folder."},
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run modeling code that comes with a model's repo."}
    )

    def __post_init__(self):
        self.feature_loss = parse_terms("feature_loss", self.feature_loss, list(FEATURE_LOSSES)) or None
        self.relation_loss = parse_terms("relation_loss", self.relation_loss, list(RELATION_LOSSES)) or None
        self.layer_map = _words_or_list("layer_map", self.layer_map, ("last", "uniform"))
        if isinstance(self.layer_map, list) and not (self.layer_map and all(map(_is_pair, self.layer_map))):
            raise ValueError(
                f"`layer_map` is {self.layer_map}, but it must be last, uniform or pairs such as [[1, 2], [2, 4]]."
            )
        check_choice("projector", self.projector, ["auto", "always", "none"])
        self.teacher_weights = _words_or_list("teacher_weights", self.teacher_weights, ("confidence",))
        if isinstance(self.teacher_weights, list) and not all(
            isinstance(weight, int | float) and weight > 0 for weight in self.teacher_weights
        ):
            raise ValueError(f"`teacher_weights` is {self.teacher_weights}, but each must be a number above 0.")
        check_range(self, "on_policy", 0, 1)
        for name in ("teacher_top_k", "on_policy_tokens"):
            check_range(self, name, 1)
        if self.teacher_top_k is not None and self.loss_type not in TOP_K_LOSSES:
            raise ValueError(
                f"`teacher_top_k` is {self.teacher_top_k}, but loss_type '{self.loss_type}' needs every class."
            )
        if self.teacher_dtype is not None:
            check_choice("teacher_dtype", self.teacher_dtype, ["bfloat16", "float16", "float32", "float64"])
        if self.teacher_quantization is not None:
            check_choice("teacher_quantization", self.teacher_quantization, ["4bit", "8bit"])
        super().__post_init__()

    @property
    def matches_features(self) -> bool:
        """Whether hidden states take part in the loss, which no cache keeps."""
        return bool(self.feature_loss or self.relation_loss)


def _words_or_list(name: str, value: list | str | None, words: tuple[str, ...]) -> list | str | None:
    """One of the words, or a list that may be given as JSON."""
    if not isinstance(value, str) or value in words:
        return value
    if not value.startswith("["):
        check_choice(name, value, list(words))
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"`{name}` is '{value}', but it must be one of {', '.join(words)} or a JSON list.") from error


def _is_pair(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(index) is int for index in value)
