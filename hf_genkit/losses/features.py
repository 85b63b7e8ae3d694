"""Losses on hidden states: what a student's layer holds at each position against what its teacher's holds there.

Every loss of [`FEATURE_LOSSES`] is called the same way, `loss(student, teacher, mask=None)`, on these inputs,

| argument  | shape       | meaning                                                                                     |
|-----------|-------------|---------------------------------------------------------------------------------------------|
| `student` | `[B, P, C]` | B samples with P positions (tokens, or the cells of a grid) and C channels, in any float    |
|           |             | type; computed in float32, float64 stays                                                    |
| `teacher` | `[B, P, D]` | the same of the teacher; [`EQUAL_WIDTH_LOSSES`] need D = C, so a projection where they differ |
| `mask`    | `[B, P]`    | true for the positions that count, default all; whatever stands elsewhere, NaN included,    |
|           |             | reaches neither the loss nor its gradient                                                   |

and returns `[B]`: each sample's mean over its own positions, 0 where it has none. Nothing is divided by B.
"""

import torch
from torch import Tensor

from .classification import upcast


def feature_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Mean squared difference over positions and channels: the hints of
    [FitNets (Romero et al., 2015)](https://arxiv.org/abs/1412.6550).

    Takes the inputs of the table at the top of this module, of equal width. Use [`feature_cosine`] instead where only
    the direction shall be matched, [`attention_transfer`] where the widths differ and nothing shall be projected.

    Raises:
        `ValueError`: if the shapes differ.
    """
    student, teacher = _prepare(student, teacher, mask, equal_width=True)
    return mean_over_positions((student - teacher).square().mean(-1), mask)


def feature_cosine(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""
    \\(1 - \cos(f_s, f_t)\\) at each position, as [DistilBERT (Sanh et al., 2019)](https://arxiv.org/abs/1910.01108)
    aligns the directions of hidden states.

    Takes the inputs of the table at the top of this module, of equal width. A vector of zeros has no direction: its
    gradient is 0. Use [`feature_mse`] instead where the size of the activations shall be matched, too.

    Raises:
        `ValueError`: if the shapes differ.
    """
    student, teacher = _prepare(student, teacher, mask, equal_width=True)
    return mean_over_positions((unit(student) - unit(teacher)).square().sum(-1) / 2, mask)


def attention_transfer(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""
    Attention transfer, [Zagoruyko and Komodakis (2017)](https://arxiv.org/abs/1612.03928): the mean over positions of
    \\((a_s - a_t)^2\\), where \\(a\\) is the map of the channels' mean squares, of norm 1 over a sample's positions.

    The student learns where its teacher is active, not what it says there, so the widths may differ. Takes the inputs
    of the table at the top of this module; the usual weight is 1000. The value follows the code of
    [CRD (Tian et al., 2020)](https://arxiv.org/abs/1910.10699), which takes the mean where the paper takes the norm.
    """
    student, teacher = _prepare(student, teacher, mask)
    student, teacher = (unit(x.square().mean(-1)) for x in (student, teacher))
    return mean_over_positions((student - teacher).square(), mask)


def linear_cka(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""
    1 - linear CKA, [Kornblith et al. (2019)](https://arxiv.org/abs/1905.00414): how differently the two arrange the
    samples of a batch, whatever rotation and scale each of them has.

    A sample is the mean over its positions, so that texts of any length are compared; the widths may differ. **It relates the
    items of one call by definition**: each of them gets the batch's value, with gradient accumulation or several
    processes that of the micro-batch. It is 0 for fewer than three samples, and small for few samples of many channels.

    Takes the inputs of the table at the top of this module. Use [`attention_transfer`] instead when batches are tiny.
    """
    pooled = (mean_over_positions(x, mask) for x in _prepare(student, teacher, mask))
    ours, theirs = (unit(gram(x - x.mean(0)).flatten()) for x in pooled)
    return ((ours - theirs).square().sum() / 2).expand(len(student))


FEATURE_LOSSES = {
    "mse": feature_mse,
    "cosine": feature_cosine,
    "attention": attention_transfer,
    "cka": linear_cka,
}
EQUAL_WIDTH_LOSSES = ("mse", "cosine")


def mean_over_positions(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    The mean over each sample's positions.

    Args:
        values (`torch.Tensor` of shape `[B, P]` or `[B, P, C]`): What stands at the positions.
        mask (`torch.Tensor` of shape `[B, P]`, *optional*): True for the positions that count; defaults to all.

    Returns:
        `torch.Tensor` of shape `[B]` or `[B, C]`; 0 for a sample without positions.
    """
    if mask is None:
        return values.mean(1)
    mask = mask.bool().reshape(*mask.shape, *[1] * (values.ndim - 2))
    return torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def unit(x: Tensor) -> Tensor:
    """`x` with norm 1 over its last dimension; zeros stay zeros, and their gradient is 0 instead of infinite."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(norm > 0, x / norm.clamp(min=1e-12), 0.0)


def gram(x: Tensor) -> Tensor:
    """The products of all pairs of rows, `[..., B, D]` to `[..., B, B]`, in full precision under autocast, too."""
    with torch.autocast(x.device.type, enabled=False):
        return x @ x.mT


def _prepare(
    student: Tensor, teacher: Tensor, mask: Tensor | None, equal_width: bool = False
) -> tuple[Tensor, Tensor]:
    """Checks and upcasts the features. Masked positions become zeros on both sides: no difference, no gradient."""
    compared = slice(None) if equal_width else slice(2)
    if student.shape[compared] != teacher.shape[compared]:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must agree in "
            f"{'samples, positions and channels' if equal_width else 'samples and positions'}."
        )
    student, teacher = upcast(student), upcast(teacher)
    if mask is None:
        return student, teacher
    mask = mask.bool()[..., None]
    return torch.where(mask, student, 0.0), torch.where(mask, teacher, 0.0)
