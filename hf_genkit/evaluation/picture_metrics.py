"""Metrics of generated pictures as `evaluate.Metric`s, named after the model whose features they compare."""

from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from .features import FeatureExtractor, Pictures, slugify
from .frechet import FeatureStatistics
from .kernel_distance import kernel_distance
from .manifold import manifold_metrics


class PictureMetric(evaluate.Metric):
    """
    Base of the metrics below. Added samples are kept as tensors of features: rows of an Arrow table, as other metrics
    of `evaluate` keep, would be slow and would need as many predictions as references. Works offline, on one process:
    where several make pictures, gather their features.

    Args:
        extractor ([`FeatureExtractor`] or `str`):
            The model that makes features of pictures, or its name where only features are given. The name becomes
            part of the keys of the result.
    """

    inputs = """
            predictions (`torch.Tensor` or `np.ndarray`):
                Generated pictures, as a [`FeatureExtractor`] takes them, or their features `[N, D]`.
            references (`torch.Tensor` or `np.ndarray`):
                Real pictures or their features `[M, D]`; `M` may differ from `N`.
    """

    def __init__(self, extractor: FeatureExtractor | str):
        self.extractor = extractor
        self.slug = slugify(extractor) if isinstance(extractor, str) else extractor.slug
        self._added = {"predictions": [], "references": []}
        super().__init__(config_name=self.slug)

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=self.inputs,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def __len__(self) -> int:
        return sum(map(len, self._added["predictions"]))

    def add_batch(self, *, predictions: Pictures | None = None, references: Pictures | None = None) -> None:
        """Adds pictures or features; either side may be left out."""
        for role, samples in (("predictions", predictions), ("references", references)):
            if samples is not None:
                self._added[role].append(self._features(samples))

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """Adds one picture `[C, H, W]` or one feature vector `[D]`; either side may be left out."""
        self.add_batch(
            predictions=None if prediction is None else prediction[None],
            references=None if reference is None else reference[None],
        )

    def compute(
        self, *, predictions: Pictures | None = None, references: Pictures | None = None, **options
    ) -> dict[str, float]:
        """Compares all that was added, these included, and forgets it. Options go to the function behind the metric."""
        self.add_batch(predictions=predictions, references=references)
        added, self._added = self._added, {"predictions": [], "references": []}
        for role, parts in added.items():
            if not parts:
                raise ValueError(f"{type(self).__name__} needs {role}, but none were given.")
        return self._compute(**{role: torch.cat(parts) for role, parts in added.items()}, **options)

    def _features(self, samples: Pictures) -> torch.Tensor:
        if isinstance(samples, torch.Tensor | np.ndarray) and samples.ndim == 2:
            return torch.as_tensor(samples).double().cpu()
        if isinstance(self.extractor, str):
            raise ValueError(
                f"{type(self).__name__} was given the name '{self.extractor}' instead of a FeatureExtractor, so it "
                "takes features of shape [N, D] and no pictures."
            )
        return self.extractor(samples)


class FrechetDistance(PictureMetric):
    """
    [`frechet_distance`] between features of generated and of real pictures, under the key `fd_<extractor>`; lower is
    better. It is the FID only where the features are those of Inception v3 as that paper's authors ported it, so it is
    never called so here. Small samples bias it upwards: give many more pictures than features have dimensions, and
    compare values with the same number of pictures only.

    Example:

    ```python
    >>> metric = FrechetDistance(FeatureExtractor("facebook/dinov2-small"))
    >>> metric.compute(predictions=generated, references=real)
    {'fd_dinov2_s': 123.4}
    ```
    """

    def _compute(self, predictions: torch.Tensor, references: torch.Tensor) -> dict[str, float]:
        generated, real = (FeatureStatistics.from_features(features) for features in (predictions, references))
        return {f"fd_{self.slug}": generated.frechet_distance(real)}


class KernelDistance(PictureMetric):
    """
    [`kernel_distance`] between features of generated and of real pictures, under the keys `kid_<extractor>` and
    `kid_std_<extractor>`, or `kid_error_<extractor>` for the standard error with `subset_size=None`; lower is better,
    and no number of pictures biases it. Takes that function's options.
    """

    def _compute(
        self, predictions: torch.Tensor, references: torch.Tensor, subset_size: int | None = 1000, **options
    ) -> dict[str, float]:
        distance, spread = kernel_distance(predictions, references, subset_size=subset_size, **options)
        kind = "error" if subset_size is None else "std"
        return {f"kid_{self.slug}": distance, f"kid_{kind}_{self.slug}": spread}


class PrecisionRecallDensityCoverage(PictureMetric):
    """
    [`manifold_metrics`] of features of generated and of real pictures, under the keys `precision_<extractor>`,
    `recall_<extractor>`, `density_<extractor>` and `coverage_<extractor>`; higher is better. Takes that function's
    options.
    """

    def _compute(self, predictions: torch.Tensor, references: torch.Tensor, **options) -> dict[str, float]:
        values = manifold_metrics(predictions, references, **options)
        return {f"{name}_{self.slug}": value for name, value in values.items()}
