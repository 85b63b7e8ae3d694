"""Tiny models for every task of FineTuningTrainer, and data with uneven numbers of labels."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from hf_genkit.trainers.finetuning_config import FineTuningConfig
from hf_genkit.trainers.finetuning_trainer import FineTuningTrainer

from .tiny import NO_DROPOUT, TEXT, Samples, pad, tiny_model


def whisper_config() -> WhisperConfig:
    return WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, max_source_positions=10, max_target_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, dropout=0.0,
    )  # fmt: skip


MODELS = {
    "bert": lambda: tiny_model("bert"),
    "bert-tokens": lambda: tiny_model("bert", token_level=True),
    "convnext": lambda: tiny_model("convnext"),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=32, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**TEXT, num_key_value_heads=2, pad_token_id=0)),
    "masked": lambda: BertForMaskedLM(BertConfig(**TEXT, **NO_DROPOUT, max_position_embeddings=32)),
    "whisper": lambda: WhisperForConditionalGeneration(whisper_config()),
}  # fmt: skip


def finetuning_model(kind: str):
    torch.manual_seed(0)
    return MODELS[kind]()


def samples(kind: str, size: int = 8) -> list[dict]:
    """Rows for [`pad_any`]; the first half has few labels and the second many."""
    if kind in ("bert", "convnext"):
        return Samples(kind, size=size, unlabelled=3).rows
    rows = Samples("bert", size=size, token_level=True, unlabelled=0).rows
    generator = torch.Generator().manual_seed(1)
    for number, row in enumerate(rows):
        if kind != "bert-tokens":
            row["labels"] = row["input_ids"].clone()
            row["labels"][: -1 if number < size // 2 else 1] = -100
        if kind == "whisper":
            row["input_features"] = torch.randn(8, 20, generator=generator)
            del row["input_ids"]
    return rows


def pad_any(features: list[dict]) -> dict[str, torch.Tensor]:
    if "input_features" not in features[0]:
        return pad(features)
    labels = torch.nn.utils.rnn.pad_sequence([row["labels"] for row in features], batch_first=True, padding_value=-100)
    return {"input_features": torch.stack([row["input_features"] for row in features]), "labels": labels}


def finetuning_trainer(model, folder, rows: list[dict], **options) -> FineTuningTrainer:
    own = {name: options.pop(name) for name in ("callbacks", "processing_class") if name in options}
    defaults = {
        "per_device_train_batch_size": 8, "max_steps": 1, "max_grad_norm": 0.0, "learning_rate": 1e-2, "use_cpu": True,
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1,
    }  # fmt: skip
    return FineTuningTrainer(
        model,
        FineTuningConfig(str(folder), **{**defaults, **options}),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=pad_any,
        **own,
    )
