"""Precision, recall, density and coverage: fidelity and variety apart."""

from collections.abc import Iterator

import torch


BLOCK_ELEMENTS = 8 * 2**20  # of a matrix of distances in memory at once: 64 MiB in float64, 32 in float32


def manifold_metrics(generated: torch.Tensor, real: torch.Tensor, *, neighbours: int = 5) -> dict[str, float]:
    """
    Compares two sets of features by balls around their samples that reach to the k-th nearest sample of the same set.
    Distances are computed in blocks, in the features' dtype, at least in float32.

    | key         | meaning                                                                                     |
    |-------------|---------------------------------------------------------------------------------------------|
    | `precision` | share of generated samples inside a ball of a real one: fidelity                            |
    | `recall`    | share of real samples inside a ball of a generated one: variety                             |
    | `density`   | real balls that a generated sample lies in, over k: fidelity that outliers don't inflate; may exceed 1 |
    | `coverage`  | share of real balls that hold a generated sample: variety that outliers don't inflate       |

    The first two are from [Kynkaanniemi et al. (2019)](https://huggingface.co/papers/1904.06991), the others from
    [Naeem et al. (2020)](https://huggingface.co/papers/2002.09797). All depend on the numbers of samples: compare only
    values with the same.

    Args:
        generated (`torch.Tensor` of shape `[N, D]`):
            Features of generated pictures.
        real (`torch.Tensor` of shape `[M, D]`):
            Features of real pictures.
        neighbours (`int`, *optional*, defaults to 5):
            The k above. The first paper's tables use 3.

    Returns:
        `dict[str, float]`: The four values.

    Raises:
        `ValueError`: if shapes don't fit, or a set has no `neighbours` beside each sample.
    """
    generated, real = in_one_precision(generated, real)
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(
            f"Features must be of shapes [N, D] and [M, D], got {list(generated.shape)} and {list(real.shape)}."
        )
    if not 1 <= neighbours < min(len(generated), len(real)):
        raise ValueError(
            f"neighbours must be at least 1 and below the number of samples, got {neighbours} for {len(generated)} "
            f"generated and {len(real)} real ones."
        )
    centre = real.mean(0)  # small norms keep the squares in a distance exact
    generated, real = generated - centre, real - centre
    real_radius, generated_radius = _radius(real, neighbours), _radius(generated, neighbours)

    inside, covered, recalled = torch.zeros(len(generated), device=generated.device, dtype=torch.int64), [], []
    for distance, radius in zip(_blocks(real, generated), real_radius.split(rows_in_block(generated)), strict=True):
        within = distance <= radius[:, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((distance <= generated_radius).any(1))
    return {
        "precision": (inside > 0).cpu().double().mean().item(),
        "recall": torch.cat(recalled).cpu().double().mean().item(),
        "density": inside.cpu().double().mean().item() / neighbours,
        "coverage": torch.cat(covered).cpu().double().mean().item(),
    }


def in_one_precision(generated: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in the wider of their dtypes, at least in float32."""
    generated, real = torch.as_tensor(generated), torch.as_tensor(real)
    dtype = torch.promote_types(torch.promote_types(generated.dtype, real.dtype), torch.float32)
    return generated.to(dtype), real.to(dtype)


def rows_in_block(columns: torch.Tensor) -> int:
    """How many rows of a matrix with a column for each of these samples may be in memory at once."""
    return max(1, BLOCK_ELEMENTS // len(columns))


def _blocks(rows: torch.Tensor, columns: torch.Tensor) -> Iterator[torch.Tensor]:
    """Squared distances from some rows at a time to all columns."""
    for block in rows.split(rows_in_block(columns)):
        squares = block.square().sum(1, keepdim=True) + columns.square().sum(1)
        yield squares.sub_(block @ columns.T, alpha=2).clamp_(min=0)


def _radius(features: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Squared distance of each sample to its k-th nearest other one."""
    nearest = [distance.topk(neighbours + 1, largest=False).values[:, -1] for distance in _blocks(features, features)]
    return torch.cat(nearest)
