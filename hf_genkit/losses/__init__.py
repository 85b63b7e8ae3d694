"""Losses: pure functions on tensors, and one plain dict NAME -> function for each family."""

from .classification import cross_entropy, label_smoothing_cross_entropy, reduce_items
from .distillation import (
    DISTILLATION_LOSSES,
    align_vocabularies,
    dist,
    dkd,
    generalized_jsd,
    kl_divergence,
    logit_mse,
    lskd,
    reverse_kl,
    soft_cross_entropy,
    standardize_logits,
)
from .gan import GAN_LOSSES, GANLoss
from .gan_regularizers import gradient_penalty, r1_penalty, r2_penalty


__all__ = [
    "DISTILLATION_LOSSES",
    "GAN_LOSSES",
    "GANLoss",
    "align_vocabularies",
    "cross_entropy",
    "dist",
    "dkd",
    "generalized_jsd",
    "gradient_penalty",
    "kl_divergence",
    "label_smoothing_cross_entropy",
    "logit_mse",
    "lskd",
    "r1_penalty",
    "r2_penalty",
    "reduce_items",
    "reverse_kl",
    "soft_cross_entropy",
    "standardize_logits",
]
