"""Generated pictures against real ones, beside the score that real pictures themselves get."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import torch
import xxhash
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from ..arguments import check_choice
from ..data.images import ArrayImageDataset
from .features import FeatureExtractor, Pictures, picture_batches
from .frechet import FeatureStatistics
from .kernel_distance import kernel_distance
from .manifold import manifold_metrics


logger = logging.get_logger(__name__)

METRICS = ("fd", "kid", "prdc")
MANIFOLD = ("precision", "recall", "density", "coverage")
# Key of a score: its name in a table.
NAMES = {
    "fd": "FD",
    "kid": "KID",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
}

RealPictures = torch.Tensor | np.ndarray | ArrayImageDataset


class PictureJudge:
    """
    Scores generated pictures against a reference set of real ones: Frechet distance, kernel distance, precision,
    recall, density and coverage, over one extractor's features. The floor is what another set of real pictures scores
    in the same number: what is left of the distance if the generator is perfect. All scores are to be read beside it.

    The features of real pictures are computed when they are first needed, and kept on disk under a hash of the
    extractor and of the pictures. Where several processes generate, each calls `extract` on its part and the main one
    calls `score` on what was gathered.

    Args:
        extractor ([`FeatureExtractor`]):
            The model that makes features.
        reference (`torch.Tensor`, `np.ndarray` or [`~hf_genkit.data.ArrayImageDataset`]):
            Real pictures `[M, C, H, W]`, such as the training split.
        floor_set (`torch.Tensor`, `np.ndarray` or [`~hf_genkit.data.ArrayImageDataset`], *optional*):
            Real pictures that the reference lacks, such as the test split.
        metrics (sequence of `str`, *optional*, defaults to `("fd", "kid", "prdc")`):
            What to compute: "fd", "kid", and "prdc" for the four others.
        cache_dir (`str`, *optional*):
            Folder of the stored features. Defaults to one in the cache of `datasets`.
        max_samples (`int`, *optional*):
            Use so many pictures of the reference at most, drawn with the seed.
        neighbours (`int`, *optional*, defaults to 5):
            See [`manifold_metrics`].
        seed (`int`, *optional*, defaults to 0):
            Seed of the samples that are drawn.

    Raises:
        `ValueError`: if a metric is unknown, a set is empty or no array, or `max_samples` or `neighbours` is below 1.

    Example:

    ```python
    >>> judge = PictureJudge(FeatureExtractor("facebook/dinov2-small", size=56), train, floor_set=test)
    >>> scores = judge(model.generate(2000))
    >>> print(text_table(judge.describe(scores)))
    ```
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        reference: RealPictures,
        floor_set: RealPictures | None = None,
        *,
        metrics: Sequence[str] = METRICS,
        cache_dir: str | os.PathLike | None = None,
        max_samples: int | None = None,
        neighbours: int = 5,
        seed: int = 0,
    ):
        for metric in metrics:
            check_choice("metrics", metric, list(METRICS))
        for option, value in (("max_samples", max_samples), ("neighbours", neighbours)):
            if value is not None and value < 1:
                raise ValueError(f"`{option}` is {value}, but it must be at least 1.")
        self.extractor = extractor
        self.metrics = tuple(metrics)
        self.cache_dir = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_genkit" / "features")
        self.neighbours = neighbours
        self.seed = seed
        self.samples: int | None = None
        self._reference = _Sample("reference", reference, max_samples, seed)
        self._floor_set = None if floor_set is None else _Sample("floor_set", floor_set, None, seed)
        self._floors: dict[int, dict[str, float]] = {}

    @property
    def keys(self) -> list[str]:
        """The keys of the scores, but for the standard error of KID."""
        shorts = [short for metric in self.metrics for short in (MANIFOLD if metric == "prdc" else (metric,))]
        return [f"{short}_{self.extractor.slug}" for short in shorts]

    @cached_property
    def reference_features(self) -> torch.Tensor:
        """Features `[M, D]` of the reference set."""
        return self._stored_features(self._reference, len(self._reference), "Features of real pictures")

    @cached_property
    def reference_statistics(self) -> FeatureStatistics:
        """Their mean and covariance."""
        return FeatureStatistics.from_features(self.reference_features)

    @property
    def floor(self) -> dict[str, float]:
        """
        Scores of as many real pictures of `floor_set` as were last judged; of all of them if it has fewer, or if
        none were judged yet. Empty without a `floor_set`.
        """
        if self._floor_set is None:
            return {}
        n = self.floor_samples
        if n not in self._floors:
            features = self._stored_features(self._floor_set, n, "Features of the floor")
            self._floors[n] = self._compare(features)
        return self._floors[n]

    @property
    def floor_samples(self) -> int:
        """How many pictures the floor is computed with."""
        available = len(self._floor_set)
        return available if self.samples is None else min(self.samples, available)

    def extract(self, pictures: Pictures) -> torch.Tensor:
        """Features `[N, D]` of pictures, of type `float64`, on the CPU; see [`FeatureExtractor`]."""
        return self.extractor(pictures, desc="Features of generated pictures")

    def score(self, features: torch.Tensor) -> dict[str, float]:
        """
        Scores of generated pictures, from their features.

        Args:
            features (`torch.Tensor` of shape `[N, D]`):
                What `extract` returned, on any device, from all processes together.

        Returns:
            `dict[str, float]`: Under the keys `fd_<slug>`, `kid_<slug>`, `kid_error_<slug>` (its standard error), `precision_<slug>`,
            `recall_<slug>`, `density_<slug>` and `coverage_<slug>`, where the slug names the extractor.

        Raises:
            `ValueError`: if there are fewer than two pictures, or no more than `neighbours` where "prdc" is asked for.
        """
        samples, size = features.shape
        if "fd" in self.metrics and samples < size:
            logger.warning_once(
                f"FD over {samples} pictures in {size} dimensions is mostly bias: judge more than {size} pictures, or "
                "read the value beside the floor only."
            )
        scores = self._compare(features)
        self.samples = samples
        return scores

    def __call__(self, pictures: Pictures) -> dict[str, float]:
        """[`~PictureJudge.score`] of pictures, which are as a [`FeatureExtractor`] takes them."""
        return self.score(self.extract(pictures))

    def describe(self, scores: dict[str, float]) -> list[dict[str, str]]:
        """
        The scores that were computed last as rows of a table, such as a card's, with the floor beside them.

        Args:
            scores (`dict[str, float]`): From `score`; what this judge doesn't know is left out.

        Returns:
            `list[dict[str, str]]`: With the columns "Metric", "Value", "Floor (real against real)" and "Samples".

        Raises:
            `ValueError`: if this judge has not scored anything.
        """
        if self.samples is None:
            raise ValueError("A judge describes the scores it computed last, but it has computed none.")
        slug, floor = self.extractor.slug, self.floor
        against = f"{len(self._reference):,} real"
        rows = []
        for short, name in NAMES.items():
            key = f"{short}_{slug}"
            if key not in scores:
                continue
            error = f"{short}_error_{slug}"
            floor_value = _value(floor, key, error) if floor else ""
            if floor and self.floor_samples != self.samples:
                floor_value += f" ({self.floor_samples:,} samples)"
            rows.append(
                {
                    "Metric": f"{name} ({self.extractor.name})",
                    "Value": _value(scores, key, error),
                    "Floor (real against real)": floor_value,
                    "Samples": f"{self.samples:,} against {against}",
                }
            )
        return rows

    def _compare(self, features: torch.Tensor) -> dict[str, float]:
        slug, scores = self.extractor.slug, {}
        if "fd" in self.metrics:
            generated = FeatureStatistics.from_features(features)
            scores[f"fd_{slug}"] = generated.frechet_distance(self.reference_statistics)
        # In float32, as models give them.
        features, real = (
            values.to(self.extractor.device, torch.float32) for values in (features, self.reference_features)
        )
        if "kid" in self.metrics:
            scores[f"kid_{slug}"], scores[f"kid_error_{slug}"] = kernel_distance(features, real, subset_size=None)
        if "prdc" in self.metrics:
            values = manifold_metrics(features, real, neighbours=self.neighbours)
            scores |= {f"{name}_{slug}": value for name, value in values.items()}
        return scores

    def _stored_features(self, sample: "_Sample", n: int, desc: str) -> torch.Tensor:
        """Features of the first `n` pictures of a sample: read from disk, or computed and stored."""
        digest = xxhash.xxh3_128(f"1 {self.extractor.fingerprint}".encode())
        for batch in picture_batches(sample.batches(n), self.extractor.batch_size):
            digest.update(f"{tuple(batch.shape[1:])}".encode())
            digest.update(batch.contiguous().cpu().numpy())
        path = self.cache_dir / f"{digest.hexdigest()}.safetensors"
        if path.is_file():
            return load_file(path)["features"]
        features = self.extractor(sample.batches(n), desc=desc)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({"features": features}, unfinished, metadata={"extractor": self.extractor.name})
        os.replace(unfinished, path)
        return features


class _Sample:
    """Real pictures in the order in which they are drawn, read a few at a time."""

    def __init__(self, role: str, pictures: RealPictures, most: int | None, seed: int):
        pixels = pictures.pixels if isinstance(pictures, ArrayImageDataset) else pictures
        if not isinstance(pixels, torch.Tensor | np.ndarray) or pixels.ndim != 4 or len(pixels) < 2:
            got = list(pixels.shape) if isinstance(pixels, torch.Tensor | np.ndarray) else type(pixels).__name__
            raise ValueError(f"`{role}` must hold two pictures or more in one array [N, C, H, W], got {got}.")
        self.pixels = pixels
        self.order = np.random.default_rng(seed).permutation(len(pixels))[:most]

    def __len__(self) -> int:
        return len(self.order)

    def batches(self, n: int, size: int = 256) -> Iterator[torch.Tensor | np.ndarray]:
        chosen = np.sort(self.order[:n])
        for start in range(0, n, size):
            yield self.pixels[chosen[start : start + size]]


def _value(scores: dict[str, float], key: str, error: str) -> str:
    text = f"{scores[key]:.4g}"
    return f"{text} ± {scores[error]:.2g}" if error in scores else text
