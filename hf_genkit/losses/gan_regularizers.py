r"""Penalties on the discriminator's gradient with respect to pictures, one value per picture.

They are differentiable themselves (`create_graph=True`), in float32 (float64 stays), and bare: the weight belongs to
the caller, \\(\gamma / 2\\) for R1 and R2, \\(\lambda\\) for the gradient penalty. Computed every \\(k\\)-th step only
(lazily), a penalty is weighted \\(k\\) times as much. The discriminator must score each picture alone: no batch norm.
Its scores must be computed outside autocast, from pictures that require gradients, and sum over pictures apart.
"""

import torch
from torch import Tensor

from .classification import upcast


def r1_penalty(real_logits: Tensor, real_pixels: Tensor) -> Tensor:
    r"""
    \\(|\nabla_x D(x)|^2\\) at real pictures, [Mescheder et al. (2018)](https://arxiv.org/abs/1801.04406): lets the
    discriminator come to rest once the generator is right. Usual \\(\gamma\\): 0.1 to 10, less for smaller pictures.

    Args:
        real_logits (`torch.Tensor` of shape `[B]`): The discriminator's scores.
        real_pixels (`torch.Tensor` of shape `[B, ...]`): What they were computed from, requiring gradients.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    return _pixel_gradients(real_logits, real_pixels).square().sum(1)


def r2_penalty(fake_logits: Tensor, fake_pixels: Tensor) -> Tensor:
    r"""
    \\(|\nabla_x D(x)|^2\\) at generated pictures, [Mescheder et al. (2018)](https://arxiv.org/abs/1801.04406). The
    relativistic loss needs it beside [`r1_penalty`] ([R3GAN](https://arxiv.org/abs/2501.05441)). Same arguments.
    """
    return _pixel_gradients(fake_logits, fake_pixels).square().sum(1)


def gradient_penalty(mixed_logits: Tensor, mixed_pixels: Tensor, target: float = 1.0) -> Tensor:
    r"""
    \\((|\nabla_x D(x)| - target)^2\\) at pictures between real and generated ones,
    [WGAN-GP (Gulrajani et al., 2017)](https://arxiv.org/abs/1704.00028), there with weight 10.

    Args:
        mixed_logits (`torch.Tensor` of shape `[B]`): The discriminator's scores.
        mixed_pixels (`torch.Tensor` of shape `[B, ...]`): What they were computed from, requiring gradients.
        target (`float`, *optional*, defaults to 1.0): The slope asked for.

    Returns:
        `torch.Tensor` of shape `[B]`.
    """
    return (torch.linalg.vector_norm(_pixel_gradients(mixed_logits, mixed_pixels), dim=1) - target).square()


def _pixel_gradients(logits: Tensor, pixels: Tensor) -> Tensor:
    """Gradient of each picture's own score, flat: `[B, C * H * W]`."""
    (gradients,) = torch.autograd.grad(logits.sum(), pixels, create_graph=True)
    return upcast(gradients.flatten(1))
