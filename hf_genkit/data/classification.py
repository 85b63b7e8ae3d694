"""A data set for classification, of images or texts: its columns, its classes and its model inputs."""

import logging
from functools import cached_property
from itertools import islice

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from .augmentation import Augmentation
from .columns import (
    UNLABELLED,
    AnyDataset,
    encode_labels,
    features_of,
    find_image_column,
    find_label_column,
    find_text_column,
    is_sequence,
    label_maps,
)
from .decoding import GREY_MODES
from .images import build_image_dataset
from .splitting import stratified_sample
from .streaming import stream_images
from .text import TextCollator, build_text_dataset


logger = logging.getLogger(__name__)

SHUFFLE_BUFFER = 1000


class ClassificationData:
    """
    Splits of a data set whose columns and classes are known, ready to become model inputs.

    Args:
        splits (`datasets.DatasetDict` or `datasets.IterableDatasetDict`): From [`load_data`].
        image_column, text_column, text_pair_column, label_column (`str`, *optional*):
            Columns by name; what is not named is found by its type, images before text.

    Attributes:
        task (`str`): "image-classification", "text-classification" or "token-classification".
        id2label (`dict[int, str]`), label2id (`dict[str, int]`): The classes.

    Raises:
        `ValueError`: There is no label column, or neither an image nor a text column.
    """

    def __init__(
        self,
        splits: datasets.DatasetDict | datasets.IterableDatasetDict,
        *,
        image_column: str | None = None,
        text_column: str | None = None,
        text_pair_column: str | None = None,
        label_column: str | None = None,
    ):
        self.splits = splits
        train = splits["train"]
        features = features_of(train)
        self.label_column = find_label_column(train, label_column)
        self.id2label, self.label2id = label_maps(train, self.label_column)
        self.text_pair_column = text_pair_column
        has_images = any(isinstance(feature, datasets.Image) for feature in features.values())
        if image_column is not None or (has_images and text_column is None):
            self.task, self.input_column = "image-classification", find_image_column(train, image_column)
        else:
            self.input_column = find_text_column(train, text_column, self.label_column)
            per_token = is_sequence(features[self.label_column])
            self.task = "token-classification" if per_token else "text-classification"

    @property
    def is_streamed(self) -> bool:
        return isinstance(self.splits["train"], datasets.IterableDataset)

    def first_image(self):
        """The first training image, as a PIL image: its size and colours tell what the others are like."""
        return next(iter(self.splits["train"]))[self.input_column]

    @cached_property
    def _first_images(self) -> list[tuple[tuple[int, int], str]]:
        """Size and mode of the first training images: 100, or 16 of a stream."""
        rows = islice(self.splits["train"], 16 if self.is_streamed else 100)
        return [(row[self.input_column].size, row[self.input_column].mode) for row in rows]

    @property
    def channels(self) -> int:
        """1 if the first training images are all grey, else 3."""
        return 1 if all(mode in GREY_MODES for _, mode in self._first_images) else 3

    def inputs(
        self,
        split: AnyDataset,
        processor: BaseImageProcessor | PreTrainedTokenizerBase,
        teacher_processor: BaseImageProcessor | PreTrainedTokenizerBase | None = None,
        *,
        image_size: int | None = None,
        augmentation: str | None = None,
        max_length: int | None = None,
        seed: int = 0,
    ):
        """
        Model inputs of a split, for [`~ClassificationData.collator`]'s collator.

        Args:
            split (`datasets.Dataset` or `datasets.IterableDataset`): One of the splits or part of one.
            processor (`BaseImageProcessor` or `PreTrainedTokenizerBase`): The student's.
            teacher_processor (*optional*): The teacher's.
            image_size (`int`, *optional*):
                Height and width to decode images to. Without it images keep their size up to the largest that student
                and teacher want.
            augmentation (`str`, *optional*): Such as "flip,shift:2".
            max_length (`int`, *optional*): Longest text, in tokens.
            seed (`int`, *optional*, defaults to 0): Seed of the augmentation and of a stream's order.
        """
        if self.task == "image-classification":
            processors = [p for p in (processor, teacher_processor) if p is not None]
            size = (image_size, image_size) if image_size else self._decoded_size(processors)
            crop = any("shortest_edge" in p.size for p in processors)
            return self.images(split, size=size, crop=crop, augmentation=augmentation, seed=seed)
        return self.texts(
            self._shuffled(split, seed),
            processor,
            teacher_tokenizer=_if_other(teacher_processor, processor),
            max_length=max_length,
        )

    def collator(self, processor, teacher_processor=None) -> TextCollator | None:
        """What pads texts; images come as whole batches and need none."""
        if self.task == "image-classification":
            return None
        return TextCollator(processor, _if_other(teacher_processor, processor))

    def _decoded_size(self, processors: list[BaseImageProcessor]) -> tuple[int, int] | None:
        """The largest size that a model wants, where images are larger or differ in size; else they stay as they are."""
        largest = max(p.size.get("height", p.size.get("shortest_edge")) for p in processors)
        sizes = {size for size, _ in self._first_images}
        return (largest, largest) if len(sizes) > 1 or min(sizes.pop()) > largest else None

    @property
    def evaluation_split(self) -> AnyDataset:
        """The split to validate and choose on."""
        if "validation" not in self.splits:
            raise ValueError(
                "A streamed data set without a validation split needs `eval_split`: none can be cut from it."
            )
        return self.splits["validation"]

    @cached_property
    def test_split_name(self) -> str:
        """Which split gives the final figures: "test", or "validation" where there is none or its labels are secret."""
        test = self.splits.get("test")
        if test is None:
            return "validation"
        if not self.is_streamed and self.task != "token-classification" and (self._labels(test) == UNLABELLED).all():
            logger.warning("The test split has no labels, so the final figures come from the validation split.")
            return "validation"
        return "test"

    @property
    def test_split(self) -> AnyDataset:
        """The split for the final figures, see [`~ClassificationData.test_split_name`]."""
        return self.splits["test"] if self.test_split_name == "test" else self.evaluation_split

    def training_splits(self, labels: int | None, seed: int) -> tuple[AnyDataset, AnyDataset]:
        """
        The training data with few labels, in two forms that show the same labels.

        Args:
            labels (`int`, *optional*): How many labels to keep, stratified; `None` keeps all.
            seed (`int`): Chooses them.

        Returns:
            `tuple[AnyDataset, AnyDataset]`: The labelled samples alone, and all samples, the others unlabelled (-1).
        """
        train = self.splits["train"]
        if labels is None:
            return train, train
        if self.is_streamed or self.task == "token-classification":
            raise ValueError(
                f"`labelled_samples` is {labels}, which needs one label a sample and data that don't stream."
            )
        known = self._labels(train)
        candidates = np.flatnonzero(known != UNLABELLED)
        if labels > len(candidates):
            raise ValueError(f"`labelled_samples` is {labels}, but the training split has {len(candidates)} labels.")
        kept = candidates[stratified_sample(known[candidates], labels, seed)]
        column = np.full(len(train), -1)
        column[kept] = known[kept]
        feature = datasets.ClassLabel(names=list(self.label2id))
        masked = train.remove_columns(self.label_column).add_column(self.label_column, column, feature=feature)
        return train.select(kept), masked

    def images(
        self,
        split: AnyDataset,
        *,
        size: tuple[int, int] | None = None,
        crop: bool = False,
        augmentation: str | None = None,
        seed: int = 0,
    ):
        """
        Image inputs: an [`ArrayImageDataset`], or a stream, which is shuffled if it is the training split.

        Args:
            split (`datasets.Dataset` or `datasets.IterableDataset`): One of the splits or part of one.
            size (`tuple[int, int]`, *optional*): Height and width to decode to; a stream defaults to its first image's.
            crop (`bool`, *optional*, defaults to `False`): Keep the proportions and cut, instead of stretching.
            augmentation (`str`, *optional*): Such as "flip,shift:2".
            seed (`int`, *optional*, defaults to 0): Seed of the augmentation and of the stream's order.
        """
        columns = {"image_column": self.input_column, "label_column": self.label_column, "label2id": self.label2id}
        channels = self.channels
        if isinstance(split, datasets.IterableDataset):
            if augmentation is not None:
                raise ValueError(f"`augmentation` is '{augmentation}', but a stream has no index to draw it from.")
            size = size or self.first_image().size[::-1]
            return stream_images(self._shuffled(split, seed), **columns, size=size, crop=crop, channels=channels)
        return build_image_dataset(
            split,
            **columns,
            size=size,
            crop=crop,
            channels=channels if channels == 3 else None,
            augmentation=Augmentation.from_string(augmentation) if augmentation else None,
            seed=seed,
        )

    def texts(
        self,
        split: AnyDataset,
        tokenizer: PreTrainedTokenizerBase,
        *,
        teacher_tokenizer: PreTrainedTokenizerBase | None = None,
        max_length: int | None = None,
    ) -> AnyDataset:
        """
        Token inputs, unpadded, for [`TextCollator`].

        Args:
            split (`datasets.Dataset`): One of the splits or part of one.
            tokenizer (`PreTrainedTokenizerBase`): The student's.
            teacher_tokenizer (`PreTrainedTokenizerBase`, *optional*): The teacher's, where it differs.
            max_length (`int`, *optional*): Longest text, in tokens.
        """
        return build_text_dataset(
            split,
            tokenizer,
            text_column=self.input_column,
            text_pair_column=self.text_pair_column,
            label_column=self.label_column,
            label2id=self.label2id,
            max_length=max_length,
            teacher_tokenizer=teacher_tokenizer,
        )

    def _shuffled(self, split: AnyDataset, seed: int) -> AnyDataset:
        """The split; a stream that is trained on in another order, since no sampler can shuffle it."""
        if self.is_streamed and split is self.splits["train"]:
            return split.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        return split

    def _labels(self, split: datasets.Dataset) -> np.ndarray:
        column = split.with_format(None)[self.label_column][:]
        return encode_labels(column, split.features[self.label_column], self.label2id)


def _if_other(teacher_tokenizer, tokenizer):
    """The teacher's tokenizer if it is there and turns text into other tokens than the student's."""
    if teacher_tokenizer is None or teacher_tokenizer.get_vocab() == tokenizer.get_vocab():
        return None
    return teacher_tokenizer
