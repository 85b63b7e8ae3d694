"""Objectives of a variational autoencoder: pure functions from the terms of a batch to a loss for each picture."""

import math
from dataclasses import dataclass

import torch

from .configuration_vae import VAEConfig


@dataclass
class Terms:
    """
    What a loss is made of, in fp32.

    Args:
        log_likelihood (`torch.Tensor` of shape `(batch, samples)`): log p(x | z) in nats.
        kl (`torch.Tensor` of shape `(batch, latents)`): Divergence of q(z | x) from N(0, 1), latent by latent.
        mean, log_variance (`torch.Tensor` of shape `(batch, latents)`): Parameters of q(z | x).
        noise, latents (`torch.Tensor` of shape `(batch, samples, latents)`): latents = mean + noise * deviation.
    """

    log_likelihood: torch.Tensor
    kl: torch.Tensor
    mean: torch.Tensor
    log_variance: torch.Tensor
    noise: torch.Tensor
    latents: torch.Tensor

    @property
    def reconstruction(self) -> torch.Tensor:
        return -self.log_likelihood.mean(1)


Loss = tuple[torch.Tensor, torch.Tensor | None]


def elbo(terms: Terms, config: VAEConfig, beta: float) -> Loss:
    """Reconstruction and beta KL, with free bits or a target capacity."""
    kl = terms.kl.clamp(min=config.free_bits) if config.free_bits else terms.kl
    kl = kl.sum(-1)
    if config.capacity is not None:
        kl = (kl - config.capacity).abs()
    return terms.reconstruction + beta * kl, None


def beta_tc(terms: Terms, config: VAEConfig, beta: float) -> Loss:
    """The ELBO, and the total correlation with the weight beta - 1; the KL itself stays analytic."""
    _, total_correlation, _ = decompose_kl(terms.latents[:, 0], terms.mean, terms.log_variance, config.dataset_size)
    return terms.reconstruction + terms.kl.sum(-1) + (beta - 1) * total_correlation, total_correlation


def info_vae(terms: Terms, config: VAEConfig, beta: float) -> Loss:
    """Reconstruction, beta KL and the MMD between the batch's latents and its noise, which is a sample of the prior."""
    mmd = maximum_mean_discrepancy(terms.latents[:, 0], terms.noise[:, 0]).expand(len(terms.mean))
    return terms.reconstruction + beta * terms.kl.sum(-1) + config.mmd_weight * mmd, mmd


def wae_mmd(terms: Terms, config: VAEConfig, beta: float) -> Loss:
    """The same without the KL: `beta` has no effect."""
    return info_vae(terms, config, 0.0)


def iwae(terms: Terms, config: VAEConfig, beta: float) -> Loss:
    """The importance-weighted bound; during a warm-up of beta, p(z) / q(z | x) has the exponent beta."""
    return -log_mean_exp(terms.log_likelihood + beta * log_ratio(terms.latents, terms.noise, terms.log_variance)), None


OBJECTIVES = {"beta_tc": beta_tc, "elbo": elbo, "info_vae": info_vae, "iwae": iwae, "wae_mmd": wae_mmd}


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, element by element."""
    return (mean.square() + log_variance.exp() - log_variance - 1) / 2


def log_ratio(latents: torch.Tensor, noise: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """
    log p(z) - log q(z | x), summed over latents.

    Args:
        latents (`torch.Tensor` of shape `(batch, samples, latents)`): z = mean + noise * deviation.
        noise (`torch.Tensor` of shape `(batch, samples, latents)`): Standard normal.
        log_variance (`torch.Tensor` of shape `(batch, latents)`): Of q(z | x).
    """
    return (noise.square().sum(-1) - latents.square().sum(-1) + log_variance.sum(-1, keepdim=True)) / 2


def log_mean_exp(values: torch.Tensor) -> torch.Tensor:
    """log of the mean of exp(`values`) over the last dimension."""
    return values.logsumexp(-1) - math.log(values.shape[-1])


def decompose_kl(
    latents: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, dataset_size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Estimates the three parts of the KL divergence for each sample of a batch (Chen et al., 2018): the mutual
    information of picture and latents, the total correlation of the latents, and the divergence of each latent from
    the prior. They add up to log q(z | x) - log p(z).

    The aggregate q(z) is estimated from the batch of M: a picture's own q(z | x) has the weight 1 / N, each other
    one the weight (N - 1) / (N (M - 1)), which is unbiased for batches drawn without replacement from N pictures.

    Args:
        latents (`torch.Tensor` of shape `(batch, latents)`): A sample of each picture's q(z | x).
        mean, log_variance (`torch.Tensor` of shape `(batch, latents)`): Parameters of q(z | x).
        dataset_size (`int`, *optional*, defaults to the size of the batch): N.

    Returns:
        `tuple`: Mutual information, total correlation and dimension-wise KL, each of shape `(batch,)`, in nats.
    """
    batch = len(latents)
    size = dataset_size or batch
    # log q(z_i | x_j), latent by latent: (batch of z, batch of x, latents).
    log_density = -((latents[:, None] - mean).square() * (-log_variance).exp() + log_variance) / 2
    log_density = log_density - math.log(2 * math.pi) / 2
    weights = latents.new_full((batch, batch), (size - 1) / (size * max(batch - 1, 1))).fill_diagonal_(1 / size)
    log_weights = weights.log()
    log_q_given_x = log_density.diagonal().sum(0)
    log_q = (log_density.sum(-1) + log_weights).logsumexp(1)
    log_q_product = (log_density + log_weights[:, :, None]).logsumexp(1).sum(-1)
    log_p = -(latents.square() + math.log(2 * math.pi)).sum(-1) / 2
    return log_q_given_x - log_q, log_q - log_q_product, log_q_product - log_p


def maximum_mean_discrepancy(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """
    Squared MMD of two samples (n, latents) under the mean of seven inverse multiquadratic kernels, the scales of
    Tolstikhin et al. (2018) for a standard normal prior. It is 0 for equal samples, and below 2.

    The kernel is averaged over pairs of different positions in all three terms. Within the samples that makes the
    estimate unbiased (it may fall a little below 0); between them it leaves out the pairs of a latent and the very noise
    that it was made of, which would reward a latent for being nothing but its noise.
    """
    scales = first.new_tensor([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]) * 2 * first.shape[-1]

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squares = (a[:, None] - b).square().sum(-1)
        means = (scales / (scales + squares[..., None])).mean(-1)
        return (means.sum() - means.diagonal().sum()) / max(len(means) * (len(means) - 1), 1)

    return kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
