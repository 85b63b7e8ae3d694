"""
Soft and hard loss of a block of logits with their gradient, in one pass and without autograd.

A closed form takes log-probabilities and probabilities of the student and the same of the teacher, each `[n, C]` in
float32 or float64, and returns the values `[n]` and their gradients `[n, C]` with respect to the softened logits of the
student, neither multiplied by a power of the temperature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .classification import IGNORE_INDEX, LOG_PROB_FLOOR
from .distillation import DISTILLATION_LOSSES, align_vocabularies
from .top_k import TopKTargets, student_events, teacher_events


def probabilities(logits: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Floored log-probabilities, as [`log_probs`] has them, and probabilities; for use without autograd alone."""
    logits = logits if temperature == 1 else logits / temperature
    log_p = logits.log_softmax(-1).clamp_(min=LOG_PROB_FLOOR)
    return log_p, log_p.exp()


def _divergence(log_p: Tensor, p: Tensor, log_q: Tensor, difference: Tensor) -> Tensor:
    """KL(p || q) over the last dimension; the terms of the difference q - p cancel the rounding errors of the logs."""
    return (log_p - log_q).mul_(p).add_(difference).sum(-1).clamp(min=0)


def kl(log_student: Tensor, student: Tensor, log_teacher: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    gradient = student - teacher
    return _divergence(log_teacher, teacher, log_student, gradient), gradient


def soft_ce(log_student: Tensor, student: Tensor, log_teacher: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    return -(teacher * log_student).sum(-1), student - teacher


def reverse_kl(log_student: Tensor, student: Tensor, log_teacher: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    values = _divergence(log_student, student, log_teacher, teacher - student)
    return values, (log_student - log_teacher).sub_(values[:, None]).mul_(student)


def jsd(
    log_student: Tensor, student: Tensor, log_teacher: Tensor, teacher: Tensor, beta: float = 0.5
) -> tuple[Tensor, Tensor]:
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie between 0 and 1, got {beta}.")
    if beta in (0, 1):
        return (reverse_kl if beta else kl)(log_student, student, log_teacher, teacher)
    mixture = (beta * teacher).add_((1 - beta) * student)
    log_mixture = mixture.log().clamp_(min=LOG_PROB_FLOOR)
    of_student = _divergence(log_student, student, log_mixture, mixture - student)
    of_teacher = _divergence(log_teacher, teacher, log_mixture, mixture - teacher)
    gradient = (log_student - log_mixture).sub_(of_student[:, None]).mul_(student).mul_(1 - beta)
    return beta * of_teacher + (1 - beta) * of_student, gradient


CLOSED_FORMS = {"kl": kl, "soft_ce": soft_ce, "reverse_kl": reverse_kl, "jsd": jsd}


def soft_term(
    logits: Tensor,
    teacher: Tensor | TopKTargets,
    labels: Tensor | None,
    weights: Tensor,
    *,
    temperature: float,
    loss_type: str,
    loss_kwargs: dict,
    plain: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Values `[n]` of a distillation loss, and their gradients `[n, C]` with respect to the student's logits, weighted.

    Args:
        logits (`torch.Tensor` of shape `[n, C]`): The student's, in float32 or float64.
        teacher (`torch.Tensor` of shape `[n, C_t]` or [`TopKTargets`]): What it is held against.
        labels (`torch.Tensor` of shape `[n]`, *optional*): For the losses that read them.
        weights (`torch.Tensor` of shape `[n]`): What multiplies each item's gradient, but not its value.
        temperature (`float`): Divides both logits; the values are multiplied by its square.
        loss_type (`str`): A key of [`DISTILLATION_LOSSES`]; for [`TopKTargets`] one of [`CLOSED_FORMS`].
        loss_kwargs (`dict`): The loss's own knobs.
        plain (`tuple[torch.Tensor, torch.Tensor]`, *optional*): [`probabilities`] of `logits`, shared at temperature 1.
    """
    form = CLOSED_FORMS.get(loss_type)
    if form is None:
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            values = DISTILLATION_LOSSES[loss_type](
                leaf, teacher, temperature=temperature, labels=labels, **loss_kwargs
            )
            (gradient,) = torch.autograd.grad(values, leaf, weights)
        return values.detach(), gradient
    factor = (temperature * weights)[:, None]
    shared = plain if temperature == 1 else None
    if isinstance(teacher, TopKTargets):
        log_student, _ = shared or probabilities(logits, temperature)
        events, log_teacher = student_events(log_student, teacher.ids), teacher_events(teacher)
        values, gradient = form(events, events.exp(), log_teacher, log_teacher.exp(), **loss_kwargs)
        gradient = gradient * factor
        spread = (log_student - events[:, -1:]).exp_().mul_(gradient[:, -1:])
        return temperature**2 * values, spread.scatter_(-1, teacher.ids, gradient[:, :-1])
    student, teacher = align_vocabularies(logits, teacher)
    surplus = logits.shape[-1] - student.shape[-1]
    of_student = shared if shared is not None and surplus == 0 else probabilities(student, temperature)
    values, gradient = form(*of_student, *probabilities(teacher, temperature), **loss_kwargs)
    gradient.mul_(factor)
    return temperature**2 * values, F.pad(gradient, (0, surplus)) if surplus else gradient


def hard_term(
    plain: tuple[Tensor, Tensor], labels: Tensor, weights: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """
    Cross-entropy `[n]`, and its gradient `[n, C]` with respect to the logits, weighted; both are 0 for labels of -100.

    Args:
        plain (`tuple[torch.Tensor, torch.Tensor]`):
            [`probabilities`] of the student, each `[n, C]`; the gradient is written over the second.
        labels (`torch.Tensor` of shape `[n]`): Class indices, -100 where there is none.
        weights (`torch.Tensor` of shape `[n]`): What multiplies each item's gradient, but not its value.
        smoothing (`float`): As in [`label_smoothing_cross_entropy`].
    """
    log_p, gradient = plain
    labelled, index = labels != IGNORE_INDEX, labels.clamp(min=0)[:, None]
    factor = torch.where(labelled, weights, 0.0)[:, None]
    values = (smoothing - 1) * log_p.gather(-1, index)[:, 0]
    gradient.mul_(factor)
    if smoothing > 0:
        values = values - smoothing * log_p.mean(-1)
        gradient.sub_(factor * (smoothing / log_p.shape[-1]))
    if torch.compiler.is_compiling():  # which makes a comparison part of a kernel, and ends it for a scattered write
        gradient.sub_((1 - smoothing) * factor * (torch.arange(log_p.shape[-1], device=index.device) == index))
    else:
        gradient.scatter_add_(-1, index, (smoothing - 1) * factor)
    return torch.where(labelled, values, 0.0), gradient
