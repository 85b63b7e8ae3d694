"""Latent control: how evenly pictures change on the way between two, and whether they stay like real ones."""

import torch

from ..evaluation import PictureJudge
from ..evaluation.features import FeatureExtractor
from ..evaluation.manifold import manifold_metrics
from ..evaluation.pictures import to_uint8
from .judging import BATCH
from .painters import Painter


POINTS = 12
CONTROL_KEYS = ("largest_step", "detour", "near_real")


@torch.no_grad()
def interpolations(painter: Painter, paths: int, seed: int, steps: int, points: int = POINTS) -> torch.Tensor:
    """
    Pictures on the way between two that a model draws: on straight lines between a VAE's latents, on the sphere between a
    GAN's latents ([White, 2016](https://huggingface.co/papers/1609.04468)) and between the first noises of a diffusion
    model, which is sampled without further noise ([DDIM](https://huggingface.co/papers/2010.02502)).

    Args:
        painter ([`Painter`]): The model.
        paths (`int`): How many ways.
        seed (`int`): Of the ends' noise.
        steps (`int`): Of a diffusion model.
        points (`int`, *optional*, defaults to 12): Pictures on each way, both ends included.

    Returns:
        `torch.Tensor`: `uint8` of shape `[paths, points, C, H, W]`. Both ends of a class-conditional model have one class.
    """
    ends = painter.noise(2 * paths, seed)
    noise = painter.between(ends[:paths], ends[paths:], torch.linspace(0, 1, points)).flatten(0, 1)
    labels = painter.labels(torch.arange(paths).repeat_interleave(points))
    drawn = [
        painter.paint(noise[start : start + BATCH], None if labels is None else labels[start : start + BATCH], steps)
        for start in range(0, len(noise), BATCH)
    ]
    return to_uint8(torch.cat(drawn)).cpu().unflatten(0, (paths, points))


def cross_fades(pictures: torch.Tensor, paths: int, points: int = POINTS) -> torch.Tensor:
    """The same between real `uint8` pictures by blending their pixels, which is no control at all: what to compare with."""
    ends = to_uint8(pictures)[: 2 * paths].float()
    weights = torch.linspace(0, 1, points).view(1, -1, 1, 1, 1)
    return torch.lerp(ends[:paths, None], ends[paths:, None], weights).round().byte()


def smoothness(
    paths: torch.Tensor, extractor: FeatureExtractor, real: torch.Tensor, neighbours: int = 5
) -> dict[str, float]:
    """
    How smooth ways through pictures are, in the space of a vision model's features. Distances between neighbours are those
    of the perceptual path length ([Karras et al., 2019](https://huggingface.co/papers/1812.04948)), with these features in
    place of LPIPS and each way divided by its own length, so that models of different variety can be compared.

    | key            | meaning                                                                                            |
    |----------------|----------------------------------------------------------------------------------------------------|
    | `largest_step` | the largest distance between neighbours over their mean: 1 is even, 11 of 12 pictures is one jump    |
    | `detour`       | the way's length over the distance of its ends: 1 is straight                                       |
    | `near_real`    | share of the pictures between the ends in a ball of a real one, as in precision                      |

    Args:
        paths (`torch.Tensor` of shape `[paths, points, C, H, W]`): From [`interpolations`].
        extractor ([`~hf_genkit.evaluation.FeatureExtractor`]): What makes the features.
        real (`torch.Tensor` of shape `[M, D]`): Features of real pictures.
        neighbours (`int`, *optional*, defaults to 5): See [`~hf_genkit.evaluation.manifold.manifold_metrics`].

    Returns:
        `dict[str, float]`: The first two as medians over the ways that have any length.
    """
    count, points = paths.shape[:2]
    features = extractor(paths.flatten(0, 1), desc=None).unflatten(0, (count, points))
    lengths = features.diff(dim=1).norm(dim=-1)
    total, direct = lengths.sum(1), (features[:, -1] - features[:, 0]).norm(dim=-1)
    moved = direct > 0
    ratios = (lengths.max(1).values * (points - 1) / total)[moved], (total / direct)[moved]
    largest, detour = (ratio.median().item() if len(ratio) else float("nan") for ratio in ratios)
    inside = features[:, 1:-1].flatten(0, 1)
    near = manifold_metrics(inside, real, neighbours=neighbours)["precision"]
    return {"largest_step": largest, "detour": detour, "near_real": near}


def judge_control(painter: Painter, judge: PictureJudge, paths: int, seed: int, steps: int) -> dict[str, float]:
    """[`smoothness`] of a model's interpolations, against the judge's real pictures."""
    return smoothness(
        interpolations(painter, paths, seed, steps), judge.extractor, judge.reference_features, judge.neighbours
    )
