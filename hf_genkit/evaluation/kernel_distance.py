"""Kernel distance between two sets of features."""

from collections.abc import Callable

import torch

from .manifold import in_one_precision, rows_in_block


STEPS = 8  # in which a symmetric matrix is gone through: more of them compute less of it twice


def kernel_distance(
    generated: torch.Tensor,
    real: torch.Tensor,
    *,
    subsets: int = 100,
    subset_size: int | None = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int = 0,
) -> tuple[float, float]:
    """
    The unbiased squared maximum mean discrepancy of [Binkowski et al. (2018)](https://huggingface.co/papers/1801.01401)
    with the kernel `(gamma x.y + coef) ** degree`. Unlike the Frechet distance it has no bias from the number of
    samples, so it may come out slightly negative where the two sets are alike.

    The paper averages over random subsets, which is the default here so that values compare with those of others.
    `subset_size=None` takes all samples at once: the same expectation with less noise, in less time up to 10,000
    samples, and with a standard error.

    Args:
        generated (`torch.Tensor` of shape `[N, D]`):
            Features of generated pictures.
        real (`torch.Tensor` of shape `[M, D]`):
            Features of real pictures.
        subsets (`int`, *optional*, defaults to 100):
            Number of pairs of subsets that the distance is averaged over.
        subset_size (`int` or `None`, *optional*, defaults to 1000):
            Samples in a subset, drawn without replacement; cut to the smaller of `N` and `M`.
        degree (`int`, *optional*, defaults to 3):
            Degree of the polynomial.
        gamma (`float`, *optional*, defaults to `1 / D`):
            Factor of the inner product.
        coef (`float`, *optional*, defaults to 1.0):
            Added to it.
        seed (`int`, *optional*, defaults to 0):
            Seed of the subsets.

    Returns:
        `tuple[float, float]`: The mean over the subsets and their standard deviation, which is not the error of the
        mean, as subsets overlap; or the distance between all samples and its standard error (of first order,
        which is a little too large where the two sets are alike). Kernels are computed in the features' dtype, at
        least in float32, some rows at a time, and added up in float64.

    Raises:
        `ValueError`: if shapes don't fit, or there would be no subset or fewer than 2 samples in it.
    """
    generated, real = in_one_precision(generated, real)
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(
            f"A kernel distance needs features [N, D] and [M, D], got {list(generated.shape)} and {list(real.shape)}."
        )
    size = min(len(generated), len(real), len(real) if subset_size is None else subset_size)
    if size < 2 or subsets < 1:
        raise ValueError(f"A kernel distance needs a subset of 2 samples or more, got {subsets} of {size}.")
    gamma = 1 / generated.shape[1] if gamma is None else gamma

    def kernel(products: torch.Tensor) -> torch.Tensor:
        return products.mul_(gamma).add_(coef).pow_(degree)

    if subset_size is None:
        return _discrepancy(generated, real, kernel)
    if size == len(generated) == len(real):
        subsets = 1  # all the others would be the same
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=generator)[:size].to(features.device)]
            for features in (generated, real)
        )
        distances.append(_discrepancy(x, y, kernel)[0])
    distances = torch.tensor(distances, dtype=torch.float64)
    return distances.mean().item(), distances.std(correction=0).item()


def _discrepancy(x: torch.Tensor, y: torch.Tensor, kernel: Callable) -> tuple[float, float]:
    """Unbiased squared discrepancy of all samples, and its standard error from the mean kernels of each sample."""
    x_to_x, y_to_y = (
        (_sums_within(z, kernel) - kernel(z.square().sum(1)).cpu().double()) / (len(z) - 1) for z in (x, y)
    )
    x_to_y, y_to_x = _sums_between(x, y, kernel)
    x_to_y, y_to_x = x_to_y / len(y), y_to_x / len(x)
    distance = x_to_x.mean() + y_to_y.mean() - 2 * x_to_y.mean()
    variance = 4 * ((x_to_x - x_to_y).var() / len(x) + (y_to_y - y_to_x).var() / len(y))
    return distance.item(), variance.sqrt().item()


def _sums_within(x: torch.Tensor, kernel: Callable) -> torch.Tensor:
    """Sums of the rows of a symmetric kernel matrix, of which only what lies right of a block of the diagonal is computed."""
    rows = min(rows_in_block(x), -(-len(x) // STEPS))
    sums = torch.zeros(len(x), dtype=torch.float64)
    for start in range(0, len(x), rows):
        values = kernel(x[start : start + rows] @ x[start:].T)
        sums[start : start + rows] += values.sum(1).cpu()
        sums[start + rows :] += values[:, rows:].sum(0).cpu()
    return sums


def _sums_between(x: torch.Tensor, y: torch.Tensor, kernel: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the kernel matrix along its rows and along its columns."""
    of_rows, of_columns = [], torch.zeros(len(y), dtype=torch.float64)
    for block in x.split(rows_in_block(y)):
        values = kernel(block @ y.T)
        of_rows.append(values.sum(1).cpu().double())
        of_columns += values.sum(0).cpu()
    return torch.cat(of_rows), of_columns
