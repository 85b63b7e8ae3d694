"""The judge: scores beside a floor with as many samples, real features computed once."""

import logging

import numpy as np
import pytest
import torch
from transformers import ConvNextConfig, ConvNextForImageClassification

from hf_genkit.data.images import ArrayImageDataset
from hf_genkit.evaluation import picture_judge
from hf_genkit.evaluation.comparison import text_table
from hf_genkit.evaluation.features import FeatureExtractor
from hf_genkit.evaluation.frechet import FeatureStatistics
from hf_genkit.evaluation.kernel_distance import kernel_distance
from hf_genkit.evaluation.manifold import manifold_metrics
from hf_genkit.evaluation.picture_judge import PictureJudge


def pixels(n, seed, most=256):
    return np.random.default_rng(seed).integers(0, most, (n, 1, 8, 8), dtype=np.uint8)


TRAIN, TEST, GENERATED = pixels(60, seed=0), pixels(50, seed=1), pixels(40, seed=2, most=128)


class CountingExtractor(FeatureExtractor):
    """Remembers how many pictures each call was given."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        config = ConvNextConfig(num_channels=1, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2)
        super().__init__(ConvNextForImageClassification(config), name="tiny", batch_size=16)
        self.calls = []

    def __call__(self, pictures, *, desc="Features"):
        features = super().__call__(pictures, desc=desc)
        self.calls.append(len(features))
        return features


@pytest.fixture
def extractor():
    return CountingExtractor()


def make(extractor, tmp_path, floor_set=TEST, **options):
    return PictureJudge(extractor, TRAIN, floor_set, cache_dir=tmp_path, **options)


def test_scores_are_the_functions_values(extractor, tmp_path):
    scores = make(extractor, tmp_path, neighbours=3)(GENERATED)
    generated, real = extractor(GENERATED), extractor(TRAIN)
    statistics = [FeatureStatistics.from_features(features) for features in (generated, real)]
    kid, error = kernel_distance(generated, real, subset_size=None)
    expected = {"fd_tiny": statistics[0].frechet_distance(statistics[1]), "kid_tiny": kid, "kid_error_tiny": error}
    expected |= {f"{k}_tiny": v for k, v in manifold_metrics(generated, real, neighbours=3).items()}
    assert scores == pytest.approx(expected)
    assert all(type(value) is float for value in scores.values())


def test_only_what_is_asked_for_is_computed(extractor, tmp_path):
    judge = make(extractor, tmp_path, metrics=("fd",))
    assert list(judge(GENERATED)) == list(judge.floor) == ["fd_tiny"]


def test_the_floor_has_as_many_samples_as_the_generated_set(extractor, tmp_path):
    judge = make(extractor, tmp_path)
    judge(GENERATED[:20])
    at_20 = judge.floor
    assert extractor.calls == [20, 60, 20]
    judge(GENERATED)
    at_40 = judge.floor
    assert at_20["fd_tiny"] > at_40["fd_tiny"]  # the bias of few samples
    judge(GENERATED[:20])
    assert judge.floor is at_20
    assert set(at_20) == set(judge(GENERATED))


def test_a_small_floor_set_is_used_whole_and_the_table_says_so(extractor, tmp_path):
    judge = make(extractor, tmp_path, floor_set=TEST[:30])
    rows = judge.describe(judge(GENERATED))
    assert extractor.calls == [40, 60, 30]
    assert rows[0]["Floor (real against real)"].endswith("(30 samples)")


def test_the_reference_scores_at_the_floor_and_noise_does_not(extractor, tmp_path):
    judge = make(extractor, tmp_path)
    alike, other = judge(pixels(40, seed=3)), judge(GENERATED)
    assert alike["fd_tiny"] < 2 * judge.floor["fd_tiny"] < other["fd_tiny"]


def test_rows_name_the_extractor_and_stand_beside_the_floor(extractor, tmp_path):
    judge = make(extractor, tmp_path)
    scores = judge(GENERATED)
    rows = judge.describe(scores | {"loss": 1.0})
    names = ["FD", "KID", "Precision", "Recall", "Density", "Coverage"]
    assert [row["Metric"] for row in rows] == [f"{name} (tiny)" for name in names]
    assert {row["Samples"] for row in rows} == {"40 against 60 real"}
    assert rows[0]["Value"] == f"{scores['fd_tiny']:.4g}"
    assert rows[0]["Floor (real against real)"] == f"{judge.floor['fd_tiny']:.4g}"
    assert rows[1]["Value"] == f"{scores['kid_tiny']:.4g} ± {scores['kid_error_tiny']:.2g}"
    assert "FD (tiny)" in text_table(rows)


def test_without_a_floor_set_the_column_is_empty(extractor, tmp_path):
    judge = make(extractor, tmp_path, floor_set=None)
    rows = judge.describe(judge(GENERATED))
    assert judge.floor == {}
    assert {row["Floor (real against real)"] for row in rows} == {""}


def test_real_pictures_are_read_once_by_all_runs(tmp_path):
    first, second = CountingExtractor(), CountingExtractor()
    judge = make(first, tmp_path)
    scores, floor = judge(GENERATED), judge.floor
    again = PictureJudge(
        second, ArrayImageDataset(TRAIN, np.zeros(60, dtype=np.int64)), torch.from_numpy(TEST), cache_dir=tmp_path
    )
    assert (again(GENERATED), again.floor) == (scores, floor)
    assert second.calls == [40]
    assert all(file.suffix == ".safetensors" for file in tmp_path.iterdir())


def test_another_model_or_other_pictures_find_nothing(tmp_path):
    make(CountingExtractor(), tmp_path).reference_features  # noqa: B018
    other_model, other_pictures = CountingExtractor(seed=1), CountingExtractor()
    make(other_model, tmp_path)(GENERATED)
    changed = TRAIN.copy()
    changed[5, 0, 0, 0] ^= 1
    PictureJudge(other_pictures, changed, cache_dir=tmp_path)(GENERATED)
    assert other_model.calls == other_pictures.calls == [40, 60]


def test_samples_are_drawn_by_the_seed(tmp_path):
    def features(seed):
        return make(CountingExtractor(), tmp_path, max_samples=20, seed=seed).reference_features

    assert len(features(0)) == 20
    assert torch.equal(features(0), features(0))
    assert not torch.equal(features(0), features(1))


def test_features_of_several_processes_are_scored_together(extractor, tmp_path):
    judge = make(extractor, tmp_path)
    parts = torch.cat([judge.extract(GENERATED[:24]), judge.extract(GENERATED[24:])])
    assert judge.score(parts.float()) == pytest.approx(judge(GENERATED), rel=1e-4)


def test_fewer_samples_than_dimensions_are_warned_about(extractor, tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(picture_judge.logger, "warning_once", messages.append)
    judge = make(extractor, tmp_path)
    judge(GENERATED)
    assert messages == []
    judge(GENERATED[:15])
    assert len(messages) == 1
    assert "15 pictures in 16 dimensions" in messages[0]
    assert isinstance(picture_judge.logger, logging.Logger)


def test_bad_input_is_named(extractor, tmp_path):
    with pytest.raises(ValueError, match="'fid', but it must be one of fd, kid, prdc"):
        make(extractor, tmp_path, metrics=("fid",))
    with pytest.raises(ValueError, match="`max_samples` is 0"):
        make(extractor, tmp_path, max_samples=0)
    with pytest.raises(ValueError, match=r"`reference` must hold two pictures or more in one array .* got generator"):
        PictureJudge(extractor, (part for part in [TRAIN]), cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"`floor_set` .* got \[1, 1, 8, 8\]"):
        make(extractor, tmp_path, floor_set=TEST[:1])
    with pytest.raises(ValueError, match="has computed none"):
        make(extractor, tmp_path).describe({})
    with pytest.raises(ValueError, match="got 5 for 4 generated"):
        make(extractor, tmp_path)(GENERATED[:4])
    assert extractor.calls == [4, 60]
