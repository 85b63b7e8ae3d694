"""Distillation losses: pure functions from logits to one value per item.

Every loss of [`DISTILLATION_LOSSES`] is called the same way,

    loss(student_logits, teacher_logits, *, temperature=1.0, labels=None, mask=None, <its own knobs>)

on these inputs,

| argument         | shape      | meaning                                                                              |
|------------------|------------|--------------------------------------------------------------------------------------|
| `student_logits` | `[..., C]` | unnormalised scores in any float type; computed in float32, float64 stays            |
| `teacher_logits` | `[..., C]` | the same; its last dimension may differ, see [`align_vocabularies`]                  |
| `temperature`    | number > 0 | divides both logits; softened terms are multiplied by its square                     |
| `labels`         | `[...]`    | class indices, -100 where there is none; only [`dkd`] reads them                     |
| `mask`           | `[...]`    | true (or non-zero) for the items that count, default all; whatever the logits hold   |
|                  |            | elsewhere, NaN included, reaches neither the loss nor its gradient                   |

and returns a tensor `[...]` in nats, 0 at masked items, without dividing by anything. So `loss(...).mean()` is the
loss of an unmasked batch, and `reduce_items(loss(...), mask, num_items)` is exact when a global batch is spread over
micro-batches and processes that know only the global `num_items`.

A class whose logit is -inf has probability 0. Log-probabilities are floored at -10,000: where a divergence would be
infinite it is very large instead, and its gradient stays finite.
"""

import functools
import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from .classification import IGNORE_INDEX, log_probs, upcast
from .uld import universal_logit_distillation


