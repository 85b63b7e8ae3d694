"""What a diffusion model works on: pictures, their latents, enlarged small pictures, captions as tokens."""

from collections.abc import Iterable, Sequence, Sized
from itertools import islice

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn.functional import interpolate
from transformers import PreTrainedModel, PreTrainedTokenizerBase


MEASURED = 1024  # images whose latents tell the scaling factor
ENCODED_AT_ONCE = 64


@torch.no_grad()
def encode_pictures(
    vae: AutoencoderKL | PreTrainedModel, pixels: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """
    Latents as a diffusion model takes them.

    Args:
        vae (`AutoencoderKL` or [`~hf_genkit.VAEModel`]): The autoencoder.
        pixels (`torch.Tensor`): Pictures in [-1, 1], `[N, C, H, W]`.
        shape (`tuple[int, int]`): Channels and side of the latents: the vectors of a `VAEModel` are cut into such maps.

    Returns:
        `torch.Tensor`: Means of the posterior, times `vae.config.scaling_factor`, of shape `[N, channels, side, side]`.
    """
    if isinstance(vae, AutoencoderKL):
        latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mean.float()
    else:
        channels, side = shape
        latents = vae.encode(pixels)[0].view(len(pixels), channels, side, side)
    return latents * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(vae: AutoencoderKL | PreTrainedModel, latents: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] of such latents, `[N, C, H, W]`."""
    latents = latents / vae.config.scaling_factor
    if isinstance(vae, AutoencoderKL):
        return vae.decode(latents.to(vae.dtype)).sample.float().clamp(-1, 1)
    return vae.decode(latents.flatten(1))


def set_scaling_factor(vae: AutoencoderKL | PreTrainedModel, factor: float) -> None:
    """Writes `scaling_factor` into the autoencoder's config, with which it is saved."""
    if isinstance(vae, AutoencoderKL):
        vae.register_to_config(scaling_factor=factor)
    else:
        vae.config.scaling_factor = factor


def measure_scaling_factor(vae: AutoencoderKL | PreTrainedModel, batches: Iterable[torch.Tensor], shape) -> float:
    """
    What latents are to be multiplied by to have the standard deviation 1
    ([Rombach et al., 2022](https://huggingface.co/papers/2112.10752)).

    Args:
        vae (`AutoencoderKL` or [`~hf_genkit.VAEModel`]): The autoencoder.
        batches (`Iterable[torch.Tensor]`): Pictures in [-1, 1], each batch `[N, C, H, W]`.
        shape (`tuple[int, int]`): As in [`encode_pictures`].

    Returns:
        `float`: One over the standard deviation of the latents of the first 1,024 of them or so.
    """
    set_scaling_factor(vae, 1.0)
    latents, count = [], 0
    for pixels in batches:
        latents.append(encode_pictures(vae, pixels, shape).cpu())
        count += len(pixels)
        if count >= MEASURED:
            break
    return 1.0 / torch.cat(latents).double().std().item()


def pixel_batches(dataset: Iterable[dict]) -> Iterable[torch.Tensor]:
    """About 1,024 pictures from all over a data set (the first of a stream) as it holds them, a few at a time."""
    step = max(1, len(dataset) // MEASURED) if isinstance(dataset, Sized) else None
    samples = islice(iter(dataset), MEASURED) if step is None else (dataset[i] for i in range(0, len(dataset), step))
    while rows := list(islice(samples, ENCODED_AT_ONCE)):
        yield torch.stack([torch.as_tensor(row["pixel_values"]) for row in rows])


def low_resolution(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    """
    Pictures reduced with antialiasing and enlarged again without any detail: what a super-resolution model sees.

    Args:
        pixels (`torch.Tensor`): In [-1, 1], `[N, C, H, W]`.
        factor (`int`): How many times smaller the pictures are on the way.

    Returns:
        `torch.Tensor`: In [-1, 1], of the same shape.
    """
    return enlarge(reduce(pixels, factor), pixels.shape[-2:])


def reduce(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    """Pictures `[N, C, H, W]` so many times smaller."""
    size = [side // factor for side in pixels.shape[-2:]]
    return interpolate(pixels, size=size, mode="bilinear", antialias=True)


def enlarge(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pictures `[N, C, h, w]` enlarged bicubically to a height and a width, as `SuperResolutionPipeline` does it."""
    return interpolate(pixels, size=tuple(size), mode="bicubic").clamp(-1, 1)


def caption_tokens(captions: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """
    Captions as the arrays that an [`~hf_genkit.data.ArrayImageDataset`] takes as `extras`.

    Returns:
        `dict[str, np.ndarray]`: `input_ids` and `attention_mask`, `int64` of shape `[N, tokenizer.model_max_length]`.
    """
    distinct = sorted(set(captions))
    row_of = {caption: row for row, caption in enumerate(distinct)}
    tokens = tokenizer(
        distinct,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="np",
    )
    rows = np.array([row_of[caption] for caption in captions])
    return {name: np.asarray(tokens[name], dtype=np.int64)[rows] for name in ("input_ids", "attention_mask")}
