"""What to measure while a GAN trains: diversity, spectral norms, oscillation, and signs of failure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from .gan_log import LOSSES


# Fewer values can look periodic by chance.
LEAST_POINTS = 20
# Longer series are also looked at as this many block means, so that noise from step to step averages out.
BLOCKS = 96
# And the autocorrelation of single values needs no more than this many to find fast cycles.
MOST_POINTS = 1000
# Untrained generators were seen to have up to 0.2 of the real pictures' diversity.
FRESH_DIVERSITY = 0.3


def sample_diversity(pixels: torch.Tensor) -> float:
    """
    Mean Euclidean distance between two samples of a batch.

    Divided by the same of as many real pictures it is 1 for pictures as diverse as the real ones, and near 0 when the
    generator always draws the same. It measures pixels: a generator that draws one class of digits well still has 0.6
    to 0.9 of the diversity of all ten, so missing classes need a look at the samples, or recall.

    Args:
        pixels (`torch.Tensor` of shape `[batch, channels, height, width]`):
            At least two pictures. 64 give the ratio within about 2 %.

    Returns:
        `float`

    Raises:
        `ValueError`: if there are fewer than two pictures.
    """
    if len(pixels) < 2:
        raise ValueError(
            f"sample_diversity compares pictures with each other and needs at least 2, got {len(pixels)}."
        )
    return torch.pdist(pixels.detach().flatten(1).float()).mean().item()


@torch.no_grad()
def spectral_norms(module: nn.Module) -> dict[str, float]:
    """
    Largest singular value of the weight of each linear and convolutional layer, as the forward pass uses it.

    A convolution's kernel counts as a matrix with a row for each output channel, as in
    [spectral normalisation (Miyato et al., 2018)](https://arxiv.org/abs/1802.05957). Values that grow without bound
    announce a collapse ([Brock et al., 2019](https://arxiv.org/abs/1809.11096)). Nothing in the module changes, also
    not the power iteration of its spectral normalisation.

    Args:
        module (`torch.nn.Module`):
            A network, such as the discriminator.

    Returns:
        `dict[str, float]`: For each layer's name its norm; NaN where a weight is not finite.
    """
    norms = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
            weight = _effective_weight(layer).float()
            if isinstance(layer, nn.modules.conv._ConvTransposeNd):
                weight = weight.transpose(0, 1)
            weight = weight.flatten(1)
            gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
            if gram.isfinite().all():
                norms[name] = torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt()
            else:
                norms[name] = gram.new_tensor(torch.nan)
    return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True)) if norms else {}


def _effective_weight(layer: nn.Module) -> torch.Tensor:
    """The weight after its parametrizations; in training mode a spectral one would advance its power iteration."""
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight
    chain = layer.parametrizations["weight"]
    training = {part: part.training for part in chain.modules()}
    chain.eval()
    weight = layer.weight
    for part, mode in training.items():
        part.training = mode
    return weight


def oscillation(series: Sequence[float]) -> float:
    """
    How much a series repeats itself: the share of its variance, without its linear trend, that comes back after one
    period.

    It is the highest peak of the autocorrelation after it was first negative, at lags up to a third of the series: 1
    for a clean cycle of any shape, about 0.2 for noise and less for a drift or a random walk (99 of 100 of them stay
    below 0.6), in between for a cycle with noise. It says nothing of the amplitude.

    Args:
        series (sequence of `float`):
            Values at even distances. Fewer than 20 are too few to tell, and give 0.

    Returns:
        `float` in [0, 1]
    """
    return dominant_cycle(series)[0]


def dominant_cycle(series: Sequence[float]) -> tuple[float, float]:
    """[`oscillation`] and the period, in values of the series (0 if there is none)."""
    values = np.asarray(series, dtype=float)
    if len(values) < LEAST_POINTS or not np.isfinite(values).all():
        return 0.0, 0.0
    block = max(1, len(values) // BLOCKS)
    means = values[len(values) % block :].reshape(-1, block).mean(axis=1)
    strength, lag = _autocorrelation_peak(means)
    return max((strength, lag * block), _autocorrelation_peak(values[-MOST_POINTS:]))


def _autocorrelation_peak(values: np.ndarray) -> tuple[float, float]:
    n = len(values)
    time = np.arange(n)
    rest = values - np.polyval(np.polyfit(time, values, 1), time)
    if np.std(rest) <= 1e-9 * max(1.0, np.abs(values).max()):
        return 0.0, 0.0
    lags = range(1, n // 3 + 1)
    correlation = np.array([_cosine(rest[:-lag], rest[lag:]) for lag in lags])
    negative = np.flatnonzero(correlation < 0)
    if len(negative) == 0:
        return 0.0, 0.0
    peak = negative[0] + int(np.argmax(correlation[negative[0] :]))
    strength = float(np.clip(correlation[peak], 0, 1))
    return strength, float(lags[peak]) if strength else 0.0


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0


def detect_failure(
    log_history: Sequence[Mapping[str, float]], min_diversity: float = 0.1, patience: int = 3
) -> str | None:
    """
    Says whether a GAN in training is beyond rescue, so that the run can stop before it overwrites a good checkpoint.

    A fresh generator draws nearly the same picture for every input, and some take long to begin. So low diversity
    counts only after it has once been 0.3.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history` so far; keys as in [`analyze_gan_stability`].
        min_diversity (`float`, *optional*, defaults to 0.1):
            `sample_diversity` below which the pictures are as good as identical.
        patience (`int`, *optional*, defaults to 3):
            How many logs in a row must be below it.

    Returns:
        `str` or `None`: One sentence on what failed, or `None` while nothing has.
    """
    diversities, where = [], ""
    for number, entry in enumerate(log_history, 1):
        place = f"step {entry['step']}" if "step" in entry else f"log {number}"
        for key in LOSSES:
            if key in entry and not math.isfinite(entry[key]):
                return f"{key} became {entry[key]} at {place}."
        if "sample_diversity" in entry:
            diversities.append(entry["sample_diversity"])
            where = place
    grown = any(value >= max(FRESH_DIVERSITY, min_diversity) for value in diversities)
    # Pictures of NaN have a NaN diversity, which is low too.
    if grown and not any(value >= min_diversity for value in diversities[-patience:]):
        return (
            f"sample_diversity has been below {min_diversity:g} for {patience} logs, {diversities[-1]:.3g} at {where}: "
            "the generator draws nearly the same picture for every input."
        )
    return None
