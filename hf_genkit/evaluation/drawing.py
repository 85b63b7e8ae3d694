"""Pictures from any model that makes some: a diffusion pipeline, a VAE, a GAN."""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from transformers import AutoConfig, AutoModel, PreTrainedModel

from ..arguments import check_choice
from ..models.vae.priors_vae import fitted_prior
from ..pipelines import (
    ClassConditionalPipeline,
    ImageToImagePipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
    load_pipeline,
)


MODEL_TYPES = ["genkit_vae", "genkit_gan", "genkit_gan_generator"]


def load_generative_model(name: str, task: str | None = None) -> DiffusionPipeline | PreTrainedModel:
    """
    Loads what makes pictures.

    Args:
        name (`str`): Hub id or local folder of a pipeline, a VAE or a GAN.
        task (`str`, *optional*): See [`~hf_genkit.pipelines.load_pipeline`].

    Raises:
        `ValueError`: There is none, or it is something else, or can't do the task.
    """
    try:
        DiffusionPipeline.load_config(name)
    except OSError:  # it holds no pipeline
        try:
            config = AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ValueError(f"'{name}' is no diffusion pipeline, VAE or GAN, neither here nor on the Hub.") from error
        check_choice("model_type", config.model_type, MODEL_TYPES)
        model = AutoModel.from_pretrained(name)
        if task is not None:
            raise ValueError(f"'{name}' is a {model.config.model_type}: {task} takes a diffusion pipeline.") from None
        return model.eval()
    return load_pipeline(name, task)


def draw(
    model: DiffusionPipeline | PreTrainedModel,
    count: int,
    *,
    class_labels: Sequence[str | int] = (),
    prompts: Sequence[str] = (),
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    seed: int = 0,
    batch_size: int = 16,
    guidance_scale: float = 2.0,
    strength: float = 0.5,
    num_inference_steps: int = 50,
) -> torch.Tensor:
    """
    Draws pictures. Picture i is drawn with `seed + i`, whatever else is drawn.

    Args:
        model (`DiffusionPipeline`, [`~hf_genkit.VAEModel`] or [`~hf_genkit.GANModel`]): What draws.
        count (`int`): How many pictures.
        class_labels (sequence of `str` or `int`, *optional*): Names or indices, which take turns; all classes by default.
        prompts (sequence of `str`, *optional*): Captions, which take turns.
        image (`PIL.Image.Image`, *optional*): What to change, to mend or to enlarge.
        mask (`PIL.Image.Image`, *optional*): White where to paint anew.
        seed, batch_size, guidance_scale, strength, num_inference_steps: See [`~hf_genkit.pipelines.InpaintingPipeline`].

    Returns:
        `torch.Tensor`: In [-1, 1], `float32`, of shape `[count, channels, height, width]`, on the CPU.

    Raises:
        `ValueError`: The model can't use what it is given, or lacks what it needs.
    """
    if isinstance(model, PreTrainedModel):
        if prompts or image is not None or mask is not None:
            raise ValueError(f"A {type(model).__name__} takes neither captions nor images to start from.")
        return _from_latents(model, count, list(class_labels), seed).float().cpu()
    labels = [_class(model, label) for label in class_labels]
    settings = {"num_inference_steps": num_inference_steps, "output_type": "pt"}
    own = {"seed": seed, "batch_size": batch_size}
    guided = {"guidance_scale": guidance_scale}
    conditions = {
        name: _in_turn(values, count) for name, values in (("class_labels", labels), ("prompt", prompts)) if values
    }
    if isinstance(model, SuperResolutionPipeline | ImageToImagePipeline | InpaintingPipeline):
        if image is None:
            raise ValueError(f"A {type(model).__name__} needs an image to start from.")
        images = [image] * count
        if isinstance(model, SuperResolutionPipeline):
            drawn = model(images, **settings, **own)
        elif isinstance(model, InpaintingPipeline):
            drawn = model(images, [mask] * count, **conditions, **guided, **settings, **own)
        else:
            drawn = model(images, strength=strength, **conditions, **guided, **settings, **own)
    elif isinstance(model, ClassConditionalPipeline):
        if prompts:
            raise ValueError("The pipeline draws by class, but `prompts` is given and there is no text encoder.")
        every = list(range(model.num_classes))
        drawn = model(conditions.get("class_labels", _in_turn(every, count)), **guided, **settings, **own)
    elif isinstance(model, TextToImagePipeline):
        if not prompts:
            raise ValueError("The pipeline draws from captions and not by class: give some `prompts`.")
        drawn = model(conditions["prompt"], **guided, **settings, **own)
    elif isinstance(model, UnconditionalPipeline):
        if conditions:
            raise ValueError(f"The pipeline draws without a condition, but {next(iter(conditions))} is given.")
        drawn = model(count, **settings, **own)
    else:
        return _from_stock(model, count, conditions, seed, {**settings, **guided})
    return drawn.images.float().cpu() * 2 - 1


def _in_turn(values: Sequence, count: int) -> list:
    return [values[index % len(values)] for index in range(count)]


def _class(model, label: str | int) -> str | int:
    """A label as a pipeline takes it: a number in a command line is a name if there is one like it, else an index."""
    names = (model.config.get("id2label") or {}).values()
    return int(label) if isinstance(label, str) and label.isdigit() and label not in names else label


def _generators(count: int, seed: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def _from_latents(model: PreTrainedModel, count: int, labels: list, seed: int) -> torch.Tensor:
    config = model.config
    if config.model_type == "genkit_vae":
        if labels:
            raise ValueError("A VAE draws without a condition, but class_labels is given.")
        fitted = fitted_prior(config)
        return torch.cat([model.sample(1, generator=each, prior=fitted) for each in _generators(count, seed)])
    latents = torch.cat([torch.randn(1, config.latent_dim, generator=each) for each in _generators(count, seed)])
    if not config.num_labels:
        if labels:
            raise ValueError("The GAN draws without a condition, but class_labels is given.")
        return model.generate(latents=latents)
    indices = {name: index for index, name in config.id2label.items()}
    wanted = [indices[label] if label in indices else int(label) for label in labels] or list(range(config.num_labels))
    return model.generate(latents=latents, labels=_in_turn(wanted, count))


def _from_stock(pipeline: DiffusionPipeline, count: int, conditions: dict, seed: int, settings: dict) -> torch.Tensor:
    """Another pipeline of diffusers, which gets what its call accepts; all pictures in one batch."""
    accepted = inspect.signature(pipeline.__call__).parameters
    offered = {**conditions, **settings, "generator": _generators(count, seed), "output_type": "np"}
    if not conditions:
        offered |= {"num_images": count, "batch_size": count}
    missing = [name for name in conditions if name not in accepted]
    if missing:
        raise ValueError(f"A {type(pipeline).__name__} takes no {missing[0]}.")
    images = pipeline(**{name: value for name, value in offered.items() if name in accepted}).images
    return torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).float() * 2 - 1
