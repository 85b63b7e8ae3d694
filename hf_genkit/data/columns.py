"""Which column holds the images, the text or the labels, and what the labels are called."""

from collections.abc import Iterable

import datasets
import numpy as np


UNLABELLED = -100
LABEL_NAMES = ("label", "labels", "class", "target", "category", "ner_tags", "fine_label")
TEXT_NAMES = ("text", "sentence", "content", "review", "tokens")

AnyDataset = datasets.Dataset | datasets.IterableDataset


def features_of(dataset: AnyDataset) -> datasets.Features:
    """The features of a data set; a stream that declares none is an error, since nothing can be found in it."""
    if dataset.features is None:
        raise ValueError("The streaming data set declares no features; give it some with `dataset.cast(features)`.")
    return dataset.features


def is_sequence(feature) -> bool:
    """Whether a column holds a list for each row, as the tokens and labels of token classification do."""
    return isinstance(feature, (datasets.List, datasets.LargeList))


def is_text(feature) -> bool:
    """Whether a column holds strings."""
    return isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string")


def named_column(features: datasets.Features, name: str, kind: str) -> str:
    """The column `name`; a `ValueError` names the columns if it is none of them."""
    if name not in features:
        raise ValueError(f"The data set has no {kind} column {name!r}; its columns are {list(features)}.")
    return name


def only_column(features: datasets.Features, candidates: list[str], kind: str) -> str:
    """The one candidate; a `ValueError` names the columns if there are several or none."""
    if len(candidates) != 1:
        found = f"several {kind} columns {candidates}" if candidates else f"no {kind} column"
        raise ValueError(f"The data set has {found}: name one of its columns {list(features)}.")
    return candidates[0]


def find_image_column(dataset: AnyDataset, name: str | None = None) -> str:
    """
    The column of images: `name` where it is given, which may hold paths too, else the only one with the feature type
    `datasets.Image`.

    Raises:
        `ValueError`: If there is no such column, or more than one; the message lists the columns.
    """
    features = features_of(dataset)
    if name is not None:
        if not is_text(features[named_column(features, name, "image")]) and not isinstance(
            features[name], datasets.Image
        ):
            raise ValueError(f"The column {name!r} holds {features[name]}, neither images nor their paths.")
        return name
    return only_column(
        features, [key for key, value in features.items() if isinstance(value, datasets.Image)], "image"
    )


def find_label_column(dataset: AnyDataset, name: str | None = None) -> str:
    """
    The column of labels: `name` where it is given, else the first that is called `label`, `labels`, `class`, `target`,
    `category`, `ner_tags` or `fine_label`, else the only one with the feature type `datasets.ClassLabel`.

    Raises:
        `ValueError`: If there is no such column, or more than one; the message lists the columns.
    """
    features = features_of(dataset)
    if name is not None:
        return named_column(features, name, "label")
    for candidate in LABEL_NAMES:
        if candidate in features:
            return candidate
    return only_column(features, [key for key, value in features.items() if _class_label(value)], "label")


def find_text_column(dataset: AnyDataset, name: str | None = None, label_column: str | None = None) -> str:
    """
    The column of text: `name` where it is given, else the first that is called `text`, `sentence`, `content`, `review`
    or `tokens`, else the only column of strings. Where the labels are lists (token classification) the text is a list
    of words too.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): Where to look.
        name (`str`, *optional*): The column to take.
        label_column (`str`, *optional*): The labels, which are never taken for text.

    Raises:
        `ValueError`: If there is no such column, or more than one; the message lists the columns.
    """
    features = features_of(dataset)
    if name is not None:
        return named_column(features, name, "text")
    words = label_column is not None and is_sequence(features[label_column])
    candidates = [
        key
        for key, value in features.items()
        if key != label_column and (is_sequence(value) and is_text(value.feature) if words else is_text(value))
    ]
    for candidate in TEXT_NAMES:
        if candidate in candidates:
            return candidate
    return only_column(features, candidates, "text")


def label_maps(
    dataset: AnyDataset, column: str, names: list[str] | None = None
) -> tuple[dict[int, str], dict[str, int]]:
    """
    The classes of a label column, as a model's config wants them.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): The training data.
        column (`str`):
            Labels of type `ClassLabel`, whole numbers, strings or booleans, or lists of them. `None`, an empty cell and
            -1 mean that a sample is unlabelled.
        names (`list[str]`, *optional*):
            The classes in order. Without it they are the names of a `ClassLabel`, or else the sorted distinct values,
            which a stream can't know beforehand.

    Returns:
        `tuple[dict[int, str], dict[str, int]]`: `id2label` and `label2id`.

    Raises:
        `ValueError`: If there are fewer than two classes, or the labels are no classes, or a stream has no names.
    """
    feature = features_of(dataset)[column]
    label = _class_label(feature)
    if names is None and label:
        names = label.names
    if names is None:
        if isinstance(dataset, datasets.IterableDataset):
            raise ValueError(f"The classes of a streaming data set must be named: {column!r} is no ClassLabel column.")
        values = dataset.with_format(None)[column][:]
        if is_sequence(feature):
            values = [value for row in values if row is not None for value in row]
        distinct = {value for value in set(values) if not _is_unlabelled(value)}
        names = [_name(value) for value in sorted(distinct)]
    if len(names) < 2:
        raise ValueError(f"The label column {column!r} must hold at least two classes, it holds {names}.")
    return dict(enumerate(names)), {name: index for index, name in enumerate(names)}


def encode_labels(values: Iterable, feature, label2id: dict[str, int] | None) -> np.ndarray:
    """
    Labels as class indices.

    Args:
        values (`Iterable`): `N` labels as the data set holds them.
        feature (`datasets.ClassLabel` or `datasets.Value`): The type of one label.
        label2id (`dict[str, int]`): The index of each class, by name, see [`label_maps`].

    Returns:
        `np.ndarray`: Indices of type `int64`, -100 where there is no label, of shape `[N]`.

    Raises:
        `ValueError`: If a label is not in `label2id`, or there is no `label2id`.
    """
    if label2id is None:
        raise ValueError("Labels need label2id, the index of each class.")

    def encode(value) -> int:
        if _is_unlabelled(value):
            return UNLABELLED
        name = feature.names[value] if isinstance(feature, datasets.ClassLabel) else _name(value)
        if name not in label2id:
            raise ValueError(f"The label {name!r} is not one of the classes {list(label2id)}.")
        return label2id[name]

    return np.fromiter((encode(value) for value in values), dtype=np.int64)


def _class_label(feature) -> datasets.ClassLabel | None:
    inner = feature.feature if is_sequence(feature) else feature
    return inner if isinstance(inner, datasets.ClassLabel) else None


def _is_unlabelled(value) -> bool:
    return value is None or value == -1 or value != value


def _name(value) -> str:
    """A label's name; the whole numbers that a CSV file with empty cells turns into floats get their integer name."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"Labels must be classes, not real numbers such as {value}.")
    return str(int(value) if isinstance(value, float) else value)
