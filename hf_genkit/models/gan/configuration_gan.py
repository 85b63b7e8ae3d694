"""Configurations of `GANModel` and of the generator alone."""

import difflib
from typing import Any

from transformers import PreTrainedConfig


# What each architecture takes: its default width and the normalisations it knows, the default first.
DEFAULT_CHANNELS = {"mlp": 256, "dcgan": 32, "resnet": 16, "r3gan": 32}
GENERATOR_NORMS = {
    "mlp": ("none", "batch"),
    "dcgan": ("batch", "none"),
    "resnet": ("batch", "none"),
    "r3gan": ("none",),
}
DISCRIMINATOR_NORMS = {
    "mlp": ("none", "batch", "spectral"),
    "dcgan": ("spectral", "none", "batch"),
    "resnet": ("spectral", "none", "batch"),
    "r3gan": ("none",),
}
SMALLEST_SIZE, LARGEST_BASE = 4, 7
R3GAN_GROUP_SIZE, R3GAN_EXPANSION = 16, 2


def number_of_halvings(image_size: int) -> int:
    """How often a side can be halved, exactly, until it is at most 7 pixels."""
    halvings = 0
    while image_size > LARGEST_BASE and image_size % 2 == 0:
        image_size //= 2
        halvings += 1
    return halvings


def check_choice(name: str, value: str, allowed: tuple[str, ...], architecture: str | None = None) -> None:
    """Raises a `ValueError` that names `value` and what is allowed unless it is one of `allowed`."""
    if value in allowed:
        return
    close = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    where = f" for the {architecture} architecture" if architecture else ""
    raise ValueError(f"`{name}` is '{value}', but it must be one of {', '.join(allowed)}{where}{hint}.")


class GANGeneratorConfig(PreTrainedConfig):
    r"""
    Configuration of a [`GANGeneratorModel`], the generator of a GAN without its discriminator.

    Args:
        image_size (`int`, *optional*, defaults to 32):
            Side of the square pictures, in pixels. `"mlp"` takes any; the other architectures take 4, 5, 6 or 7 times
            a power of two, from 8 up: 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64 ...
        num_channels (`int`, *optional*, defaults to 1): Colour channels: 1 for grey, 3 for RGB.
        latent_dim (`int`, *optional*, defaults to 64): Length of the latent vector, standard normal.
        architecture (`str`, *optional*, defaults to `"dcgan"`):
            - `"mlp"`: two hidden layers, for pictures of a few hundred pixels.
            - `"dcgan"`: strided 4x4 convolutions, [Radford et al. (2016)](https://arxiv.org/abs/1511.06434): fastest.
            - `"resnet"`: residual blocks of 3x3 convolutions, as in
              [SNGAN (Miyato et al., 2018)](https://arxiv.org/abs/1802.05957).
            - `"r3gan"`: residual blocks of 1x1, grouped 3x3 and 1x1 convolutions without normalisation,
              [R3GAN (Huang et al., 2024)](https://arxiv.org/abs/2501.05441), scaled to small pictures. Meant for the
              relativistic loss with R1 and R2 penalties.
        generator_channels (`int`, *optional*):
            Width of the hidden layers (`"mlp"`), or of the stage at full resolution: it doubles with each halving of
            the resolution, up to 8 times. Defaults to 256 (`"mlp"`), 16 (`"resnet"`), 32 (others); a multiple of 8 for
            `"r3gan"`.
        generator_norm (`str`, *optional*):
            `"batch"` or `"none"`. Defaults to `"batch"` for `"dcgan"` and `"resnet"`; `"r3gan"` has none.
        blocks_per_stage (`int`, *optional*, defaults to 1):
            Residual blocks at each resolution of `"r3gan"`, in both networks; the paper has 2. Others ignore it.
        num_labels (`int`, *optional*, defaults to 0):
            Number of classes the pictures are conditioned on; 0 for none. Give `id2label` instead to keep their names.

    Raises:
        `ValueError`: If a number is out of range, a name unknown, or the image size out of an architecture's reach.
    """

    model_type = "genkit_gan_generator"

    image_size: int = 32
    num_channels: int = 1
    latent_dim: int = 64
    architecture: str = "dcgan"
    generator_channels: int | None = None
    generator_norm: str | None = None
    blocks_per_stage: int = 1

    def __post_init__(self, **kwargs):
        fields = list(type(self).__dataclass_fields__)
        for name in kwargs.keys() - set(fields):
            if match := difflib.get_close_matches(name, fields, n=1, cutoff=0.8):
                raise ValueError(f"{type(self).__name__} has no field '{name}'; did you mean '{match[0]}'?")
        check_choice("architecture", self.architecture, tuple(DEFAULT_CHANNELS))
        if self.generator_channels is None:
            self.generator_channels = DEFAULT_CHANNELS[self.architecture]
        if self.generator_norm is None:
            self.generator_norm = GENERATOR_NORMS[self.architecture][0]
        check_choice("generator_norm", self.generator_norm, GENERATOR_NORMS[self.architecture], self.architecture)
        for name in ("image_size", "num_channels", "latent_dim", "blocks_per_stage"):
            self._check_at_least_one(name)
        self._check_width("generator_channels")
        self._check_image_size()
        if kwargs.get("num_labels", 0) < 0:
            raise ValueError(f"`num_labels` is {kwargs['num_labels']}, but it must be at least 0 (0: unconditional).")
        if self.id2label is None:
            # The library's default is two labels; a GAN without labels is unconditional.
            kwargs.setdefault("num_labels", 0)
        super().__post_init__(**kwargs)
        if self.label2id is None:
            self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def num_halvings(self) -> int:
        """How many times the resolution doubles from the generator's first feature map to its pictures."""
        return number_of_halvings(self.image_size)

    @property
    def base_size(self) -> int:
        """Side of the smallest feature map, in pixels."""
        return self.image_size >> self.num_halvings

    def stage_widths(self, channels: int) -> list[int]:
        """Width of each stage, from full resolution to the smallest feature map."""
        return [channels * min(2**halvings, 8) for halvings in range(self.num_halvings + 1)]

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

    def to_diff_dict(self) -> dict[str, Any]:
        # The library leaves out two labels without names, its default; here no labels are the default.
        return {**super().to_diff_dict(), "id2label": self.id2label, "label2id": self.label2id}

    def _check_at_least_one(self, name: str) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"`{name}` is {value!r}, but it must be a whole number of at least 1.")

    def _check_width(self, name: str) -> None:
        self._check_at_least_one(name)
        step = R3GAN_GROUP_SIZE // R3GAN_EXPANSION
        if self.architecture == "r3gan" and getattr(self, name) % step:
            raise ValueError(
                f"`{name}` is {getattr(self, name)}, but the r3gan architecture needs a multiple of {step}."
            )

    def _check_image_size(self) -> None:
        halvings = number_of_halvings(self.image_size)
        if self.architecture == "mlp" or (halvings and SMALLEST_SIZE <= self.image_size >> halvings <= LARGEST_BASE):
            return
        fine = [base << power for power in range(1, 9) for base in range(SMALLEST_SIZE, LARGEST_BASE + 1)]
        close = min(fine, key=lambda size: abs(size - self.image_size))
        raise ValueError(
            f"`image_size` is {self.image_size}, but the {self.architecture} architecture needs 4, 5, 6 or 7 times a power "
            f"of two, from 8 up (the closest is {close}); pad or resize the pictures, or use the mlp architecture."
        )


