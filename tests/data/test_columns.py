import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, List, Value
from PIL import Image as PILImage

from hf_genkit.data import encode_labels, find_image_column, find_label_column, find_text_column, label_maps


GREY = PILImage.new("L", (4, 4))
ANIMALS = ClassLabel(names=["cat", "dog"])


def rows(**columns):
    features = Features({name: feature for name, (feature, _) in columns.items()})
    return Dataset.from_dict({name: values for name, (_, values) in columns.items()}, features=features)


def test_columns_are_found_by_type_whatever_their_names():
    dataset = rows(picture=(Image(), [GREY]), animal=(ANIMALS, [1]), caption=(Value("string"), ["a dog"]))
    assert find_image_column(dataset) == "picture"
    assert find_label_column(dataset) == "animal"
    assert find_text_column(dataset) == "caption"


def test_a_label_column_of_strings_is_not_taken_for_the_text():
    dataset = rows(phrase=(Value("string"), ["hm"]), label=(Value("string"), ["good"]))
    assert find_text_column(dataset, label_column="label") == "phrase"


def test_words_are_the_text_where_words_are_labelled():
    dataset = rows(
        id=(Value("string"), ["0"]), tokens=(List(Value("string")), [["a", "b"]]), ner_tags=(List(ANIMALS), [[0, 1]])
    )
    assert find_label_column(dataset) == "ner_tags"
    assert find_text_column(dataset, label_column="ner_tags") == "tokens"
    assert label_maps(dataset, "ner_tags") == ({0: "cat", 1: "dog"}, {"cat": 0, "dog": 1})


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (find_image_column, r"no image column: name one of its columns \['first', 'second', 'number'\]"),
        (find_label_column, r"no label column: name one of its columns \['first', 'second', 'number'\]"),
        (find_text_column, r"several text columns \['first', 'second'\]: name one of its columns"),
        (
            lambda d: find_image_column(d, "img"),
            r"no image column 'img'; its columns are \['first', 'second', 'number'\]",
        ),
        (lambda d: find_label_column(d, "img"), r"no label column 'img'; its columns are"),
        (lambda d: find_text_column(d, "img"), r"no text column 'img'; its columns are"),
        (
            lambda d: find_image_column(d, "number"),
            r"'number' holds Value\('float64'\), neither images nor their paths",
        ),
    ],
)
def test_a_missing_column_is_one_sentence_with_the_columns_that_exist(find, message):
    dataset = rows(first=(Value("string"), ["a"]), second=(Value("string"), ["b"]), number=(Value("float64"), [0.5]))
    with pytest.raises(ValueError, match=message):
        find(dataset)


def test_a_stream_without_features_is_refused():
    with pytest.raises(ValueError, match="declares no features"):
        find_label_column(IterableDataset.from_generator(lambda: iter([{"label": 1}])))


def test_numbers_are_sorted_as_numbers():
    dataset = rows(label=(Value("int64"), [10, 9, -1, 10, None]))
    assert label_maps(dataset, "label") == ({0: "9", 1: "10"}, {"9": 0, "10": 1})


def test_numbers_that_empty_cells_made_floats_keep_their_names():
    dataset = rows(label=(Value("float64"), [1.0, float("nan"), 0.0]))
    id2label, label2id = label_maps(dataset, "label")
    assert id2label == {0: "0", 1: "1"}
    assert encode_labels(dataset["label"], dataset.features["label"], label2id).tolist() == [1, -100, 0]


def test_strings_become_classes_in_alphabetical_order():
    dataset = rows(label=(Value("string"), ["pos", "neg", None, "pos"]))
    id2label, label2id = label_maps(dataset, "label")
    assert id2label == {0: "neg", 1: "pos"}
    assert encode_labels(dataset["label"], dataset.features["label"], label2id).tolist() == [1, 0, -100, 1]


def test_class_labels_follow_the_names_of_another_order():
    encoded = encode_labels([0, 1, -1, None], ANIMALS, {"dog": 0, "cat": 1})
    assert encoded.tolist() == [1, 0, -100, -100]
    assert encoded.dtype == np.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.7], "Labels must be classes, not real numbers such as 0.5"),
        ([1.0, -1.0], r"must hold at least two classes, it holds \['1'\]"),
    ],
)
def test_labels_that_are_no_classes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        label_maps(rows(label=(Value("float64"), values)), "label")


def test_an_unknown_label_is_named():
    with pytest.raises(ValueError, match=r"'bird' is not one of the classes \['cat', 'dog'\]"):
        encode_labels(["cat", "bird"], Value("string"), {"cat": 0, "dog": 1})


def test_the_classes_of_a_stream_must_be_known_beforehand():
    stream = rows(label=(Value("string"), ["a", "b"])).to_iterable_dataset()
    with pytest.raises(ValueError, match="streaming data set must be named: 'label' is no ClassLabel"):
        label_maps(stream, "label")
    assert label_maps(stream, "label", names=["b", "a"])[1] == {"b": 0, "a": 1}
