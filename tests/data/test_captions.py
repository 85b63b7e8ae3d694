"""Captions of images, and extra inputs that travel with them."""

import datasets
import numpy as np
import pytest

from hf_genkit.data import ArrayImageDataset, ImageData
from hf_genkit.trainers.diffusion_inputs import caption_tokens
from hf_genkit.trainers.diffusion_models import word_tokenizer


def data(labels=(0, 1, -1), **columns) -> ImageData:
    pixels = [np.full((8, 8), 10 * i, dtype=np.uint8) for i in range(3)]
    features = {"image": datasets.Image()} | {name: datasets.Value("string") for name in columns}
    values = {"image": pixels, **columns}
    if labels is not None:
        features["label"], values["label"] = datasets.ClassLabel(names=["Bag", "Ankle boot"]), list(labels)
    rows = datasets.Dataset.from_dict(values, features=datasets.Features(features))
    return ImageData(datasets.DatasetDict(train=rows))


def test_captions_are_made_of_class_names_or_read_from_a_column():
    images = data(words=["one", "two", "three"])
    split = images.splits["train"]
    assert images.captions(split, template="a picture of a {label}") == [
        "a picture of a Bag",
        "a picture of a Ankle boot",
        "",
    ]
    assert images.captions(split, "words") == ["one", "two", "three"]


def test_captions_that_can_not_be_had_are_refused():
    images = data(labels=None)
    with pytest.raises(ValueError, match="no labels to make captions of: name one of its columns"):
        images.captions(images.splits["train"])
    with pytest.raises(ValueError, match="no text column 'caption'"):
        images.captions(images.splits["train"], "caption")


def test_a_word_tokenizer_knows_the_captions_words_and_their_length():
    tokenizer = word_tokenizer(["a red bag", "a Boot"])
    found = caption_tokens(["A red boot", "a purple bag", ""], tokenizer)
    words = [tokenizer.convert_ids_to_tokens(row) for row in found["input_ids"].tolist()]
    assert words[0] == ["<s>", "a", "red", "boot", "</s>"]
    assert words[1] == ["<s>", "a", "<unk>", "bag", "</s>"]
    assert words[2] == ["<s>", "</s>", "<pad>", "<pad>", "<pad>"]
    assert found["attention_mask"].sum(axis=1).tolist() == [5, 5, 2]
    assert tokenizer.model_max_length == 5


def test_extras_are_fetched_with_their_images():
    """Rows of another order would teach each image another one's caption."""
    pixels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    dataset = ArrayImageDataset(pixels, np.arange(4), extras={"tokens": np.arange(4)[:, None] * 10})
    (batch,) = dataset.__getitems__([3, 1])
    assert batch.inputs["tokens"].flatten().tolist() == [30, 10]
    assert dataset[2]["tokens"].tolist() == [20]
    with pytest.raises(ValueError, match="a row for each of 4 images, tokens has 3"):
        ArrayImageDataset(pixels, np.arange(4), extras={"tokens": np.arange(3)})
