"""What can't work between a diffusion model, its components and its data: found before anything is trained."""

import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel

from ..data import ArrayImageDataset
from ..pipelines import make_sampler
from .denoiser import bare, num_classes


def check_components(trainer, model, args, text_encoder) -> None:
    """
    Args:
        trainer ([`DiffusionTrainer`]): With its scheduler, VAE, tokenizer and classes.
        model (`nn.Module`): Its network.
        args ([`DiffusionConfig`]): Its arguments.
        text_encoder (`PreTrainedModel`, *optional*): Its text encoder.

    Raises:
        `ValueError`: Two of these don't go together; the message names both.
    """
    network = bare(model)
    config, name = network.config, type(network).__name__
    if args.prediction_type not in (None, trainer.prediction_type):
        raise ValueError(
            f"`prediction_type` is '{args.prediction_type}', but the scheduler ({type(trainer.noise_scheduler).__name__}) "
            f"is made for '{trainer.prediction_type}'."
        )
    make_sampler(trainer.noise_scheduler, args.sampler or default_sampler(trainer.prediction_type))
    levels = trainer.noise_scheduler.config.num_train_timesteps
    if args.num_inference_steps > levels:
        raise ValueError(
            f"`num_inference_steps` is {args.num_inference_steps}, but the schedule has {levels} steps only."
        )
    if (text_encoder is None) != (trainer.tokenizer is None):
        missing = "tokenizer" if trainer.tokenizer is None else "text encoder"
        raise ValueError(f"Captions need a text encoder and its tokenizer, but there is no {missing}.")
    if isinstance(network, UNet2DConditionModel):
        if text_encoder is None:
            raise ValueError("A UNet2DConditionModel reads captions: give it a text encoder and a tokenizer.")
        if config.cross_attention_dim != text_encoder.config.hidden_size:
            raise ValueError(
                f"The network attends to vectors of {config.cross_attention_dim} numbers (cross_attention_dim), but the "
                f"text encoder makes some of {text_encoder.config.hidden_size}."
            )
    elif text_encoder is not None:
        raise ValueError(f"A {name} takes no captions: use a UNet2DConditionModel.")
    outputs = config.out_channels or config.in_channels
    factor = args.super_resolution_factor
    wanted = 2 * outputs if factor > 1 else outputs
    if config.in_channels != wanted:
        beside = ", those of the small picture among them" if factor > 1 else ""
        raise ValueError(
            f"The network has {outputs} output channels and must take {wanted}{beside}, but it takes "
            f"{config.in_channels}."
        )
    if factor > 1 and trainer.vae is not None:
        raise ValueError(f"`super_resolution_factor` is {factor}, but a model of latents can't enlarge pictures.")
    known = num_classes(model)
    if trainer.id2label and len(trainer.id2label) != known:
        raise ValueError(
            f"There are {len(trainer.id2label)} class names, but the network has {known} classes"
            + (f" (num_class_embeds is {config.num_class_embeds}, the last for none)." if known else ".")
        )


def check_images(trainer) -> None:
    """
    Args:
        trainer ([`DiffusionTrainer`]): With its data sets.

    Raises:
        `ValueError`: The training images don't fit the network, or labels or captions are missing or out of range.
    """
    sample = next(iter(trainer.train_dataset))
    pixels = torch.as_tensor(sample["pixel_values"])
    config = bare(trainer.model.raw["unet"]).config
    channels, side = pixels.shape[0], pixels.shape[-1]
    factor = trainer.args.super_resolution_factor
    if side % factor:
        raise ValueError(f"`super_resolution_factor` is {factor}, but it doesn't divide images of {side} pixels.")
    what = "images"
    if trainer.vae is not None:
        inputs = trainer._prepare_inputs({"pixel_values": pixels[None]})
        channels, side = trainer.encode(trainer.pixel_values(inputs)).shape[1:3]
        what = "latents"
    if (channels, side) != (config.out_channels or config.in_channels, config.sample_size):
        raise ValueError(
            f"The network makes {what} of {config.out_channels or config.in_channels} channels and "
            f"{config.sample_size} pixels (sample_size), but the data's have {channels} and {side}."
        )
    check_side(trainer.model.raw["unet"], side)
    if trainer.tokenizer is not None and "input_ids" not in sample:
        raise ValueError("The network reads captions, but the training data have no `input_ids`.")
    classes = num_classes(trainer.model.raw["unet"])
    for role, dataset in (("training", trainer.train_dataset), ("evaluation", trainer.eval_dataset)):
        if classes and isinstance(dataset, ArrayImageDataset):
            highest = int(dataset.labels.max())
            if highest < 0 or highest >= classes:
                found = "no image has a label" if highest < 0 else f"there is a label {highest}"
                raise ValueError(f"The network takes the labels 0 to {classes - 1}, but {found} in the {role} data.")


def check_side(model, side: int) -> None:
    """
    Raises:
        `ValueError`: A network of diffusers halves (or cuts into patches) pictures of that side and doesn't come out even.
    """
    config = bare(model).config
    if isinstance(bare(model), DiTTransformer2DModel):
        if side % config.patch_size:
            raise ValueError(f"`patch_size` is {config.patch_size}, but it doesn't divide a side of {side} pixels.")
        return
    halvings = len(config.block_out_channels) - 1
    if side % 2**halvings:
        allowed = (side & -side).bit_length() - 1
        raise ValueError(
            f"The network's {halvings + 1} blocks halve the picture {halvings} times, but a side of {side} pixels can be "
            f"halved {allowed} times only: give `block_out_channels` {allowed + 1} entries at most, or resize the images."
        )


def default_sampler(prediction_type: str) -> str:
    """The sampler of pictures where none is named."""
    return "euler" if prediction_type in ("flow", "edm") else "ddim"
