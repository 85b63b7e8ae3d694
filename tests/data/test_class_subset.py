"""Some classes as a data set of their own: the right samples, counted anew."""

import datasets
import numpy as np
import pytest

from hf_genkit.data import ClassificationData, load_data
from hf_genkit.data.class_subset import with_classes


@pytest.fixture(scope="module")
def digits() -> ClassificationData:
    return ClassificationData(load_data("digits"))


def test_every_sample_of_the_classes_keeps_its_image_and_gets_its_new_label(digits):
    splits = with_classes(digits, ["7", "2"])
    assert set(splits) == {"train", "validation", "test"}
    for role, split in splits.items():
        whole = digits.splits[role]
        kept = [row for row in range(len(whole)) if whole["label"][row] in (2, 7)]
        assert len(split) == len(kept)
        assert split.features["label"].names == ["7", "2"]
        assert split["label"][:] == [0 if whole["label"][row] == 7 else 1 for row in kept]
        assert np.array_equal(np.asarray(split[-1]["image"]), np.asarray(whole[kept[-1]]["image"]))
    assert ClassificationData(splits).id2label == {0: "7", 1: "2"}


def test_text_labels_and_unlabelled_samples(tmp_path):
    rows = {"text": list("abcdef"), "label": ["x", "y", "z", None, "x", "y"]}
    split = datasets.Dataset.from_dict(rows)
    splits = with_classes(ClassificationData(datasets.DatasetDict(train=split)), ["x", "z"])
    assert splits["train"]["text"][:] == ["a", "c", "e"]
    assert splits["train"]["label"][:] == [0, 1, 0]


def test_an_unknown_class_and_a_stream_are_refused(digits):
    with pytest.raises(ValueError, match=r"^'ten' is not one of the classes 0, 1, .*\.$"):
        with_classes(digits, ["1", "ten"])
    stream = ClassificationData(load_data("digits", streaming=True))
    with pytest.raises(ValueError, match="data that stream"):
        with_classes(stream, ["1"])
