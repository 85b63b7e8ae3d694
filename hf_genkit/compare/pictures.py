"""The pictures of a comparison: samples, interpolations, moments of denoising, and few steps beside many."""

from pathlib import Path

import torch

from ..evaluation import save_grid, save_strips
from ..evaluation.features import slugify
from .control import interpolations
from .judging import draw_many
from .painters import DiffusionPainter, Painter


SHOWN_SEED = 0
SAMPLES, ROWS, POINTS, CELL = 36, 4, 10, 64


def draw_pictures(painters: list[Painter], folder: Path, sampling_steps: list[int]) -> dict[str, dict[str, str]]:
    """
    Draws what a report shows of models, as PNGs.

    Args:
        painters (`list[Painter]`): The models.
        folder (`Path`): Where to.
        sampling_steps (`list[int]`): Of diffusion models; the largest is used where only one is shown.

    Returns:
        `dict[str, dict[str, str]]`: "samples", "interpolation", "denoising" and "steps", each from a model's name to the
        file's name.
    """
    most, found = max(sampling_steps), {"samples": {}, "interpolation": {}, "denoising": {}, "steps": {}}
    for painter in painters:
        slug = slugify(painter.name)

        def keep(kind: str, pixels: torch.Tensor, painter=painter, slug=slug, **options) -> None:
            file = f"{kind}-{slug}.png"
            (save_strips if pixels.ndim == 5 else save_grid)(pixels, folder / file, **options)
            found[kind][painter.name] = file

        scale = max(1, CELL // painter.shape[-1])
        keep("samples", draw_many(painter, SAMPLES, SHOWN_SEED, most)[0], columns=6, scale=scale)
        keep("interpolation", interpolations(painter, ROWS, SHOWN_SEED + 1, most, POINTS), scale=scale)
        if isinstance(painter, DiffusionPainter):
            noise, labels = painter.noise(ROWS, SHOWN_SEED), painter.labels(torch.arange(ROWS))
            keep("denoising", painter.moments(noise, labels, most), scale=scale)
            rows = [draw_many(painter, POINTS, SHOWN_SEED, steps)[0] for steps in sorted(sampling_steps)]
            labels = [f"{steps} steps" for steps in sorted(sampling_steps)]
            keep("steps", torch.stack(rows), row_labels=labels, scale=scale)
    return found
