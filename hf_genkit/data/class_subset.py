"""Some classes of a data set, as a data set of their own."""

import datasets
import numpy as np

from .classification import ClassificationData
from .columns import encode_labels


def with_classes(data: ClassificationData, names: list[str]) -> datasets.DatasetDict:
    """
    The samples of some classes, which are counted anew from 0.

    Args:
        data ([`ClassificationData`]): A data set with one label a sample.
        names (`list[str]`): The classes to keep, in their new order.

    Returns:
        `datasets.DatasetDict`: The same splits with these samples alone.

    Raises:
        `ValueError`: The data have no class of that name, or stream, or have a label for each token.
    """
    if data.is_streamed or data.task == "token-classification":
        raise ValueError(f"The classes {names} can't be taken out of data that stream or have a label for each token.")
    for name in names:
        if name not in data.label2id:
            raise ValueError(f"'{name}' is not one of the classes {', '.join(data.label2id)}.")
    column, feature = data.label_column, datasets.ClassLabel(names=names)
    new_ids = {data.label2id[name]: number for number, name in enumerate(names)}
    splits = {}
    for role, split in data.splits.items():
        labels = encode_labels(split.with_format(None)[column][:], split.features[column], data.label2id)
        kept = np.flatnonzero(np.isin(labels, list(new_ids)))
        relabelled = [new_ids[label] for label in labels[kept].tolist()]
        splits[role] = split.select(kept).remove_columns(column).add_column(column, relabelled, feature=feature)
    return datasets.DatasetDict(splits)
