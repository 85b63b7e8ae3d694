"""Losses on relations: how the samples of a batch lie to each other for a student and for its teacher.

Every loss of [`RELATION_LOSSES`] is called the same way, `loss(student, teacher)`, on these inputs,

| argument  | shape    | meaning                                                                                |
|-----------|----------|----------------------------------------------------------------------------------------|
| `student` | `[B, D]` | one vector a sample, in any float type; computed in float32, float64 stays             |
| `teacher` | `[B, E]` | the same of the teacher, of any width                                                  |

and returns `[B]`: the part of each sample, of which the mean over the batch is the published value. They all relate the
items of one call by definition: with gradient accumulation or several processes they are computed per micro-batch and
depend on its size. A single sample gives 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .classification import upcast
from .features import gram, unit


def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """
    Distances of all pairs of samples, each over the mean of the batch's distances above 0, compared by the smooth L1
    loss: [relational knowledge distillation (Park et al., 2019)](https://arxiv.org/abs/1904.05068).

    Takes the inputs of the table at the top of this module; the paper's weight is 25, beside [`rkd_angle`] with 50.

    Raises:
        `ValueError`: if the numbers of samples differ.
    """
    ours, theirs = (_relative_distances(x) for x in _prepare(student, teacher))
    return F.smooth_l1_loss(ours, theirs, reduction="none").mean(1)


def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """
    Cosines of the angles that all triples of samples form, compared by the smooth L1 loss:
    [relational knowledge distillation (Park et al., 2019)](https://arxiv.org/abs/1904.05068). A sample's part is that
    of the angles at it.

    Takes the inputs of the table at the top of this module; the paper's weight is 50. It needs memory for B x B x (B + D)
    numbers: use [`rkd_distance`] alone for batches of several hundred.

    Raises:
        `ValueError`: if the numbers of samples differ.
    """
    ours, theirs = (gram(unit(x - x[:, None])) for x in _prepare(student, teacher))
    return F.smooth_l1_loss(ours, theirs, reduction="none").mean((1, 2))


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    r"""
    Similarity-preserving distillation, [Tung and Mori (2019)](https://arxiv.org/abs/1907.09682):
    \\(||G_s - G_t||_F^2 / B^2\\), where \\(G\\) holds the products of all pairs of samples, each row of norm 1.

    Takes the inputs of the table at the top of this module; the paper's weight is 3000. Use [`linear_cka`] instead for
    features that share a large constant part, which makes all products alike.

    Raises:
        `ValueError`: if the numbers of samples differ.
    """
    ours, theirs = (unit(gram(x)) for x in _prepare(student, teacher))
    return (ours - theirs).square().mean(1)


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    r"""
    Probabilistic knowledge transfer, [Passalis and Tefas (2018)](https://arxiv.org/abs/1803.10837): the divergence
    \\(p_t \log (p_t / p_s)\\) of the probabilities with which each sample takes each other one for its neighbour, in
    proportion to their cosine similarity, as the mean over the pairs that the authors' code takes.

    Takes the inputs of the table at the top of this module; the usual weight is 30000.

    Raises:
        `ValueError`: if the numbers of samples differ.
    """
    ours, theirs = (_neighbours(x) for x in _prepare(student, teacher))
    return (theirs * ((theirs + 1e-7) / (ours + 1e-7)).log()).mean(1)


RELATION_LOSSES = {
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "similarity": similarity,
    "pkt": pkt,
}
BATCH_LOSSES = (*RELATION_LOSSES, "cka")
"""The losses on relations and on features that relate the items of a batch: exact per micro-batch alone."""


def _relative_distances(x: Tensor) -> Tensor:
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # whose gradient at 0 is 0
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.clamp(min=1e-12)


def _neighbours(x: Tensor) -> Tensor:
    closeness = (gram(unit(x)) + 1) / 2
    return closeness / closeness.sum(1, keepdim=True)


def _prepare(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if len(student) != len(teacher):
        raise ValueError(f"student has {len(student)} samples and teacher {len(teacher)}: both need the same ones.")
    return upcast(student), upcast(teacher)
