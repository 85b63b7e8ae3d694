import io
import pickle
import threading

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from torch.utils.data import DataLoader, Subset
from transformers import default_data_collator
from transformers.trainer_utils import RemoveColumnsCollator

from hf_genkit.data import ArrayImageDataset, Augmentation, Batch, BatchCollator, build_image_dataset
from hf_genkit.data import images as images_module


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (10, 6, 8), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (10, 6, 8, 3), dtype=np.uint8)
ANIMALS = ClassLabel(names=["cat", "dog"])
LABEL2ID = {"cat": 0, "dog": 1}
COLLATOR = BatchCollator(default_data_collator)


def image_rows(images, labels=None):
    images = [PILImage.fromarray(image) if isinstance(image, np.ndarray) else image for image in images]
    labels = [i % 2 for i in range(len(images))] if labels is None else labels
    return Dataset.from_dict(
        {"image": images, "label": labels}, features=Features({"image": Image(), "label": ANIMALS})
    )


def build(images, **options):
    return build_image_dataset(image_rows(images), image_column="image", **options)


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


# ---- decoding -------------------------------------------------------------------------------------------------------


def test_grey_images_stay_one_channel_and_exact():
    dataset = build(GREY, label_column="label", label2id=LABEL2ID)
    assert np.array_equal(dataset.pixels, GREY[:, None])
    assert dataset.labels.tolist() == [0, 1] * 5
    assert dataset.labels.dtype == np.int64


def test_colour_images_are_channels_first_and_exact():
    assert np.array_equal(build(COLOUR).pixels, COLOUR.transpose(0, 3, 1, 2))


def test_one_colour_image_late_makes_all_of_them_rgb():
    pixels = build([*GREY[:9], COLOUR[9]]).pixels
    assert np.array_equal(pixels[9], COLOUR[9].transpose(2, 0, 1))
    assert np.array_equal(pixels[:9], np.repeat(GREY[:9, None], 3, axis=1))


def test_channels_on_request():
    assert np.array_equal(build(GREY, channels=3).pixels, np.repeat(GREY[:, None], 3, axis=1))
    luma = [np.asarray(PILImage.fromarray(image).convert("L")) for image in COLOUR]
    assert np.array_equal(build(COLOUR, channels=1).pixels[:, 0], luma)


def test_without_a_label_column_every_sample_is_unlabelled():
    assert build(GREY).labels.tolist() == [-100] * 10


def test_unlabelled_rows_are_ignored_by_the_loss():
    rows = image_rows(GREY[:3], labels=[1, None, -1])
    dataset = build_image_dataset(rows, image_column="image", label_column="label", label2id=LABEL2ID)
    assert dataset.labels.tolist() == [1, -100, -100]


def test_resizing_is_pillows():
    pixels = build([COLOUR[0], COLOUR[1][:5, :5]], size=(4, 7)).pixels
    expected = PILImage.fromarray(COLOUR[1][:5, :5]).resize((7, 4), PILImage.Resampling.BILINEAR)
    assert pixels.shape == (2, 3, 4, 7)
    assert np.array_equal(pixels[1], np.asarray(expected).transpose(2, 0, 1))


def test_images_of_two_sizes_need_a_size():
    with pytest.raises(ValueError, match=r"image 0 has \(6, 8\) and image 3 has \(6, 7\) .*give the size"):
        build([*GREY[:3], GREY[3][:, :7]])


def test_sixteen_bits_keep_their_upper_half_instead_of_saturating():
    levels = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    assert build([PILImage.fromarray(levels)]).pixels.tolist() == [[[[0, 0, 1, 255]]]]
    assert build([PILImage.fromarray(levels.astype(np.int32))]).pixels.tolist() == [[[[0, 0, 1, 255]]]]


def test_black_and_white_images_are_grey():
    assert build([PILImage.fromarray(GREY[0] > 128)]).pixels[0, 0].tolist() == (255 * (GREY[0] > 128)).tolist()


def test_a_palette_is_resolved_to_its_colours():
    image = PILImage.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert build([image]).pixels[0].tolist() == [[[255, 0]], [[0, 0]], [[0, 255]]]


def test_transparent_pixels_become_white_whatever_colour_they_hide():
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], dtype=np.uint8)
    assert build([PILImage.fromarray(rgba)]).pixels[0].tolist() == [[[255, 255]], [[0, 255]], [[0, 255]]]
    grey_alpha = np.array([[[7, 255], [7, 0]]], dtype=np.uint8)
    assert build([PILImage.fromarray(grey_alpha)]).pixels.tolist() == [[[[7, 255]]]]