def kl_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""
    Forward Kullback-Leibler divergence \\(T^2 KL(p_t || p_s)\\) of the softened distributions: the classic
    knowledge distillation of [Hinton et al. (2015)](https://arxiv.org/abs/1503.02531).

    The student must cover everything that the teacher finds likely. The factor \\(T^2\\) keeps the gradient,
    \\(T (p_s - p_t)\\), at the scale of a hard-label loss. Takes the inputs of the table at the top of this module;
    usual temperatures are 4 for images and 2 for text.

    Use [`reverse_kl`] instead when the student is far too small to cover the teacher, [`dkd`] when a confident teacher
    hides what it knows of the wrong classes, [`lskd`] when the logits of the two differ in scale.

    Raises:
        `ValueError`: if the shapes do not match or `temperature` is not positive.
    """
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    return temperature**2 * _kl(log_probs(teacher, temperature), log_probs(student, temperature))


def soft_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""
    Cross-entropy with soft targets, \\(-T^2 \sum_c p_t \log p_s\\): [`kl_divergence`] plus the teacher's entropy.

    The gradient is that of [`kl_divergence`]; the value does not reach 0. Takes the inputs of the table at the top of
    this module.

    Use [`kl_divergence`] instead when the value shall say how far the student still is from its teacher.
    """
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    log_student, log_teacher = log_probs(student, temperature), log_probs(teacher, temperature)
    return _zero_masked(-(temperature**2) * (log_teacher.exp() * log_student).sum(-1), mask)


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""
    Reverse divergence \\(T^2 KL(p_s || p_t)\\), as in [MiniLLM (Gu et al., 2024)](https://arxiv.org/abs/2306.08543).

    The student must avoid what the teacher finds unlikely, and may settle on some of the teacher's modes. Takes the
    inputs of the table at the top of this module.

    Use [`kl_divergence`] instead when the student has the capacity to follow the whole distribution, and
    [`generalized_jsd`] for anything in between.
    """
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    return temperature**2 * _kl(log_probs(student, temperature), log_probs(teacher, temperature))


def generalized_jsd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    beta: float = 0.5,
) -> Tensor:
    r"""
    Generalised Jensen-Shannon divergence \\(T^2 [\beta KL(p_t || m) + (1 - \beta) KL(p_s || m)]\\) with the mixture
    \\(m = \beta p_t + (1 - \beta) p_s\\), from [GKD (Agarwal et al., 2024)](https://arxiv.org/abs/2306.13649).

    It is bounded, so single items on which the two disagree do not rule the batch. Divided by
    \\(\beta (1 - \beta)\\) it tends to the forward KL for beta to 0 and to the reverse KL for beta to 1; at exactly
    0 and 1, where the formula itself vanishes, the two divergences are returned. Values close to the ends are
    therefore small, and not comparable in scale with the ends.

    Takes the inputs of the table at the top of this module, and

    | argument | type    | default | meaning                                                |
    |----------|---------|---------|--------------------------------------------------------|
    | `beta`   | `float` | 0.5     | weight of the teacher in the mixture, between 0 and 1  |

    Use [`kl_divergence`] or [`reverse_kl`] instead when one direction is known to be the right one.

    Raises:
        `ValueError`: if `beta` is outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie between 0 and 1, got {beta}.")
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    log_student, log_teacher = log_probs(student, temperature), log_probs(teacher, temperature)
    if beta == 0:
        return temperature**2 * _kl(log_teacher, log_student)
    if beta == 1:
        return temperature**2 * _kl(log_student, log_teacher)
    log_mixture = torch.logaddexp(log_teacher + math.log(beta), log_student + math.log1p(-beta))
    return temperature**2 * (beta * _kl(log_teacher, log_mixture) + (1 - beta) * _kl(log_student, log_mixture))


def logit_mse(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""
    Mean squared difference of the logits over the classes, as in
    [Ba and Caruana (2014)](https://arxiv.org/abs/1312.6184): the limit of the softened losses for high temperatures
    when both logits have zero mean.

    The temperature cancels, since \\(T^2 \cdot mean((s/T - t/T)^2)\\) does not depend on it. A class that either side
    rules out (-inf) is left out. Takes the inputs of the table at the top of this module.

    Use [`lskd`] instead when only the shape of the logits, and not their offset and scale, shall be matched.

    Returns:
        `torch.Tensor` of shape `[...]`, in squared logit units.
    """
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    comparable = (student != -torch.inf) & (teacher != -torch.inf)
    difference = torch.where(comparable, student - teacher, 0.0)
    return difference.square().sum(-1) / comparable.sum(-1).clamp(min=1)


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    r"""
    Decoupled knowledge distillation, [Zhao et al. (2022)](https://arxiv.org/abs/2203.08679):
    \\(T^2 [\alpha KL(b_t || b_s) + \beta KL(\hat p_t || \hat p_s)]\\), where \\(b = (p_y, 1 - p_y)\\) holds the label's
    class against the rest and \\(\hat p\\) is the distribution over the other classes alone.

    The classic loss weighs its second part by \\(1 - p_y\\) of the teacher, so a confident teacher passes on little.
    An item whose label is -100 has no target class: it falls back to [`kl_divergence`], unless `mask` leaves it out.

    Takes the inputs of the table at the top of this module (here `labels` is required), and

    | argument | type    | default | meaning                                                                 |
    |----------|---------|---------|-------------------------------------------------------------------------|
    | `alpha`  | `float` | 1.0     | weight of the part about the target class                               |
    | `beta`   | `float` | 8.0     | weight of the part about the others; the paper uses 2 to 8 by the pair  |

    Use [`kl_divergence`] instead when there are no labels. The paper ramps the loss up over the first 20 epochs.

    Raises:
        `ValueError`: if `labels` is missing.
    """
    if labels is None:
        raise ValueError("dkd needs labels, got None: it separates the class of the label from the others.")
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    log_student, log_teacher = log_probs(student, temperature), log_probs(teacher, temperature)
    labelled = labels != IGNORE_INDEX
    index = torch.where(labelled, labels, 0)[..., None]

    def decouple(log_p: Tensor) -> tuple[Tensor, Tensor]:
        others = log_p.scatter(-1, index, -torch.inf)
        target_and_rest = torch.cat([log_p.gather(-1, index), others.logsumexp(-1, keepdim=True)], dim=-1)
        return target_and_rest, log_probs(others)

    student_target, student_others = decouple(log_student)
    teacher_target, teacher_others = decouple(log_teacher)
    decoupled = alpha * _kl(teacher_target, student_target) + beta * _kl(teacher_others, student_others)
    return temperature**2 * torch.where(labelled, decoupled, _kl(log_teacher, log_student))


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    r"""
    Distillation from a stronger teacher, [DIST (Huang et al., 2022)](https://arxiv.org/abs/2205.10536): matches
    relations by Pearson's correlation \\(\rho\\) of the probabilities instead of the probabilities themselves.

    `beta` weighs \\(1 - \rho\\) over the classes of each item, `gamma` weighs \\(1 - \rho\\) over the items of the
    batch, averaged over the classes. The second part is added to every item, so that the mean over the items is the
    paper's value. **It relates the items of one call by definition**: with gradient accumulation or several processes
    it is computed per micro-batch, depends on its size and vanishes for a single item. With `gamma=0` the loss is
    per item, like the others of this module.

    Takes the inputs of the table at the top of this module (the paper keeps `temperature` at 1), and

    | argument | type    | default | meaning                                               |
    |----------|---------|---------|-------------------------------------------------------|
    | `beta`   | `float` | 1.0     | weight of the correlation over the classes of an item |
    | `gamma`  | `float` | 1.0     | weight of the correlation over the items of the batch |

    Use [`kl_divergence`] instead when teacher and student are of similar strength, or batches are tiny.
    """
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    student, teacher = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
    inter = _one_minus_cosine(student - student.mean(-1, keepdim=True), teacher - teacher.mean(-1, keepdim=True), -1)

    present = torch.ones_like(inter) if mask is None else mask.to(inter.dtype)
    present = present.reshape(-1, 1)

    def centre_over_items(probs: Tensor) -> Tensor:
        probs = probs.reshape(-1, probs.shape[-1])
        mean = (present * probs).sum(0) / present.sum()
        return present * (probs - mean)

    intra = _one_minus_cosine(centre_over_items(student), centre_over_items(teacher), 0).mean()
    return _zero_masked(temperature**2 * (beta * inter + gamma * intra), mask)


def lskd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""
    [`kl_divergence`] of logits that [`standardize_logits`] gave zero mean and unit deviation,
    [Sun et al. (2024)](https://arxiv.org/abs/2403.01427).

    The student need not copy the teacher's confidence, only the order and the relative distances of its logits. Takes
    the inputs of the table at the top of this module; the paper uses temperature 2 and a weight of 9 against a
    cross-entropy of weight 0.1.

    Use [`kl_divergence`] instead when the student shall also be as calibrated as its teacher.
    """
    student, teacher = _prepare(student_logits, teacher_logits, temperature, mask)
    log_student = log_probs(standardize_logits(student), temperature)
    return temperature**2 * _kl(log_probs(standardize_logits(teacher), temperature), log_student)


DISTILLATION_LOSSES = {
    "kl": kl_divergence,
    "soft_ce": soft_cross_entropy,
    "reverse_kl": reverse_kl,
    "jsd": generalized_jsd,
    "mse": logit_mse,
    "dkd": dkd,
    "dist": dist,
    "lskd": lskd,
    "uld": universal_logit_distillation,
}


def standardize_logits(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """
    Shifts and scales the logits of each item to mean 0 and (population) standard deviation 1 over its classes.

    Args:
        logits (`torch.Tensor` of shape `[..., C]`):
            Unnormalised scores. Classes at -inf are left out of the statistics and stay at -inf.
        eps (`float`, *optional*, defaults to 1e-7):
            Lowest standard deviation to divide by, in logit units: constant logits become zeros.

    Returns:
        `torch.Tensor` of shape `[..., C]`.
    """
    logits = upcast(logits)
    present = logits != -torch.inf
    count = present.sum(-1, keepdim=True)
    mean = torch.where(present, logits, 0.0).sum(-1, keepdim=True) / count
    centred = torch.where(present, logits - mean, 0.0)
    deviation = (centred.square().sum(-1, keepdim=True) / count).clamp(min=eps**2).sqrt()
    return torch.where(present, centred / deviation, -torch.inf)


def align_vocabularies(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """
    Slices the larger last dimension to the smaller one, with one warning per pair of sizes.

    Models of one family share their token ids but pad the embedding matrix differently (151,936 and 152,064 entries in
    Qwen), so the surplus entries stand for no token. The softmax of the losses, which all call this function,
    renormalises over the common entries; the surplus entries get no gradient. Models whose ids mean different things
    (another tokenizer, another order of labels) have to be matched before.

    Args:
        student_logits (`torch.Tensor` of shape `[..., C_s]`):
            Unnormalised scores of the student.
        teacher_logits (`torch.Tensor` of shape `[..., C_t]`):
            Unnormalised scores of the teacher.

    Returns:
        `tuple(torch.Tensor, torch.Tensor)`: views `[..., min(C_s, C_t)]` of the two.
    """
    student_size, teacher_size = student_logits.shape[-1], teacher_logits.shape[-1]
    if student_size == teacher_size:
        return student_logits, teacher_logits
    _warn_of_sizes(student_size, teacher_size)
    size = min(student_size, teacher_size)
    return student_logits[..., :size], teacher_logits[..., :size]


@functools.cache
def _warn_of_sizes(student_size: int, teacher_size: int):
    warnings.warn(
        f"The student has {student_size} classes and the teacher {teacher_size}: only the first "
        f"{min(student_size, teacher_size)} are compared. This is right if the others are padding.",
        stacklevel=5,
    )


def _prepare(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Checks, aligns and upcasts the logits. Masked items become equal on both sides: no divergence, no gradient."""
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    items = student_logits.shape[:-1]
    if teacher_logits.shape[:-1] != items:
        raise ValueError(
            f"student_logits {list(student_logits.shape)} and teacher_logits {list(teacher_logits.shape)} must agree "
            "in all dimensions but the last."
        )
    if mask is not None and mask.shape != items:
        raise ValueError(f"mask must have one entry per item, {list(items)}, got {list(mask.shape)}.")
    student, teacher = (upcast(logits) for logits in align_vocabularies(student_logits, teacher_logits))
    if mask is None:
        return student, teacher
    mask = mask.bool()[..., None]
    return torch.where(mask, student, 0.0), torch.where(mask, teacher, 0.0)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension; the terms q - p add up to 0 and cancel the rounding errors of the logs."""
    p = log_p.exp()
    return (p * (log_p - log_q) + (log_q.exp() - p)).sum(-1)


def _one_minus_cosine(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """1 - cos(x, y) without cancellation, as half the squared distance of the unit vectors; 0 where both vanish."""
    return (F.normalize(x, dim=dim, eps=1e-8) - F.normalize(y, dim=dim, eps=1e-8)).square().sum(dim) / 2


def _zero_masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else torch.where(mask.bool(), values, 0.0)
