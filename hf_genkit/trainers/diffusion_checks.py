"""What can't work between a diffusion model, its components and its data: found before anything is trained."""

from dataclasses import fields

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel

from ..data import ArrayImageDataset
from ..pipelines import make_sampler
from .adapters import bare
from .denoiser import num_classes


LONGEST_CAPTION = 100_000  # tokenizers without a maximum have an astronomical one


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
    config, name = bare(model).config, type(bare(model)).__name__
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
    for role, part in (("network", model), ("text encoder", text_encoder)):
        kinds = {p.dtype for p in part.parameters() if p.requires_grad} if part is not None else set()
        if kinds - {torch.float32}:
            raise ValueError(
                f"The {role}'s weights are {kinds.pop()}, but float32 weights are trained: `bf16` makes training fast."
            )
    _check_text(trainer, model, text_encoder)
    if config.sample_size is None:
        raise ValueError(f"`sample_size` of the {name} is None, but it must be the side of what is drawn.")
    outputs = config.out_channels or config.in_channels
    factor = args.super_resolution_factor
    wanted = 2 * outputs if factor > 1 else outputs
    if config.in_channels != wanted:
        beside = ", those of the small picture among them" if factor > 1 else ""
        raise ValueError(
            f"The network has {outputs} output channels and must take {wanted}{beside}, but it takes "
            f"{config.in_channels}."
        )
    known = num_classes(model)
    if factor > 1 and (trainer.vae is not None or known):
        other = "works on latents" if trainer.vae is not None else "draws by class"
        raise ValueError(f"`super_resolution_factor` is {factor}, but a model that {other} can't enlarge pictures.")
    if trainer.vae is not None and not isinstance(trainer.vae, AutoencoderKL):
        latents = trainer.vae.config.latent_dim
        if latents != outputs * config.sample_size**2:
            raise ValueError(
                f"The VAE has {latents} latents, but the network draws {outputs} maps of "
                f"{config.sample_size}x{config.sample_size}."
            )
    if trainer.id2label and sorted(trainer.id2label) != list(range(known)):
        raise ValueError(
            f"There are {len(trainer.id2label)} class names, but the network has {known} classes"
            + (f", from 0 on (num_class_embeds is {config.num_class_embeds}, the last for none)." if known else ".")
        )


def _check_text(trainer, model, text_encoder) -> None:
    config, name = bare(model).config, type(bare(model)).__name__
    if (text_encoder is None) != (trainer.tokenizer is None):
        missing = "tokenizer" if trainer.tokenizer is None else "text encoder"
        raise ValueError(f"Captions need a text encoder and its tokenizer, but there is no {missing}.")
    reads = isinstance(bare(model), UNet2DConditionModel)
    if text_encoder is None:
        if reads:
            raise ValueError("A UNet2DConditionModel reads captions: give it a text encoder and a tokenizer.")
        return
    if not reads:
        raise ValueError(f"A {name} takes no captions: use a UNet2DConditionModel.")
    if config.cross_attention_dim != text_encoder.config.hidden_size:
        raise ValueError(
            f"The network attends to vectors of {config.cross_attention_dim} numbers (cross_attention_dim), but the "
            f"text encoder makes some of {text_encoder.config.hidden_size}."
        )
    longest = trainer.tokenizer.model_max_length
    if longest > LONGEST_CAPTION:
        raise ValueError(
            f"`model_max_length` of the tokenizer is {longest}, but every caption is padded to it: set one."
        )
    if bare(model) is not model and any(p.requires_grad for p in text_encoder.parameters()):
        raise ValueError("An adapter alone is saved, but the text encoder would be trained along: freeze it.")


def check_unused(args) -> None:
    """
    Raises:
        `ValueError`: An argument that makes a scheduler is set beside a scheduler, which it wouldn't change.
    """
    makers = ("noise_schedule", "num_train_timesteps", "zero_terminal_snr", "sigma_data", "flow_shift")
    for each in fields(args):
        value = getattr(args, each.name)
        if each.name in makers and value != each.default:
            raise ValueError(f"`{each.name}` is {value}, but the model comes with a scheduler that decides it.")


def check_images(trainer) -> None:
    """
    Args:
        trainer ([`DiffusionTrainer`]): With its data sets.

    Raises:
        `ValueError`: Images don't fit the network, or labels or captions are missing or out of range.
    """
    evaluation = {} if trainer.eval_dataset is None else trainer.eval_dataset
    evaluation = evaluation if isinstance(evaluation, dict) else {"evaluation": evaluation}
    for role, dataset in {"training": trainer.train_dataset, **evaluation}.items():
        sample = None if dataset is None else next(iter(dataset), None)
        if sample is None:
            raise ValueError(f"There are no {role} data.")
        _check_sample(trainer, role, sample)
        classes = num_classes(trainer.model.raw["unet"])
        if classes and isinstance(dataset, ArrayImageDataset):
            highest = int(dataset.labels.max())
            if highest < 0 or highest >= classes:
                found = "no image has a label" if highest < 0 else f"there is a label {highest}"
                raise ValueError(f"The network takes the labels 0 to {classes - 1}, but {found} in the {role} data.")


def _check_sample(trainer, role: str, sample: dict) -> None:
    pixels = torch.as_tensor(sample["pixel_values"])
    config = bare(trainer.model.raw["unet"]).config
    shape = tuple(pixels.shape)
    factor = trainer.args.super_resolution_factor
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(f"`super_resolution_factor` is {factor}, but it doesn't divide images of {shape[2]} pixels.")
    what = "images"
    if trainer.vae is not None:
        inputs = trainer._prepare_inputs({"pixel_values": pixels[None]})
        shape, what = tuple(trainer.encode(trainer.pixel_values(inputs)).shape[1:]), "latents"
    size = config.sample_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    channels = config.out_channels or config.in_channels
    if shape != (channels, *size):
        raise ValueError(
            f"The network makes {what} of {channels} channels and {size[0]}x{size[1]} pixels (sample_size), but the "
            f"{role} data's have {shape[0]} and {shape[1]}x{shape[2]}."
        )
    for side in size:
        check_side(trainer.model.raw["unet"], side)
    if num_classes(trainer.model.raw["unet"]) and "labels" not in sample:
        raise ValueError(f"The network draws by class, but the {role} data have no `labels`.")
    if trainer.tokenizer is None:
        return
    longest = trainer.tokenizer.model_max_length
    for name in ("input_ids", "attention_mask"):
        if name not in sample:
            raise ValueError(f"The network reads captions, but the {role} data have no `{name}`.")
        if len(sample[name]) != longest:
            raise ValueError(
                f"`{name}` of the {role} data has {len(sample[name])} tokens, but captions are padded to {longest}."
            )


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
