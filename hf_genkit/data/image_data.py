"""A data set of images for models that make images: labels are welcome and not needed."""

import datasets
import numpy as np
from transformers import ViTImageProcessorPil

from .classification import ClassificationData
from .columns import UNLABELLED, AnyDataset, find_image_column, find_label_column, find_text_column, label_maps
from .pixels import image_processor_for


class ImageData(ClassificationData):
    """
    Splits of a data set of images.

    Args:
        splits (`datasets.DatasetDict` or `datasets.IterableDatasetDict`): From [`load_data`].
        image_column (`str`, *optional*): Found by its type where it is not named.
        label_column (`str`, *optional*): Found by its name or type where it is not named; there may be none.

    Attributes:
        label_column (`str` or `None`): The labels.
        id2label (`dict[int, str]`), label2id (`dict[str, int]`): The classes; empty without labels.

    Raises:
        `ValueError`: There is no image column, or no column with the given name.
    """

    task = "image-classification"

    def __init__(
        self,
        splits: datasets.DatasetDict | datasets.IterableDatasetDict,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
    ):
        self.splits = splits
        train = splits["train"]
        self.input_column = find_image_column(train, image_column)
        self.text_pair_column = None
        self.label_column, self.id2label, self.label2id = None, {}, {}
        if label_column is not None or _has_labels(train):
            self.label_column = find_label_column(train, label_column)
            self.id2label, self.label2id = label_maps(train, self.label_column)
            if (
                not self.is_streamed and (self._labels(train) == UNLABELLED).all()
            ):  # as of folders without class folders
                self.label_column, self.id2label, self.label2id = None, {}, {}

    @property
    def test_split_name(self) -> str:
        """The split for the final figures: "test", or "validation" where there is none."""
        return "test" if "test" in self.splits else "validation"

    def split_by_class(self, split: datasets.Dataset, names: list[str]) -> tuple[datasets.Dataset, datasets.Dataset]:
        """
        A split in two parts.

        Args:
            split (`datasets.Dataset`): One of the splits.
            names (`list[str]`): Classes.

        Returns:
            `tuple[datasets.Dataset, datasets.Dataset]`: The images of these classes, and those of all others.

        Raises:
            `ValueError`: The data have no class of that name, or no labels, or they stream.
        """
        if self.is_streamed or self.label_column is None:
            raise ValueError(f"The classes {names} can't be found in data that stream or have no labels.")
        for name in names:
            if name not in self.label2id:
                raise ValueError(f"'{name}' is not one of the classes {', '.join(self.label2id)}.")
        inside = np.isin(self._labels(split), [self.label2id[name] for name in names])
        return split.select(np.flatnonzero(inside)), split.select(np.flatnonzero(~inside))

    def side(self, image_size: int | None = None) -> int:
        """
        Height and width of the model's images.

        Args:
            image_size (`int`, *optional*): The side that is asked for; without it the images' own.

        Raises:
            `ValueError`: No side is given and the images differ in size or are not square.
        """
        sizes = sorted({size for size, _ in self._first_images})
        if image_size is None and (len(sizes) > 1 or sizes[0][0] != sizes[0][1]):
            raise ValueError(f"`image_size` is not given, and the images are not squares of one size: {sizes[:3]}.")
        return image_size or sizes[0][0]

    def captions(self, split: datasets.Dataset, column: str | None = None, template: str = "{label}") -> list[str]:
        """
        A caption for each image of a split.

        Args:
            split (`datasets.Dataset`): One of the splits or part of one.
            column (`str`, *optional*): The column that holds them.
            template (`str`, *optional*, defaults to `"{label}"`):
                Without a column: the caption, with `{label}` in place of the class's name; "" where there is no label.

        Raises:
            `ValueError`: There is no such column, or neither a column nor labels, or the data stream.
        """
        if self.is_streamed:
            raise ValueError("Captions are turned into tokens before training, which data that stream don't allow.")
        if column is not None:
            return list(split.with_format(None)[find_text_column(split, column)][:])
        if self.label_column is None:
            raise ValueError(
                f"The data set has no labels to make captions of: name one of its columns {list(split.features)} as "
                "`caption_column`."
            )
        names = {UNLABELLED: ""} | {i: template.format(label=name) for i, name in self.id2label.items()}
        return [names[label] for label in self._labels(split).tolist()]

    def processor(self, image_size: int | None = None) -> ViTImageProcessorPil:
        """The image processor of a model for these images: the values 0 to 255 become -1 to 1."""
        return image_processor_for(self.channels, self.side(image_size))

    def pictures(
        self, split: AnyDataset, image_size: int | None = None, *, augmentation: str | None = None, seed: int = 0
    ):
        """
        A split as an [`ArrayImageDataset`] (or a stream) of squares.

        Args:
            split (`datasets.Dataset` or `datasets.IterableDataset`): One of the splits or part of one.
            image_size (`int`, *optional*): Side of the squares, see [`~ImageData.side`].
            augmentation (`str`, *optional*): Such as "flip,shift:2".
            seed (`int`, *optional*, defaults to 0): Seed of the augmentation and of a stream's order.
        """
        side = self.side(image_size)
        return self.images(split, size=(side, side), crop=True, augmentation=augmentation, seed=seed)


def _has_labels(dataset: AnyDataset) -> bool:
    try:
        find_label_column(dataset)
    except ValueError:
        return False
    return True
