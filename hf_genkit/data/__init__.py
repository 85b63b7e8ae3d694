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
from .language import LanguageData
from .loading import load_data
from .pixels import PixelPreparer, image_processor_for, prepare_pixels
from .speech import SpeechData, SpeechDataset, normalise_transcript
from .streaming import stream_images
from .text import TextCollator, build_text_dataset
from .token_samples import set_chat_template
from .tokenizer_training import train_tokenizer
from .tokens import PairedTokenDataset, TokenDataset, TokenMasking


__all__ = [
    "ArrayImageDataset",
    "Augmentation",
    "Batch",
    "BatchCollator",
    "ClassificationData",
    "DifferentiableAugmentation",
    "ImageData",
    "LanguageData",
    "PairedTokenDataset",
    "PixelPreparer",
    "SpeechData",
    "SpeechDataset",
    "TextCollator",
    "TokenDataset",
    "TokenMasking",
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
    "normalise_transcript",
    "prepare_pixels",
    "set_chat_template",
    "stream_images",
    "train_tokenizer",
]
