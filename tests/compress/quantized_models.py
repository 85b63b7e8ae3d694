"""Tiny models with outlying weights, so that rounding shows, and inputs for them."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)


TEXT = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 300,
    "max_position_embeddings": 32,
}
IMAGE = {"num_channels": 1, "num_labels": 10}
MODELS = {
    "bert": lambda layers: BertForSequenceClassification(
        BertConfig(
            **TEXT, num_hidden_layers=layers, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
    ),
    "llama": lambda layers: LlamaForCausalLM(LlamaConfig(**TEXT, num_hidden_layers=layers, tie_word_embeddings=True)),
    "vit": lambda layers: ViTForImageClassification(
        ViTConfig(
            **IMAGE, hidden_size=64, num_attention_heads=2, intermediate_size=128, num_hidden_layers=layers, image_size=14,
            patch_size=7,
        )
    ),
    "resnet": lambda layers: ResNetForImageClassification(
        ResNetConfig(**IMAGE, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ),
}  # fmt: skip


def make_model(kind: str, layers: int = 2) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[kind](layers).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data *= 3
    return model


def make_inputs(kind: str, batch: int = 4, length: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch + length)
    if kind in ("vit", "resnet"):
        return {"pixel_values": torch.randn(batch, 1, 14, 14, generator=generator)}
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length // 2 :] = 0
    return {"input_ids": torch.randint(3, 300, (batch, length), generator=generator), "attention_mask": mask}


def logits(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """In float32; the inputs take the model's dtype."""
    inputs = {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        return model(**inputs).logits.float()


def deviation(model, expected: torch.Tensor, inputs: dict[str, torch.Tensor]) -> float:
    """The largest difference, in standard deviations of what is expected."""
    return ((logits(model, inputs) - expected).abs().max() / expected.std()).item()
