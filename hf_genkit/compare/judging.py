"""What a model's pictures are worth and what drawing one costs, measured alike for every kind of model."""

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..evaluation import PictureJudge
from ..evaluation.pictures import to_uint8
from .budget import CLOCKS, flop_counter
from .painters import DiffusionPainter, Painter


BATCH = 100
REPEATS = 5


@torch.no_grad()
def draw_many(painter: Painter, count: int, seed: int, steps: int, clock: str = "wall") -> tuple[torch.Tensor, float]:
    """
    Draws pictures, 100 at a time.

    Args:
        painter ([`Painter`]): The model.
        count (`int`): How many.
        seed (`int`): Of all their noise.
        steps (`int`): Of a diffusion model.
        clock (`str`, *optional*, defaults to `"wall"`): "wall" or "cpu".

    Returns:
        `tuple[torch.Tensor, float]`: `uint8` pictures `[count, C, H, W]` on the CPU, and the seconds that drawing took.
    """
    noise, seconds, pictures = painter.noise(count, seed), 0.0, []
    for start in range(0, count, BATCH):
        part = noise[start : start + BATCH]
        labels = painter.labels(torch.arange(start, start + len(part)))
        begin = CLOCKS[clock]()
        drawn = painter.paint(part, labels, steps)
        if drawn.device.type != "cpu":
            torch.accelerator.synchronize()
        seconds += CLOCKS[clock]() - begin
        pictures.append(to_uint8(drawn).cpu())
    return torch.cat(pictures), seconds


@torch.no_grad()
def time_for_one(painter: Painter, steps: int, clock: str = "wall") -> float:
    """Median seconds in which a single picture is drawn."""
    noise, labels, times = painter.noise(1, 0), painter.labels(torch.arange(1)), []
    for _ in range(1 + REPEATS):
        begin = CLOCKS[clock]()
        painter.paint(noise, labels, steps)
        if noise.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(CLOCKS[clock]() - begin)
    return statistics.median(times[1:])


@torch.no_grad()
def sampling_flops(painter: Painter, steps: int) -> int:
    """FLOPs of matrix products and convolutions that drawing one picture takes."""
    with sdpa_kernel(SDPBackend.MATH), flop_counter() as counter:
        painter.paint(painter.noise(1, 0), painter.labels(torch.arange(1)), steps)
    return counter.get_total_flops()


def judge_painter(
    painter: Painter, judge: PictureJudge, count: int, seed: int, sampling_steps: list[int], clock: str = "wall"
) -> list[dict]:
    """
    Judges a model's pictures, a diffusion model's once for each number of steps.

    Args:
        painter ([`Painter`]): The model.
        judge ([`~hf_genkit.evaluation.PictureJudge`]): The same for all models.
        count (`int`): Pictures to draw; each number of steps begins with the same noise.
        seed (`int`): Of that noise.
        sampling_steps (`list[int]`): Of diffusion models.
        clock (`str`, *optional*, defaults to `"wall"`): What seconds are counted by.

    Returns:
        `list[dict]`: One for each number of steps, ascending: `steps` (network calls for a picture), `scores` (from the judge),
        `seconds` (for a picture among 100), `seconds_for_one` (for a picture alone) and `flops` (for a picture).
    """
    points = []
    for steps in sorted(sampling_steps) if isinstance(painter, DiffusionPainter) else [1]:
        pictures, seconds = draw_many(painter, count, seed, steps, clock)
        points.append(
            {
                "steps": steps,
                "scores": judge(pictures),
                "seconds": seconds / count,
                "seconds_for_one": time_for_one(painter, steps, clock),
                "flops": sampling_flops(painter, steps),
            }
        )
    return points


def network_cost(painter: Painter) -> dict[str, int]:
    """Parameters and bytes of what sampling needs: the decoder, the generator, the denoising network and its decoder."""
    parts = [painter.network]
    if isinstance(painter, DiffusionPainter) and painter.model.vae is not None:
        parts.append(painter.model.vae)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return {
        "sampling_parameters": sum(parameter.numel() for parameter in parameters),
        "sampling_bytes": sum(parameter.nbytes for parameter in parameters),
    }
