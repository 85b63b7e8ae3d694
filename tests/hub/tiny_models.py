"""Untrained models of a few thousand parameters, saved as training would leave them in an output folder."""

from pathlib import Path

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizer,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "this", "is", "an", "example", "."]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
LABELS = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}


def save_image_classifier(folder: Path) -> ViTForImageClassification:
    """A grey 8x8 image classifier and its processor."""
    model = ViTForImageClassification(ViTConfig(**SIZES, **LABELS, image_size=8, patch_size=4, num_channels=1))
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5]).save_pretrained(folder)
    return model.eval()


def save_text_classifier(folder: Path, per_token: bool = False) -> None:
    """A text or token classifier and its tokenizer."""
    model_class = BertForTokenClassification if per_token else BertForSequenceClassification
    model_class(BertConfig(**SIZES, **LABELS, vocab_size=len(WORDS))).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder)