class GANConfig(GANGeneratorConfig):
    r"""
    Configuration of a [`GANModel`]. Besides the arguments of [`GANGeneratorConfig`]:

    Args:
        discriminator_channels (`int`, *optional*):
            Width of the discriminator, counted as `generator_channels` is. Defaults to the generator's.
        discriminator_norm (`str`, *optional*):
            `"spectral"` ([Miyato et al., 2018](https://arxiv.org/abs/1802.05957)), `"none"` or `"batch"`. Gradient
            penalties need one that treats samples alone: not `"batch"`. Defaults to `"spectral"` for `"dcgan"` and
            `"resnet"`, to `"none"` for `"mlp"`; `"r3gan"` has none.

    Example:

    ```python
    >>> from hf_genkit.models.gan import GANConfig, GANModel

    >>> model = GANModel(GANConfig(image_size=28, id2label={0: "shirt", 1: "shoe"}))
    >>> model.generate(labels=[0, 1]).shape
    torch.Size([2, 1, 28, 28])
    ```
    """

    model_type = "genkit_gan"

    discriminator_channels: int | None = None
    discriminator_norm: str | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.discriminator_channels is None:
            self.discriminator_channels = self.generator_channels
        if self.discriminator_norm is None:
            self.discriminator_norm = DISCRIMINATOR_NORMS[self.architecture][0]
        norms = DISCRIMINATOR_NORMS[self.architecture]
        check_choice("discriminator_norm", self.discriminator_norm, norms, self.architecture)
        self._check_width("discriminator_channels")

    def generator_config(self) -> GANGeneratorConfig:
        """The configuration of this model's generator alone, with the label names."""
        return GANGeneratorConfig(
            image_size=self.image_size,
            num_channels=self.num_channels,
            latent_dim=self.latent_dim,
            architecture=self.architecture,
            generator_channels=self.generator_channels,
            generator_norm=self.generator_norm,
            blocks_per_stage=self.blocks_per_stage,
            id2label=self.id2label,
            label2id=self.label2id,
        )


__all__ = ["GANConfig", "GANGeneratorConfig"]
