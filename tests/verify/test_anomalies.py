"""Detectors of anomalies: the threshold that is saved with the model is measured, on the anomalies that the card names."""

import re

import datasets
import numpy as np
import pytest

from hf_genkit.arguments import AnomalyArguments
from hf_genkit.data import ImageData, load_data
from hf_genkit.hub import Claim, DatasetFacts, Result, read_claims
from hf_genkit.trainers import anomaly_detection
from hf_genkit.trainers.anomaly_detection import other_pictures
from hf_genkit.trainers.claim_arguments import anomaly_arguments, read_anomaly_arguments

from .conftest import train


FEW = (
    "--max_train_samples",
    200,
    "--max_steps",
    4,
    "--eval_strategy",
    "no",
    "--save_strategy",
    "no",
    "--target_fpr",
    0.2,
)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """What knows the digits 0 and 1."""
    return train("detect_anomalies", tmp_path_factory.mktemp("zeros") / "out", *FEW)


def noise(folder, seed: int = 0):
    """A data set of pictures of noise, without labels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image()})
    split = datasets.Dataset.from_dict({"image": list(pixels)}, features=features)
    datasets.DatasetDict(train=split, test=split).save_to_disk(str(folder))
    return folder


def test_the_saved_threshold_is_measured_on_the_classes_that_are_not_normal(push, check, detector):
    status, shown = check(push(detector, "zeros"), "--tolerance", "1e-6")
    assert status == 0, shown
    assert re.search(r"AUROC .*\nFalse positives .*\nDetected anomalies .*\nAverage precision ", shown)
    assert len(re.findall(" agrees[ \n]", shown)) == 4


@pytest.mark.parametrize(
    ("old", "new", "file", "wrong"),
    [
        ("type: auroc\n      value: 0.", "type: auroc\n      value: 0.0", "README.md", "Not as claimed: AUROC."),
        ("        - '1'\n", "        - '2'\n", "README.md", "Not as claimed: AUROC."),
        (
            '"anomaly_threshold": ',
            '"anomaly_threshold": 1',
            "config.json",
            "Not as claimed: False positives, Detected",
        ),
    ],
)
def test_another_figure_class_or_threshold_is_seen(check, detector, edited, old, new, file, wrong):
    status, shown = check(edited(detector, old, new, file))
    assert status == 1
    assert wrong in shown


def test_a_model_without_a_threshold_tells_no_anomalies(check, detector, edited):
    status, sentence = check(edited(detector, '"anomaly_threshold"', '"threshold"', "config.json"))
    assert status == 2
    assert "tells no anomalies: its config.json has no `anomaly_kind` and `anomaly_threshold`" in sentence


def test_anomalies_of_another_data_set_are_known_by_their_samples(push, check, tmp_path):
    words = (
        "--dataset_name",
        "digits",
        "--anomaly_dataset_name",
        noise(tmp_path / "noise"),
        "--per_device_eval_batch_size",
        50,
    )
    config = ("--model_config", '{"latent_dim": 2, "hidden_sizes": [8]}', "--load_best_model_at_end", "false", *FEW)
    out = train(
        "detect_anomalies", tmp_path / "out", *words, *config, "--anomaly_kind", "elbo", "--logging_steps", 4, config="fashion_mnist"
    )  # fmt: skip
    args = read_claims((out / "README.md").read_text())[0].result.args
    assert (args["anomaly_name"], args["anomaly_split"]) == ("noise", "test")
    assert str(tmp_path) not in (out / "README.md").read_text()
    repo = push(out, "detector")
    status, sentence = check(repo)
    assert status == 2
    assert "The anomalies are images of 'noise', which is not on the Hub: name that data set" in sentence
    assert check(repo, "--dataset_name", noise(tmp_path / "other", 1), "digits")[0] == 2
    load_data("digits", max_train_samples=30)["train"].save_to_disk(str(tmp_path / "no-test"))
    status, shown = check(
        repo, "--dataset_name", tmp_path / "no-test", "digits", tmp_path / "noise", "--tolerance", "1e-6"
    )
    assert status == 0, shown


def test_anomalies_of_the_hub_are_read_at_their_revision(monkeypatch):
    data = load_data("digits", max_train_samples=30)
    args = AnomalyArguments(anomaly_dataset_name="me/noise", anomaly_revision="v1")
    stated = anomaly_arguments(args, ImageData(data))
    claim = Claim("", DatasetFacts("digits"), Result("auroc", 0.5, args=stated))
    asked = {}
    monkeypatch.setattr(
        anomaly_detection, "load_data", lambda name, **options: asked.update(options, name=name) or data
    )
    other_pictures(read_anomaly_arguments(claim))
    assert asked == {"name": "me/noise", "revision": "v1", "test_split": "test"}
    other_pictures(read_anomaly_arguments(claim, "at-home"))
    assert asked == {"name": "at-home", "revision": None, "test_split": "test"}
