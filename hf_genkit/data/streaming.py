"""Images of a stream, in constant memory."""

from functools import partial

import datasets

from .columns import UNLABELLED, encode_labels, features_of
from .decoding import open_image, to_array


def stream_images(
    dataset: datasets.IterableDataset,
    *,
    image_column: str,
    label_column: str | None = None,
    label2id: dict[str, int] | None = None,
    size: tuple[int, int],
    crop: bool = False,
    channels: int = 3,
    batch_size: int = 64,
) -> datasets.IterableDataset:
    """
    Decode the images of a stream as they come by. Only one small batch of images is in memory at a time, in each
    worker. Shuffle before: `dataset.shuffle(buffer_size=...)` then holds encoded images.

    Args:
        dataset (`datasets.IterableDataset`): The stream.
        image_column (`str`): Its images, of type `datasets.Image`.
        label_column (`str`, *optional*): Its labels; without it every sample is unlabelled.
        label2id (`dict[str, int]`, *optional*): The index of each class, see [`label_maps`]; needed for labels.
        size (`tuple[int, int]`): Height and width that every image is resized to, bilinear with antialiasing.
        crop (`bool`, *optional*, defaults to `False`):
            Keep the proportions when resizing and cut what sticks out, instead of stretching.
        channels (`int`, *optional*, defaults to 3): 1 for grey, 3 for RGB.
        batch_size (`int`, *optional*, defaults to 64): How many images are decoded at a time.

    Returns:
        `datasets.IterableDataset`: A stream of `{"pixel_values": uint8 [C, H, W], "labels": int}`. Iterating raises
        `ValueError`, with its position in the stream, at an unreadable image.
    """
    features = features_of(dataset)
    decode = partial(
        _decode_batch,
        image_column=image_column,
        label_column=label_column,
        label_feature=features[label_column] if label_column else None,
        label2id=label2id,
        size=size,
        crop=crop,
        channels=channels,
    )
    encoded = dataset.with_format(None).cast_column(image_column, datasets.Image(decode=False))
    return encoded.map(decode, with_indices=True, batched=True, batch_size=batch_size, remove_columns=list(features))


def _decode_batch(
    rows: dict, indices: list[int], image_column, label_column, label_feature, label2id, size, crop, channels
):
    images = [open_image(row, index, image_column) for row, index in zip(rows[image_column], indices, strict=True)]
    labels = [UNLABELLED] * len(images)
    if label_column is not None:
        labels = encode_labels(rows[label_column], label_feature, label2id)
    return {"pixel_values": [to_array(image, channels, size, crop) for image in images], "labels": labels}
