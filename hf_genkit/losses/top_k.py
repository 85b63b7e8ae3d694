"""Distillation from a teacher's k most likely classes and the exact probability of all the others together."""

from typing import NamedTuple

import torch
from torch import Tensor

from .classification import LOG_PROB_FLOOR, log_probs, upcast


class TopKTargets(NamedTuple):
    """
    What a teacher thinks of its k most likely classes; the others share what is missing to 1.

    Attributes:
        ids (`torch.Tensor` of shape `[..., k]`): Class indices, distinct within an item.
        log_probs (`torch.Tensor` of shape `[..., k]`): Their softened log-probabilities.
    """

    ids: Tensor
    log_probs: Tensor


def top_k_targets(logits: Tensor, k: int, temperature: float = 1.0) -> TopKTargets:
    """
    The `k` most likely classes of each item, likeliest first.

    Args:
        logits (`torch.Tensor` of shape `[..., C]`):
            Unnormalised scores of the teacher. Where it has more classes than its student, slice them before.
        k (`int`): How many classes to keep, at least 1 and at most C.
        temperature (`float`, *optional*, defaults to 1.0):
            Divides the logits. It can't be changed afterwards: the tail of another temperature is another.

    Returns:
        [`TopKTargets`] in float32 (float64 for float64).

    Raises:
        `ValueError`: if `k` is not between 1 and C.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"k must lie between 1 and the number of classes, {logits.shape[-1]}, got {k}.")
    values, ids = log_probs(upcast(logits), temperature).topk(k)
    return TopKTargets(ids, values)


def teacher_events(targets: TopKTargets) -> Tensor:
    """Log-probabilities `[..., k + 1]` of the k classes and of the tail, which has all that is missing to 1."""
    kept = upcast(targets.log_probs)
    tail = (1 - kept.exp().sum(-1, keepdim=True)).clamp(min=0).log()
    return torch.cat([kept, tail], dim=-1).clamp(min=LOG_PROB_FLOOR)


def student_events(log_p: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities `[..., k + 1]` of the classes `ids` and of all others together, from those of all, `[..., C]`."""
    tail = log_p.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_p.gather(-1, ids), tail], dim=-1).clamp(min=LOG_PROB_FLOOR)


def top_k_divergence(
    student_logits: Tensor, targets: TopKTargets, *, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    r"""
    Forward divergence \\(T^2 KL(p_t || p_s)\\) of k + 1 events: the teacher's k likeliest classes, and all others as one.

    | argument         | shape      | meaning                                                              |
    |------------------|------------|----------------------------------------------------------------------|
    | `student_logits` | `[..., C]` | unnormalised scores in any float type                                |
    | `targets`        | `[..., k]` | [`top_k_targets`] of the teacher at the same temperature             |
    | `temperature`    | number > 0 | divides the student's logits; the value is multiplied by its square  |
    | `mask`           | `[...]`    | true for the items that count, default all; the others give 0        |

    Merging events can only lower a divergence, so the value is at most that of [`kl_divergence`] and is equal to it for
    k = C. Nothing is renormalised: a student that puts too much on the tail is told so.

    Use [`kl_divergence`] instead when the teacher's logits fit into memory or a cache.

    Returns:
        `torch.Tensor` of shape `[...]`, in nats, never negative.

    Raises:
        `ValueError`: if the shapes do not match or `temperature` is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    if targets.ids.shape[:-1] != student_logits.shape[:-1]:
        raise ValueError(
            f"student_logits {list(student_logits.shape)} and the ids {list(targets.ids.shape)} must agree in all "
            "dimensions but the last."
        )
    student, log_teacher = upcast(student_logits), teacher_events(targets)
    if mask is not None:
        student = torch.where(mask.bool()[..., None], student, 0.0)
    log_student = student_events(log_probs(student, temperature), targets.ids)
    teacher = log_teacher.exp()
    terms = teacher * (log_teacher - log_student) + (log_student.exp() - teacher)
    values = temperature**2 * terms.sum(-1).clamp(min=0)
    return values if mask is None else torch.where(mask.bool(), values, 0.0)