def test_exif_orientation_is_applied():
    exif = PILImage.Exif()
    exif[PILImage.ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    PILImage.fromarray(GREY[0]).save(file, "PNG", exif=exif)
    assert np.array_equal(build([{"bytes": file.getvalue(), "path": None}]).pixels[0, 0], np.rot90(GREY[0], -1))


@pytest.mark.parametrize("side", [8, 200])
@pytest.mark.parametrize("bad", ["truncated", "not an image", "missing", "float"])
def test_an_unreadable_image_is_named_by_its_index(bad, side):
    images = [PILImage.fromarray(RNG.integers(0, 256, (side, side), dtype=np.uint8)) for _ in range(4)]
    images[2] = {
        "truncated": {"bytes": png(images[2])["bytes"][: 60 + side * side // 2], "path": None},
        "not an image": {"bytes": b"hello", "path": None},
        "missing": None,
        "float": None,
    }[bad]
    if bad == "float":
        file = io.BytesIO()
        PILImage.fromarray(np.full((side, side), 0.5, dtype=np.float32)).save(file, "TIFF")
        images[2] = {"bytes": file.getvalue(), "path": None}
    reason = "is missing" if bad == "missing" else "can't be read: "
    with pytest.raises(ValueError, match=f"Image 2 of the column 'image' {reason}"):
        build(images)


def test_a_label_that_is_no_class_is_found_before_any_image_is_decoded():
    rows = image_rows([{"bytes": b"no", "path": None}])
    with pytest.raises(ValueError, match="'cat' is not one of the classes"):
        build_image_dataset(rows, image_column="image", label_column="label", label2id={"bird": 0})


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="the data set is empty"):
        build([])


def test_paths_are_images_too(tmp_path):
    PILImage.fromarray(GREY[0]).save(tmp_path / "a.png")
    rows = Dataset.from_dict({"file": [str(tmp_path / "a.png")]}, features=Features({"file": Value("string")}))
    assert np.array_equal(build_image_dataset(rows, image_column="file").pixels, GREY[:1, None])


@pytest.mark.parametrize("size", [None, (9, 10)])
def test_large_images_are_decoded_by_several_threads_in_order(size, monkeypatch):
    seen = set()

    def open_image(*args):
        seen.add(threading.current_thread())
        return real(*args)

    real = images_module.open_image
    monkeypatch.setattr(images_module, "open_image", open_image)
    large = RNG.integers(0, 256, (40, 130, 130), dtype=np.uint8)
    expected = [
        np.asarray(PILImage.fromarray(i).resize((10, 9), PILImage.Resampling.BILINEAR) if size else i) for i in large
    ]
    assert np.array_equal(build(large, size=size).pixels[:, 0], expected)
    assert threading.main_thread() in seen
    assert len(seen) > 1


# ---- memory mapping -------------------------------------------------------------------------------------------------


def test_a_large_array_is_a_file_that_the_next_run_finds(tmp_path, monkeypatch):
    rows = image_rows(COLOUR)
    first = build_image_dataset(rows, image_column="image", cache_dir=tmp_path, memory_map_over=100)
    assert isinstance(first.pixels, np.memmap)
    assert np.array_equal(first.pixels, COLOUR.transpose(0, 3, 1, 2))
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(images_module, "open_image", None)
    again = build_image_dataset(image_rows(COLOUR), image_column="image", cache_dir=tmp_path, memory_map_over=100)
    assert np.array_equal(again.pixels, first.pixels)
    assert list(tmp_path.iterdir()) == [file]


def test_other_rows_and_other_options_get_their_own_file(tmp_path):
    rows = image_rows(COLOUR)
    options = {"image_column": "image", "cache_dir": tmp_path, "memory_map_over": 10}
    whole = build_image_dataset(rows, **options)
    part = build_image_dataset(rows.select([3, 1]), **options)
    small = build_image_dataset(rows, size=(3, 3), **options)
    grey = build_image_dataset(rows, channels=1, **options)
    assert np.array_equal(part.pixels, whole.pixels[[3, 1]])
    assert small.pixels.shape == (10, 3, 3, 3)
    assert grey.pixels.shape == (10, 1, 6, 8)
    assert len(list(tmp_path.iterdir())) == 4


def test_an_interrupted_build_leaves_no_file_behind(tmp_path):
    rows = image_rows([*COLOUR, {"bytes": b"no", "path": None}])
    with pytest.raises(ValueError, match="Image 10"):
        build_image_dataset(rows, image_column="image", cache_dir=tmp_path, memory_map_over=100)
    assert list(tmp_path.iterdir()) == []


def test_a_small_array_is_in_memory_and_writes_nothing(tmp_path):
    dataset = build_image_dataset(image_rows(COLOUR), image_column="image", cache_dir=tmp_path)
    assert not isinstance(dataset.pixels, np.memmap)
    assert list(tmp_path.iterdir()) == []


def test_workers_get_the_name_of_a_memory_mapped_file_instead_of_its_content(tmp_path):
    np.save(tmp_path / "pixels.npy", np.arange(784_000).reshape(1000, 1, 28, 28).astype(np.uint8))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    labels = np.zeros(1000, dtype=np.int64)
    pickled = pickle.dumps(ArrayImageDataset(pixels, labels))
    assert len(pickled) < 20_000
    assert isinstance(pickle.loads(pickled).pixels, np.memmap)
    assert np.array_equal(pickle.loads(pickled).pixels, pixels)
    part = pickle.loads(pickle.dumps(ArrayImageDataset(pixels[5:9], labels[5:9])))
    assert np.array_equal(part.pixels, pixels[5:9])


# ---- fetching -------------------------------------------------------------------------------------------------------


def array_dataset(n=23, **options):
    pixels = np.random.default_rng(1).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    return ArrayImageDataset(pixels, np.arange(n), **options)


def test_a_batch_is_its_samples_stacked():
    dataset = array_dataset(augmentation=Augmentation(flip=True, shift=1))
    (batch,) = dataset.__getitems__([4, 2, 22])
    singles = [dataset[i] for i in (4, 2, 22)]
    assert isinstance(batch, Batch)
    assert torch.equal(batch.inputs["pixel_values"], torch.stack([single["pixel_values"] for single in singles]))
    assert batch.inputs["labels"].tolist() == [single["labels"] for single in singles] == [4, 2, 22]
    assert batch.inputs["pixel_values"].dtype == torch.uint8
    assert batch.inputs["labels"].dtype == torch.int64


def test_negative_and_excessive_indices_behave_as_in_a_list():
    dataset = array_dataset(augmentation=Augmentation(flip=True, shift=1))
    assert torch.equal(dataset[-1]["pixel_values"], dataset[22]["pixel_values"])
    with pytest.raises(IndexError):
        dataset[23]


def test_changing_a_batch_leaves_the_data_alone():
    dataset = array_dataset()
    before = dataset.pixels.copy()
    dataset.__getitems__([0, 1])[0].inputs["pixel_values"].zero_()
    dataset[0]["pixel_values"].zero_()
    assert np.array_equal(dataset.pixels, before)


def test_the_collator_survives_the_column_filter_of_the_trainer_and_pickling():
    collator = RemoveColumnsCollator(pickle.loads(pickle.dumps(COLLATOR)), signature_columns=["pixel_values"])
    loader = DataLoader(array_dataset(), batch_size=5, collate_fn=collator)
    batches = list(loader)
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == list(range(23))
    assert batches[-1]["pixel_values"].shape == (3, 3, 8, 8)


def test_other_samples_go_to_the_fallback():
    batch = COLLATOR([{"pixel_values": torch.ones(1, 2, 2), "labels": 3}] * 2)
    assert batch["pixel_values"].shape == (2, 1, 2, 2)
    assert batch["labels"].tolist() == [3, 3]


def test_a_subset_fetches_batches_too():
    loader = DataLoader(Subset(array_dataset(), [7, 5, 3]), batch_size=2, collate_fn=COLLATOR)
    assert [batch["labels"].tolist() for batch in loader] == [[7, 5], [3]]


@pytest.mark.parametrize(
    ("pixels", "labels", "augmentation", "message"),
    [
        (np.zeros((2, 1, 4, 4)), np.zeros(2, np.int64), None, "pixels must be uint8 of shape"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), None, r"got uint8 \[2, 4, 4\]"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64), None, r"labels must be int64 of shape \[2\]"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int64), Augmentation(shift=4), "shift:4 moves images"),
    ],
)
def test_wrong_arrays_are_refused(pixels, labels, augmentation, message):
    with pytest.raises(ValueError, match=message):
        ArrayImageDataset(pixels, labels, augmentation=augmentation)


