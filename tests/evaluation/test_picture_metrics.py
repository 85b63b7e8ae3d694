"""The `evaluate.Metric`s: the functions' values, under keys that name the extractor."""

import evaluate
import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from hf_genkit.evaluation.features import FeatureExtractor
from hf_genkit.evaluation.frechet import FeatureStatistics
from hf_genkit.evaluation.kernel_distance import kernel_distance
from hf_genkit.evaluation.manifold import manifold_metrics
from hf_genkit.evaluation.picture_metrics import FrechetDistance, KernelDistance, PrecisionRecallDensityCoverage


def features(n, seed):
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + seed


def frechet(a, b):
    return FeatureStatistics.from_features(a).frechet_distance(FeatureStatistics.from_features(b))


def test_features_of_different_numbers_are_compared():
    a, b = features(40, 1), features(60, 0)
    assert FrechetDistance("DINOv2-S").compute(predictions=a, references=b) == {"fd_dinov2_s": frechet(a, b)}
    mean, std = kernel_distance(a, b, subsets=3, subset_size=20)
    kernel = KernelDistance("DINOv2-S").compute(predictions=a, references=b, subsets=3, subset_size=20)
    assert kernel == {"kid_dinov2_s": mean, "kid_std_dinov2_s": std}
    whole = KernelDistance("DINOv2-S").compute(predictions=a, references=b, subset_size=None)
    distance, error = kernel_distance(a, b, subset_size=None)
    assert whole == {"kid_dinov2_s": distance, "kid_error_dinov2_s": error}
    values = PrecisionRecallDensityCoverage("DINOv2-S").compute(predictions=a, references=b, neighbours=3)
    assert values == {f"{k}_dinov2_s": v for k, v in manifold_metrics(a, b, neighbours=3).items()}


def test_batches_add_up_and_are_forgotten_afterwards():
    a, b = features(40, 1), features(60, 0)
    metric = FrechetDistance("x")
    metric.add_batch(references=b)
    for part in a[:39].split(16):
        metric.add_batch(predictions=part.numpy())
    metric.add(prediction=a[39])
    assert len(metric) == 40
    assert metric.compute()["fd_x"] == pytest.approx(frechet(a, b))
    with pytest.raises(ValueError, match="FrechetDistance needs predictions, but none were given"):
        metric.compute(references=b)


def test_pictures_go_through_the_extractor():
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8, patch_size=4, num_channels=1)  # fmt: skip
    extractor = FeatureExtractor(ViTForImageClassification(config), name="tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    scores = FrechetDistance(extractor).compute(predictions=pixels[:12], references=extractor(pixels[12:]))
    assert scores == {"fd_tiny": frechet(extractor(pixels[:12]), extractor(pixels[12:]))}
    with pytest.raises(ValueError, match="the name 'tiny' instead of a FeatureExtractor"):
        FrechetDistance("tiny").compute(predictions=pixels, references=pixels)


def test_evaluate_combines_them():
    a, b = features(40, 1), features(60, 0)
    together = evaluate.combine([FrechetDistance("x"), KernelDistance("x"), PrecisionRecallDensityCoverage("x")])
    scores = together.compute(predictions=a, references=b)
    assert set(scores) == {"fd_x", "kid_x", "kid_std_x", "precision_x", "recall_x", "density_x", "coverage_x"}
