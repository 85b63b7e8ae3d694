import tracemalloc

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Features, Image, IterableDataset, Value
from PIL import Image as PILImage
from torch.utils.data import DataLoader
from transformers import default_data_collator

from hf_genkit.data import BatchCollator, stream_images


FEATURES = Features({"image": Image(), "label": ClassLabel(names=["even", "odd"])})
LABEL2ID = {"even": 0, "odd": 1}
OPTIONS = {"image_column": "image", "label_column": "label", "label2id": LABEL2ID}


READ = []


def numbers(n, side, bad=None):
    for i in range(n):
        READ.append(i)
        image = PILImage.new("L", (side, side), i % 256)
        yield {"image": {"bytes": b"no", "path": None} if i == bad else image, "label": i % 2}


def stream(n=20, side=8, **options):
    return IterableDataset.from_generator(numbers, gen_kwargs={"n": n, "side": side, **options}, features=FEATURES)


def test_samples_are_uint8_images_with_class_indices():
    samples = list(stream_images(stream(), size=(4, 6), channels=1, **OPTIONS | {"label2id": {"odd": 0, "even": 1}}))
    assert len(samples) == 20
    assert samples[3]["pixel_values"].dtype == np.uint8
    assert samples[3]["pixel_values"].tolist() == [[[3] * 6] * 4]
    assert [sample["labels"] for sample in samples[:4]] == [1, 0, 1, 0]
    assert set(samples[0]) == {"pixel_values", "labels"}


def test_without_a_label_column_every_sample_is_unlabelled():
    assert next(iter(stream_images(stream(), image_column="image", size=(4, 4))))["labels"] == -100


def test_batches_come_out_of_worker_processes_as_uint8():
    loader = DataLoader(
        stream_images(stream(), size=(8, 8), **OPTIONS),
        batch_size=8,
        num_workers=1,
        collate_fn=BatchCollator(default_data_collator),
    )
    batches = list(loader)
    assert [batch["pixel_values"].shape for batch in batches] == [(8, 3, 8, 8), (8, 3, 8, 8), (4, 3, 8, 8)]
    assert batches[0]["pixel_values"].dtype == torch.uint8
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == [0, 1] * 10


def test_only_one_batch_is_read_ahead():
    READ.clear()
    next(iter(stream_images(stream(100), size=(8, 8), batch_size=10, **OPTIONS)))
    assert 10 <= len(READ) <= 11


def test_memory_does_not_grow_with_the_stream():
    def peak(n):
        images = stream_images(stream(n, side=200), size=(200, 200), batch_size=4, **OPTIONS)
        tracemalloc.start()
        for _ in images:
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(4)
    assert peak(80) < 20 * 200 * 200 * 3


def test_an_unreadable_image_is_named_by_its_place_in_the_stream():
    images = stream_images(stream(bad=17), size=(8, 8), batch_size=8, **OPTIONS)
    with pytest.raises(ValueError, match="Image 17 of the column 'image'"):
        list(images)


def test_string_labels_of_a_stream():
    def rows():
        for name in ("b", "a", None):
            yield {"image": PILImage.new("L", (8, 8)), "label": name}

    features = Features({"image": Image(), "label": Value("string")})
    images = stream_images(
        IterableDataset.from_generator(rows, features=features),
        size=(8, 8),
        **OPTIONS | {"label2id": {"a": 0, "b": 1}},
    )
    assert [sample["labels"] for sample in images] == [1, 0, -100]
