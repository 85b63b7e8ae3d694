"""Losses: pure functions on tensors, and one plain dict NAME -> function for each family."""

from .classification import cross_entropy, label_smoothing_cross_entropy, reduce_items
from .ctc import ctc_loss
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
from .features import (
    EQUAL_WIDTH_LOSSES,
    FEATURE_LOSSES,
    attention_transfer,
    feature_cosine,
    feature_mse,
    linear_cka,
    mean_over_positions,
)
from .gan import GAN_LOSSES, GANLoss
from .gan_regularizers import gradient_penalty, r1_penalty, r2_penalty
from .relations import BATCH_LOSSES, RELATION_LOSSES, pkt, rkd_angle, rkd_distance, similarity


__all__ = [
    "BATCH_LOSSES",
    "DISTILLATION_LOSSES",
    "EQUAL_WIDTH_LOSSES",
    "FEATURE_LOSSES",
    "GAN_LOSSES",
    "RELATION_LOSSES",
    "GANLoss",
    "align_vocabularies",
    "attention_transfer",
    "cross_entropy",
    "ctc_loss",
    "dist",
    "dkd",
    "feature_cosine",
    "feature_mse",
    "generalized_jsd",
    "gradient_penalty",
    "kl_divergence",
    "label_smoothing_cross_entropy",
    "linear_cka",
    "logit_mse",
    "lskd",
    "mean_over_positions",
    "pkt",
    "r1_penalty",
    "r2_penalty",
    "reduce_items",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
    "similarity",
    "soft_cross_entropy",
    "standardize_logits",
]