# ---- epochs and workers ---------------------------------------------------------------------------------------------


def epoch_pixels(loader):
    batches = list(loader)
    order = torch.cat([batch["labels"] for batch in batches]).argsort()
    return torch.cat([batch["pixel_values"] for batch in batches])[order]


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_that_run_already_see_the_new_epoch(context, workers):
    dataset = array_dataset(augmentation=Augmentation(flip=True, shift=2))
    loader = DataLoader(
        dataset,
        batch_size=4,
        collate_fn=COLLATOR,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(epoch_pixels(loader))
    assert not torch.equal(epochs[0], epochs[1])
    for epoch in range(2):
        dataset.set_epoch(epoch)
        assert torch.equal(epoch_pixels(DataLoader(dataset, batch_size=7, collate_fn=COLLATOR)), epochs[epoch])


def test_shuffling_and_batch_size_do_not_change_an_augmented_image():
    dataset = array_dataset(augmentation=Augmentation(flip=True, shift=2), seed=5)
    dataset.set_epoch(3)
    shuffled = DataLoader(dataset, batch_size=6, shuffle=True, collate_fn=COLLATOR)
    expected = Augmentation(flip=True, shift=2)(dataset.pixels, seed=5, epoch=3, indices=np.arange(23))
    assert np.array_equal(epoch_pixels(shuffled).numpy(), expected)
