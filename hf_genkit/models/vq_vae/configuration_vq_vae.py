"""The configuration of a vector-quantised variational autoencoder."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any, ClassVar

from transformers import PreTrainedConfig


class VQVAEConfig(PreTrainedConfig):
    r"""
    Configuration of a [`VQVAEModel`].

    Args:
        image_size (`int`, *optional*, defaults to 28):
            Height and width of the pictures in pixels; divisible by 2 as often as `hidden_sizes` has entries.
        num_channels (`int`, *optional*, defaults to 1):
            Channels of the pictures: 1 for grey, 3 for colour.
        hidden_sizes (`list[int]`, *optional*, defaults to `[64, 128]`):
            Channels after each stage, which halves height and width. The decoder has them in reverse.
        num_residual_blocks (`int`, *optional*, defaults to 2):
            Residual blocks at the smallest size, in the encoder and in the decoder.
        codebook_size (`int`, *optional*, defaults to 512):
            Number of codes.
        code_dim (`int`, *optional*, defaults to 64):
            Length of a code's vector.
        commitment_weight (`float`, *optional*, defaults to 0.25):
            Weight of the commitment loss, the beta of van den Oord et al. (2017).
        decay (`float`, *optional*, defaults to 0.99):
            Decay of the moving averages that are the codebook; 1 leaves it as it is.
        revival_steps (`int`, *optional*, defaults to 100):
            A code that no position took for so many updates is drawn anew from the batch's encodings.

    Raises:
        `ValueError`: A field has a value that no model can have, or its name is misspelt.
    """

    model_type = "genkit_vq_vae"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["reconstruction_loss", "commitment_loss", "perplexity"]

    image_size: int = 28
    num_channels: int = 1
    hidden_sizes: list[int] | None = None
    num_residual_blocks: int = 2
    codebook_size: int = 512
    code_dim: int = 64
    commitment_weight: float = 0.25
    decay: float = 0.99
    revival_steps: int = 100

    def __post_init__(self, **kwargs):
        names = [field.name for field in fields(self)]
        for name in kwargs:
            if match := get_close_matches(name, names, n=1, cutoff=0.8):
                raise ValueError(f"VQVAEConfig has no field '{name}'; did you mean '{match[0]}'?")
        least = {"num_residual_blocks": 0, "codebook_size": 2}
        for name in (
            "image_size",
            "num_channels",
            "num_residual_blocks",
            "codebook_size",
            "code_dim",
            "revival_steps",
        ):
            value = getattr(self, name)
            if type(value) is not int or value < least.get(name, 1):
                raise ValueError(f"`{name}` is {value!r}, but it must be an integer of {least.get(name, 1)} or more.")
        for name, most in (("commitment_weight", float("inf")), ("decay", 1)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= most:
                raise ValueError(f"`{name}` is {value!r}, but it must be a number from 0 to {most}.")
        sizes = [64, 128] if self.hidden_sizes is None else self.hidden_sizes
        if not isinstance(sizes, list | tuple) or not sizes or not all(type(s) is int and s > 0 for s in sizes):
            raise ValueError(f"`hidden_sizes` is {sizes!r}, but it must be a list of one or more integers above 0.")
        self.hidden_sizes = list(sizes)
        if self.image_size % 2 ** len(sizes):
            raise ValueError(
                f"`image_size` is {self.image_size}, but a network with {len(sizes)} stages takes multiples of "
                f"{2 ** len(sizes)}: use another size or fewer `hidden_sizes`."
            )
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As for every configuration, but a checkpoint of another model type is refused.

        Raises:
            `ValueError`: If `config_dict` names another `model_type`.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"The checkpoint holds a model of type '{model_type}', but {cls.__name__} needs '{cls.model_type}'."
            )
        return super().from_dict(config_dict, **kwargs)


__all__ = ["VQVAEConfig"]
