"""Several teachers: how they share the soft term, and what they say together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..losses import cross_entropy
from ..losses.classification import IGNORE_INDEX, log_probs, upcast


def teacher_shares(weights: list[float] | str | None, teacher_logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    r"""
    How much each teacher counts for each item.

    Args:
        weights (`list[float]` or `str`, *optional*):
            One positive weight for each teacher; or "confidence", the shares \\((1 - \text{softmax}_k(H_k)) / (K - 1)\\)
            of [CA-MKD (Zhang et al., 2022)](https://arxiv.org/abs/2201.00007), where \\(H_k\\) is teacher \\(k\\)'s
            cross-entropy with the item's label, or its entropy if the item has none. Equal by default.
        teacher_logits (`list[torch.Tensor]`): Of each of the \\(K\\) teachers, `[items, classes]`.
        labels (`torch.Tensor`): `[items]`, -100 where there is none.

    Returns:
        `torch.Tensor`: `[teachers, items]` in float32 (float64 stays), sums to 1 over the teachers.
    """
    count = len(teacher_logits)
    if weights == "confidence" and count > 1:
        doubts = [torch.where(labels == IGNORE_INDEX, _entropy(x), cross_entropy(x, labels)) for x in teacher_logits]
        return (1 - torch.stack(doubts).softmax(0)) / (count - 1)
    fixed = weights if isinstance(weights, list) else [1.0] * count
    shares = torch.tensor(fixed, dtype=upcast(teacher_logits[0]).dtype, device=labels.device)
    return (shares / shares.sum())[:, None].expand(-1, len(labels))


def ensemble_logits(shares: Tensor, teacher_logits: Sequence[Tensor]) -> Tensor:
    """
    The logarithm of the mixture of the teachers' probabilities: one teacher that speaks for all.

    Args:
        shares (`torch.Tensor`): `[teachers, items]`, sums to 1 over the teachers.
        teacher_logits (`list[torch.Tensor]`): Of each teacher, `[items, classes]`.

    Returns:
        `torch.Tensor`: `[items, classes]`, log-probabilities.
    """
    stacked = torch.stack([log_probs(upcast(logits)) for logits in teacher_logits])
    return (shares.log()[..., None] + stacked).logsumexp(0)


def _entropy(logits: Tensor) -> Tensor:
    log_p = log_probs(upcast(logits))
    return -(log_p.exp() * log_p).sum(-1)
