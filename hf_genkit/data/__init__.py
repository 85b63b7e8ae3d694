"""A data set's rows -> model inputs."""

from .augmentation import Augmentation
from .batch import Batch, BatchCollator
from .classification import ClassificationData
from .columns import (
    encode_labels,
    find_image_column,
    find_label_column,
    find_text_column,
    label_maps,
)
from .differentiable_augmentation import DifferentiableAugmentation, ada_update
from .digits import load_digits
from .image_data import ImageData
from .images import ArrayImageDataset, build_image_dataset
from .loading import load_data
from .pixels import PixelPreparer, image_processor_for, prepare_pixels
from .streaming import stream_images
from .text import TextCollator, build_text_dataset


__all__ = [
    "ArrayImageDataset",
    "Augmentation",
    "Batch",
    "BatchCollator",
    "ClassificationData",
    "DifferentiableAugmentation",
    "ImageData",
    "PixelPreparer",
    "TextCollator",
    "ada_update",
    "build_image_dataset",
    "build_text_dataset",
    "encode_labels",
    "find_image_column",
    "find_label_column",
    "find_text_column",
    "image_processor_for",
    "label_maps",
    "load_data",
    "load_digits",
    "prepare_pixels",
    "stream_images",
]
