"""Tiny teachers and students for every head that can be distilled, and data with uneven numbers of labels."""

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperForConditionalGeneration,
)

from hf_genkit import DistillationConfig, DistillationTrainer

from .tiny import TEXT
from .tiny_finetuning import MODELS, pad_any, samples, whisper_config


SIZES = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
CONVOLUTIONS = {"conv_dim": (8, 8), "conv_kernel": (4, 4), "conv_stride": (4, 4), "num_feat_extract_layers": 2}
HEADS = {
    **{name: MODELS[name] for name in ("gpt2", "llama", "masked", "whisper")},
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(**SIZES, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0)
    ),
    "ctc": lambda: Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True,
            hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, layerdrop=0.0,
            mask_time_prob=0.0, final_dropout=0.0, pad_token_id=0, **CONVOLUTIONS,
        )
    ),
}  # fmt: skip


def head(kind: str, seed: int = 0, scale: float = 1.0):
    """A model of a kind; a teacher gets another seed and larger weights, so that its logits say something."""
    torch.manual_seed(seed)
    model = HEADS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def llama(vocab_size: int, seed: int = 0, layers: int = 1):
    torch.manual_seed(seed)
    config = {**TEXT, "vocab_size": vocab_size, "num_hidden_layers": layers}
    return LlamaForCausalLM(LlamaConfig(**config, num_key_value_heads=2, pad_token_id=0))


def whisper(layers: int, seed: int = 0):
    torch.manual_seed(seed)
    config = whisper_config()
    config.decoder_layers = layers
    return WhisperForConditionalGeneration(config)


def rows(kind: str, size: int = 8) -> list[dict]:
    if kind != "ctc":
        return samples("bert-tokens" if kind == "t5" else kind, size)
    generator = torch.Generator().manual_seed(3)
    lengths = [160 + 16 * (i % 4) for i in range(size)]
    return [
        {
            "input_values": torch.randn(length, generator=generator),
            "labels": torch.randint(1, 12, (1 + i % 3,), generator=generator),
        }
        for i, length in enumerate(lengths)
    ]


def collate(features: list[dict]) -> dict[str, torch.Tensor]:
    if "input_values" not in features[0]:
        return pad_any(features)
    waves, labels = ([row[name] for row in features] for name in ("input_values", "labels"))
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_values": pad(waves, batch_first=True),
        "attention_mask": pad([torch.ones_like(wave, dtype=torch.long) for wave in waves], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=-100),
    }


def distiller(kind: str, folder, *, model=None, teacher=None, data=None, trainer_class=DistillationTrainer, **options):
    """A trainer of a tiny student of a kind; options of the trainer and of its config may be mixed."""
    names = ("callbacks", "processing_class", "teacher_processing_class", "eval_dataset", "compute_metrics")
    own = {name: options.pop(name) for name in names if name in options}
    defaults = {
        "per_device_train_batch_size": 8, "max_steps": 1, "max_grad_norm": 0.0, "learning_rate": 1e-2, "use_cpu": True,
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "temperature": 2.0,
    }  # fmt: skip
    data = rows(kind) if data is None else data
    own.setdefault("eval_dataset", data)
    return trainer_class(
        head(kind) if model is None else model,
        head(kind, seed=1, scale=3.0) if teacher is None else teacher,
        trainer_class.config_class(str(folder), **{**defaults, **options}),
        train_dataset=data,
        data_collator=collate,
        **own,
    )


__all__ = ["HEADS", "DistillationConfig", "collate", "distiller", "head", "llama", "rows", "whisper"]
