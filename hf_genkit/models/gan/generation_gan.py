"""Drawing pictures from a trained generator."""

from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .configuration_gan import GANGeneratorConfig, check_choice


@contextmanager
def evaluating(network: nn.Module):
    """Evaluation mode without gradients inside, the earlier mode after."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def generate_images(
    network: nn.Module,
    config: GANGeneratorConfig,
    *,
    num_images: int | None = None,
    labels: int | list[int] | Tensor | None = None,
    truncation: float = 1.0,
    generator: torch.Generator | None = None,
    latents: Tensor | None = None,
    batch_size: int = 256,
) -> Tensor:
    """See [`GANModel.generate`]; `network` is the generator to run."""
    parameter = next(network.parameters())
    if not 0 < truncation <= 1:
        raise ValueError(f"`truncation` is {truncation}, but it must be above 0 and at most 1.")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}, but it must be at least 1.")
    if latents is not None:
        check_latents(latents, config)
    num_images = _count(num_images, labels, latents)
    labels = prepare_labels(labels, num_images, config)
    if latents is None:
        # All at once and where the generator lives, so that neither batch size nor device changes the pictures.
        device = parameter.device if generator is None else generator.device
        latents = torch.randn(num_images, config.latent_dim, generator=generator, device=device)
    latents = (truncation * latents).to(parameter.device, parameter.dtype)
    if labels is not None:
        labels = labels.to(parameter.device)
    with evaluating(network):
        return torch.cat(
            [
                network(
                    latents[start : start + batch_size], None if labels is None else labels[start : start + batch_size]
                )
                for start in range(0, num_images, batch_size)
            ]
        ).float()


def interpolate_images(
    network: nn.Module,
    config: GANGeneratorConfig,
    a: Tensor,
    b: Tensor,
    steps: int,
    *,
    mode: str = "linear",
    labels: int | list[int] | Tensor | None = None,
    batch_size: int = 256,
) -> Tensor:
    """See [`GANModel.interpolate`]; `network` is the generator to run."""
    check_choice("mode", mode, ("linear", "slerp"))
    if steps < 2:
        raise ValueError(f"`steps` is {steps}, but it must be at least 2, because both ends are included.")
    if a.shape != b.shape or a.ndim > 2:
        raise ValueError(
            f"Latents of shape {tuple(a.shape)} and {tuple(b.shape)} can't be interpolated: they must both be "
            f"[latent_dim] or [B, latent_dim]."
        )
    if config.num_labels and labels is None:
        raise ValueError("A class-conditional model needs `labels` to interpolate: one for each pair of latents.")
    starts, ends = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    labels = prepare_labels(labels, len(starts), config)
    weights = torch.linspace(0, 1, steps, device=a.device)[None, :, None]
    path = (slerp if mode == "slerp" else torch.lerp)(starts[:, None], ends[:, None], weights)
    images = generate_images(
        network,
        config,
        latents=path.flatten(0, 1),
        labels=None if labels is None else labels.repeat_interleave(steps),
        batch_size=batch_size,
    )
    return images.unflatten(0, (*a.shape[:-1], steps))


def slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """
    Spherical interpolation along the last dimension ([White, 2016](https://arxiv.org/abs/1609.04468)): stays at the
    distance from 0 where a normal distribution has its mass. Parallel vectors are interpolated linearly.
    """
    cosine = nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)[..., None]
    angle = torch.acos(cosine)
    parallel = angle.sin() < 1e-4
    angle = torch.where(parallel, 1.0, angle)
    curved = (((1 - weight) * angle).sin() * a + (weight * angle).sin() * b) / angle.sin()
    return torch.where(parallel, torch.lerp(a, b, weight), curved)


def check_latents(latents: Tensor, config: GANGeneratorConfig) -> None:
    if latents.ndim != 2 or latents.shape[1] != config.latent_dim:
        raise ValueError(f"`latents` have shape {tuple(latents.shape)}, but the model takes [B, {config.latent_dim}].")


def prepare_labels(labels: int | list[int] | Tensor | None, count: int, config: GANGeneratorConfig) -> Tensor | None:
    """Labels `[count]`: one is repeated, and without any the classes follow each other, 0, 1, 2 ... and again from 0."""
    if not config.num_labels:
        if labels is not None:
            raise ValueError("This model was built without labels (num_labels=0), so `labels` can't be given.")
        return None
    if labels is None:
        return torch.arange(count) % config.num_labels
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.ndim > 1:
        raise ValueError(f"`labels` must be whole numbers [B], got {labels.dtype} of shape {tuple(labels.shape)}.")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < config.num_labels:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(
            f"The label {int(wrong)} is not a class of this model: they go from 0 to {config.num_labels - 1}."
        )
    if labels.ndim == 0:
        return labels.expand(count)
    if len(labels) != count:
        raise ValueError(f"There are {len(labels)} `labels` for {count} pictures; give one for each, or a single one.")
    return labels


def _count(num_images: int | None, labels: int | list[int] | Tensor | None, latents: Tensor | None) -> int:
    """How many pictures to draw: what is asked for, or one for each latent vector, or one for each label, or one."""
    if num_images is not None:
        if num_images < 1:
            raise ValueError(f"`num_images` is {num_images}, but it must be at least 1.")
        if latents is not None and len(latents) != num_images:
            raise ValueError(f"There are {len(latents)} `latents` for {num_images} pictures; give one for each.")
        return num_images
    if latents is not None:
        return len(latents)
    return torch.as_tensor(labels).numel() if labels is not None else 1
