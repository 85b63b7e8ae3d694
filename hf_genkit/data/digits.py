"""The embedded data set: scikit-learn's handwritten digits."""

import datasets
import numpy as np
from PIL import Image

from .splitting import stratified_sample


TEST_SIZE, VALIDATION_SIZE = 500, 297


def load_digits() -> datasets.DatasetDict:
    """
    The 1,797 handwritten digits that ship inside scikit-learn
    ([Alpaydin and Kaynak, 1998](https://doi.org/10.24432/C50P49)): real 8x8 grey images with the grey levels 0..16
    spread over 0..255, in fixed stratified splits of 1,000 for training, 297 for validation and 500 for test.

    Returns:
        `datasets.DatasetDict`: The splits `train`, `validation` and `test` with the columns `image` and `label`.
    """
    from sklearn import datasets as sklearn_datasets

    levels, labels = sklearn_datasets.load_digits(return_X_y=True)
    pixels = np.round(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(digit) for digit in range(10)])}
    )
    digits = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(image) for image in pixels], "label": labels.tolist()}, features=features
    )
    test = stratified_sample(labels, TEST_SIZE, seed=0)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    validation = rest[stratified_sample(labels[rest], VALIDATION_SIZE, seed=0)]
    train = np.setdiff1d(rest, validation)
    return datasets.DatasetDict(
        {
            "train": digits.select(train),
            "validation": digits.select(validation),
            "test": digits.select(test),
        }
    )
