"""The three families that a comparison trains: their trainers, what they are told, and widths of like size."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from ..arguments import DiffusionModelArguments, GenerativeModelArguments, check_choice
from ..arguments.comparison_arguments import ComparisonArguments
from ..data import ImageData
from ..models.gan import GANModel
from ..models.vae.configuration_vae import default_stages
from ..trainers import (
    DiffusionConfig,
    DiffusionTrainer,
    GANTrainer,
    GANTrainingConfig,
    VAETrainer,
    VAETrainingConfig,
    diffusion_components,
    generative_model,
)
from ..trainers.generative_config import GenerativeConfig


# What the comparison itself decides, so that it is the same for all.
SHARED = (
    "output_dir",
    "seed",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "use_cpu",
)


@dataclass(frozen=True)
class Family:
    """
    A kind of generative model.

    Args:
        key (`str`): Its name in options.
        title (`str`): Its name in texts.
        folder (`str`): Where its model goes.
        trainer, config (`type`): Its trainer and that one's arguments.
        options (`dict`): Arguments that differ from their defaults unless the user gives others.
        model_config (`dict`): The same of its network.
        widths (`Callable`): A width and the images' side to options of the network.
        step (`int`): Widths are multiples of it.
    """

    key: str
    title: str
    folder: str
    trainer: type
    config: type
    options: dict
    model_config: dict
    widths: Callable[[int, int], dict]
    step: int


def _vae_widths(width: int, side: int) -> dict:
    return {"hidden_sizes": [width * min(2**stage, 8) for stage in range(len(default_stages(side)))]}


def _gan_widths(width: int, side: int) -> dict:
    return {"generator_channels": width, "discriminator_channels": width}


def _unet_widths(width: int, side: int) -> dict:
    return {"block_out_channels": [width, 2 * width, 2 * width][: 2 if side <= 16 else 3]}


LARGEST_WIDTH = 2048
SCHEDULE = {"lr_scheduler_type": "cosine", "warmup_steps": 0.05}
FAMILIES = {
    "vae": Family(
        "vae", "VAE", "vae", VAETrainer, VAETrainingConfig,
        {"learning_rate": 1e-3, "latent_prior": "mixture", "mixture_components": 20, **SCHEDULE},
        {"latent_dim": 32, "likelihood": "gaussian", "sigma": "learned"}, _vae_widths, 4,
    ),
    "gan": Family(
        "gan", "GAN", "gan", GANTrainer, GANTrainingConfig,
        {"learning_rate": 4e-4, "loss_type": "hinge", "ema_decay": 0.995, "stop_on_failure": False},
        {"architecture": "dcgan", "latent_dim": 64}, _gan_widths, 4,
    ),
    "diffusion": Family(
        "diffusion", "diffusion model", "ddpm", DiffusionTrainer, DiffusionConfig,
        {"learning_rate": 2e-3, "prediction_type": "v", "weighting": "min_snr", "ema_decay": 0.995, **SCHEDULE},
        {"layers_per_block": 1}, _unet_widths, 4,
    ),
}  # fmt: skip


def training_config(family: Family, args: ComparisonArguments, common: GenerativeConfig, **run) -> GenerativeConfig:
    """
    The arguments with which a family is trained.

    Args:
        family ([`Family`]): Which.
        args ([`~hf_genkit.arguments.ComparisonArguments`]): What the user asked for.
        common (`GenerativeConfig`): What all families have in common.
        run: What this run decides, such as `output_dir`, `seed` and `max_steps`.

    Raises:
        `ValueError`: An option is unknown, or one that the comparison itself decides.
    """
    given = {name: value for name, value in (getattr(args, family.key) or {}).items() if name != "model_config"}
    known = [f.name for f in fields(family.config) if f.init]
    for name in given:
        check_choice(f"option of {family.key}", name, known)
        if name in SHARED:
            raise ValueError(f"`{family.key}` sets {name}, but the comparison decides that for all models alike.")
    names = (*SHARED, "license", "num_sample_pictures", "per_device_eval_batch_size")
    shared = {name: getattr(common, name) for name in names} | {
        "eval_strategy": "no",
        "save_strategy": "no",
        "dataloader_drop_last": True,
        "report_to": "none",
        "disable_tqdm": common.disable_tqdm,
    }
    return family.config(**{**shared, **family.options, **given, **run})


def cycle_of(config: GenerativeConfig) -> int:
    """Optimizer steps in which each network is trained once: more than one for a GAN alone."""
    return config.n_critic + 1 if isinstance(config, GANTrainingConfig) else 1


def model_options(
    family: Family, args: ComparisonArguments, data: ImageData, config: GenerativeConfig, side: int
) -> dict:
    """
    The options of a family's network: the user's over the defaults, and of the widths that give about `args.parameters`
    trained parameters the closest, unless the user has set one.

    Args:
        family ([`Family`]): Which.
        args ([`~hf_genkit.arguments.ComparisonArguments`]): What the user asked for.
        data ([`~hf_genkit.data.ImageData`]): The images.
        config (`GenerativeConfig`): How it is trained.
        side (`int`): Height and width of the images.
    """
    options = {**family.model_config, **((getattr(args, family.key) or {}).get("model_config") or {})}
    if set(family.widths(family.step, side)) & set(options):
        return options

    def size(width: int) -> int:
        with torch.device("meta"):
            return trained_parameters(
                build(family, {**options, **family.widths(width, side)}, data, config, side)["model"]
            )

    widths = range(family.step, LARGEST_WIDTH, family.step)
    first = bisect_left(widths, args.parameters, key=size)  # the narrowest that is not too small
    best = min(widths[max(0, first - 1) : first + 1], key=lambda width: abs(size(width) - args.parameters))
    return {**options, **family.widths(best, side)}


def build(family: Family, options: dict, data: ImageData, config: GenerativeConfig, side: int) -> dict:
    """A new model as arguments of its trainer; seed torch first."""
    if family.key == "diffusion":
        return diffusion_components(DiffusionModelArguments(model_config=options), data, replace(config), side)
    types = ["genkit_vae"] if family.key == "vae" else ["genkit_gan"]
    return {"model": generative_model(GenerativeModelArguments(model_config=options), data, types, side)}


def trained_parameters(model: nn.Module) -> int:
    """How many parameters are trained: moving averages are not."""
    parts = [model.generator, model.discriminator] if isinstance(model, GANModel) else [model]
    return sum(parameter.numel() for part in parts for parameter in part.parameters() if parameter.requires_grad)
