"""Frechet distance between two sets of features, from their means and covariances."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def frechet_distance(mean_a: torch.Tensor, cov_a: torch.Tensor, mean_b: torch.Tensor, cov_b: torch.Tensor) -> float:
    r"""
    Squared Frechet (2-Wasserstein) distance between two normal distributions
    ([Dowson and Landau, 1982](https://doi.org/10.1016/0047-259X(82)90077-X)), which
    [Heusel et al. (2017)](https://huggingface.co/papers/1706.08500) fit to features of real and of generated pictures:

    $$\lVert m_a - m_b \rVert^2 + \operatorname{tr} (C_a + C_b) - 2 \operatorname{tr} (C_a C_b)^{1/2}$$

    The last trace is the sum of singular values of $R_a^T R_b$, where $R R^T = C$. The factors come from Cholesky's
    decomposition or, where it finds directions of no variance, from an eigendecomposition without these. So nothing is
    inverted, and covariances of fewer samples than dimensions are as exact as others.

    Args:
        mean_a (`torch.Tensor` of shape `[D]`): Mean of the first.
        cov_a (`torch.Tensor` of shape `[D, D]`): Covariance of the first, symmetric.
        mean_b (`torch.Tensor` of shape `[D]`): Mean of the second.
        cov_b (`torch.Tensor` of shape `[D, D]`): Covariance of the second, symmetric.

    Returns:
        `float`: The distance, computed in float64, at least 0.

    Raises:
        `ValueError`: if shapes differ or a value is not finite.
    """
    mean_a, cov_a, mean_b, cov_b = (torch.as_tensor(value).double() for value in (mean_a, cov_a, mean_b, cov_b))
    size = len(mean_a)
    if mean_b.shape != (size,) or cov_a.shape != (size, size) or cov_b.shape != (size, size):
        shapes = ", ".join(str(list(value.shape)) for value in (mean_a, cov_a, mean_b, cov_b))
        raise ValueError(f"A Frechet distance needs means [D] and covariances [D, D] of one size, got {shapes}.")
    if not all(value.isfinite().all() for value in (mean_a, cov_a, mean_b, cov_b)):
        raise ValueError("A Frechet distance needs finite means and covariances, got NaN or infinity.")
    trace_of_root = torch.linalg.svdvals(_root(cov_a).T @ _root(cov_b)).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace_of_root
    return max(0.0, distance.item())


def _root(covariance: torch.Tensor) -> torch.Tensor:
    """A matrix `R` of shape `[D, rank]` with `R @ R.T` equal to the covariance."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    noise = covariance.diagonal().max() * len(covariance) * torch.finfo(covariance.dtype).eps
    if not failed and factor.diagonal().min().square() > noise:
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


@dataclass
class FeatureStatistics:
    """
    Mean and covariance of features, gathered batch by batch in float64 (merging as in
    [Chan, Golub and LeVeque, 1983](https://doi.org/10.1080/00031305.1983.10483115)), so that no more than a batch is
    in memory and parts that several processes saw can be merged.

    Args:
        count (`int`, *optional*, defaults to 0): Number of samples.
        mean (`torch.Tensor` of shape `[D]`, *optional*): Their mean.
        scatter (`torch.Tensor` of shape `[D, D]`, *optional*): Sum of outer products of the deviations from the mean.

    Example:

    ```python
    >>> statistics = FeatureStatistics()
    >>> for pixels in batches:
    ...     statistics.update(extractor(pixels))
    >>> statistics.save("real.safetensors")
    ```
    """

    count: int = 0
    mean: torch.Tensor | None = None
    scatter: torch.Tensor | None = None

    @classmethod
    def from_features(cls, features: torch.Tensor) -> "FeatureStatistics":
        """Statistics of features of shape `[N, D]`."""
        statistics = cls()
        statistics.update(features)
        return statistics

    @property
    def covariance(self) -> torch.Tensor:
        """The unbiased covariance, of shape `[D, D]`. A `ValueError` is raised where there are fewer than 2 samples."""
        if self.count < 2:
            raise ValueError(f"A covariance needs at least 2 samples, got {self.count}.")
        return self.scatter / (self.count - 1)

    def update(self, features: torch.Tensor) -> None:
        """Adds a batch of features of shape `[N, D]`, on any device."""
        features = torch.as_tensor(features).double().cpu()
        if features.ndim != 2:
            raise ValueError(f"Features must be of shape [N, D], got {list(features.shape)}.")
        if len(features) == 0:
            return
        mean = features.mean(0)
        deviations = (features - mean).numpy()  # whose product with itself is computed by half, unlike torch's
        self.merge(FeatureStatistics(len(features), mean, torch.from_numpy(deviations.T @ deviations)))

    def merge(self, other: "FeatureStatistics") -> None:
        """Adds the samples of other statistics over the same features."""
        if other.count == 0:
            return
        if self.count == 0:
            self.count, self.mean, self.scatter = other.count, other.mean, other.scatter
            return
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"Statistics of features of different sizes, {len(self.mean)} and {len(other.mean)}, don't merge."
            )
        count, shift = self.count + other.count, other.mean - self.mean
        self.mean = self.mean + shift * (other.count / count)
        self.scatter = self.scatter + other.scatter + shift.outer(shift) * (self.count * other.count / count)
        self.count = count

    def frechet_distance(self, other: "FeatureStatistics") -> float:
        """[`frechet_distance`] to other statistics over the same features."""
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a safetensors file, which appears once it is whole; its folder must exist."""
        unfinished = Path(f"{path}.{os.getpid()}.tmp")
        tensors = {"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, unfinished)
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "FeatureStatistics":
        """Reads what `save` wrote."""
        tensors = load_file(path)
        return cls(int(tensors["count"]), tensors["mean"], tensors["scatter"])
