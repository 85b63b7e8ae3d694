"""What every loss over classes shares: hard-label cross-entropy per item, and the sum of items that is exact globally."""

import torch
from torch import Tensor


LOG_PROB_FLOOR = -1e4
IGNORE_INDEX = -100


def upcast(logits: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_probs(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softened log-probabilities, floored so that impossible classes (-inf) keep sums and gradients finite."""
    return (logits / temperature).log_softmax(-1).clamp(min=LOG_PROB_FLOOR)


def label_smoothing_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    r"""
    Cross-entropy with the label's target lowered to \\(1 - \epsilon + \epsilon / C\\) and every other raised to
    \\(\epsilon / C\\), [Szegedy et al. (2016)](https://arxiv.org/abs/1512.00567): the teacher-free baseline.

    | argument    | shape      | meaning                                                                      |
    |-------------|------------|------------------------------------------------------------------------------|
    | `logits`    | `[..., C]` | unnormalised scores                                                          |
    | `labels`    | `[...]`    | class indices; an item with -100 has loss 0 and no gradient, even if NaN     |
    | `smoothing` | `float`    | \\(\epsilon\\), at least 0 and below 1, defaults to 0.1                      |

    Use [`cross_entropy`] instead with a teacher: smoothed labels blur what its soft targets say of the classes.

    Returns:
        `torch.Tensor` of shape `[...]`, in nats.

    Raises:
        `ValueError`: if `smoothing` is outside [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be at least 0 and below 1, got {smoothing}.")
    labelled = labels != IGNORE_INDEX
    log_p = log_probs(torch.where(labelled[..., None], upcast(logits), 0.0))
    target = log_p.gather(-1, torch.where(labelled, labels, 0)[..., None]).squeeze(-1)
    values = -((1 - smoothing) * target + smoothing * log_p.mean(-1)) if smoothing else -target
    return torch.where(labelled, values, 0.0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """
    Cross-entropy with hard labels, per item: `logits` `[..., C]` and class indices `labels` `[...]` give `[...]` in
    nats. An item with label -100 has loss 0 and no gradient, even if its logits are NaN.

    Use [`label_smoothing_cross_entropy`] instead for a stronger baseline without a teacher, [`soft_cross_entropy`]
    when the targets are a teacher's logits.
    """
    return label_smoothing_cross_entropy(logits, labels, smoothing=0.0)


def reduce_items(values: Tensor, mask: Tensor | None = None, num_items: Tensor | float | None = None) -> Tensor:
    """
    Sum of the items that count, divided by `num_items`.

    Args:
        values (`torch.Tensor` of shape `[...]`):
            One loss per item. What stands at masked positions is dropped, NaN and infinity included; give the loss
            function the same mask, so that they reach the gradient neither.
        mask (`torch.Tensor` of shape `[...]`, *optional*):
            True (or non-zero) for the items that count. Defaults to all.
        num_items (`float` or scalar `torch.Tensor`, *optional*):
            The divisor: pass the count over the whole global batch, so that micro-batches add up to it. Defaults to
            the number of unmasked items, at least 1, which gives their mean.

    Returns:
        Scalar `torch.Tensor`.
    """
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.bool()
    if num_items is None:
        num_items = mask.sum().clamp(min=1)
    return torch.where(mask, values, 0.0).sum() / num_items
