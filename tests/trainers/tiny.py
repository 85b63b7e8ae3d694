"""Tiny models and data sets: seconds to train, and every architecture's own quirks."""

import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    ConvNextConfig,
    DistilBertConfig,
    LlamaConfig,
    RobertaConfig,
    ViTConfig,
)


TEXT = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS = {
    "bert": lambda: BertConfig(**TEXT, **NO_DROPOUT, max_position_embeddings=32),
    "roberta": lambda: RobertaConfig(**TEXT, **NO_DROPOUT, max_position_embeddings=34, pad_token_id=1),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=24, dropout=0.0, attention_dropout=0.0,
        seq_classif_dropout=0.0, max_position_embeddings=32,
    ),
    "llama": lambda: LlamaConfig(**TEXT, num_key_value_heads=2, pad_token_id=0),
    "vit": lambda: ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4,
        num_channels=1,
    ),
    "convnext": lambda: ConvNextConfig(
        num_channels=1, patch_size=2, hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, image_size=8,
    ),
}  # fmt: skip
IMAGE_MODELS = ("vit", "convnext")


def tiny_model(kind: str, num_labels: int = 3, seed: int = 0, token_level: bool = False, scale: float = 1.0):
    """A model of that kind; `scale` multiplies its weights, so that a teacher has opinions."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    config.num_labels = num_labels
    if kind in IMAGE_MODELS:
        model = AutoModelForImageClassification.from_config(config)
    elif token_level:
        model = AutoModelForTokenClassification.from_config(config)
    else:
        model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model


class Samples(Dataset):
    """Unpadded samples, some of them unlabelled; the collator pads."""

    def __init__(self, kind: str, size: int = 8, num_labels: int = 3, token_level: bool = False, unlabelled: int = 2):
        generator = torch.Generator().manual_seed(7)
        self.rows = []
        for i in range(size):
            label = int(torch.randint(num_labels, (), generator=generator)) if i >= unlabelled else -100
            if kind in IMAGE_MODELS:
                self.rows.append({"pixel_values": torch.randn(1, 8, 8, generator=generator), "labels": label})
                continue
            length = 3 + int(torch.randint(8, (), generator=generator))
            ids = torch.randint(5, 60, (length,), generator=generator)
            if token_level:
                label = torch.randint(num_labels, (length,), generator=generator)
                label[0 if i >= unlabelled else slice(None)] = -100
            self.rows.append({"input_ids": ids, "labels": label})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def pad(features: list) -> dict[str, torch.Tensor]:
    """Pads texts with zeros and token labels with -100; stacks images."""
    if "pixel_values" in features[0]:
        pixels = torch.stack([f["pixel_values"] for f in features])
        return {"pixel_values": pixels, "labels": torch.tensor([f["labels"] for f in features])}
    ids = torch.nn.utils.rnn.pad_sequence([f["input_ids"] for f in features], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(f["input_ids"]) for f in features], batch_first=True)
    labels = [f["labels"] for f in features]
    if isinstance(labels[0], int):
        labels = torch.tensor(labels)
    else:
        labels = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
