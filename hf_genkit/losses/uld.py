"""Distillation between models whose tokenizers differ, so that class i of one is not class i of the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .classification import upcast


def universal_logit_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""
    Sum of the absolute differences of the sorted probabilities, \\(T^2 \sum_r |p_s^{(r)} - p_t^{(r)}|\\), from
    [Universal Logit Distillation (Boizard et al., 2024)](https://arxiv.org/abs/2402.12030).

    The r-th likeliest token of one is held against the r-th likeliest of the other, whatever they stand for; the smaller
    vocabulary gets tokens of probability 0. What is taught is thus how sure to be, not of what: add the cross-entropy
    with labels. It is a Wasserstein distance of which all moves cost the same, between 0 and \\(2 T^2\\).

    Takes the inputs of the table at the top of [`distillation`], except that the vocabularies may have any two sizes and
    none of them is cut; items have to be paired before, position by position.

    Use [`kl_divergence`] instead when the two share a tokenizer: order alone can't tell right tokens from wrong ones.

    Returns:
        `torch.Tensor` of shape `[...]`, 0 at masked items.

    Raises:
        `ValueError`: if the shapes do not match in all dimensions but the last or `temperature` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    if student_logits.shape[:-1] != teacher_logits.shape[:-1]:
        raise ValueError(
            f"student_logits {list(student_logits.shape)} and teacher_logits {list(teacher_logits.shape)} must agree "
            "in all dimensions but the last."
        )
    if mask is not None and mask.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"mask must have one entry per item, {list(student_logits.shape[:-1])}, got {list(mask.shape)}."
        )
    classes = max(student_logits.shape[-1], teacher_logits.shape[-1])
    keep = torch.ones((), dtype=torch.bool, device=student_logits.device) if mask is None else mask.bool()

    def ranked(logits: Tensor) -> Tensor:
        probs = (torch.where(keep[..., None], upcast(logits), 0.0) / temperature).softmax(-1)
        return F.pad(probs.sort(dim=-1, descending=True).values, (0, classes - logits.shape[-1]))

    distance = (ranked(student_logits) - ranked(teacher_logits)).abs().sum(-1)
    return temperature**2 * torch.where(keep, distance, 0.0)
