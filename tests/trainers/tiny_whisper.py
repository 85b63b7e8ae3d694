"""A tiny Whisper with its processor, saved as recipes load one."""

from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from hf_genkit.data import train_tokenizer


END, START, NO_TIMES = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"


def save_whisper(folder: Path, vocab_size: int = 258, decoder_layers: int = 1) -> Path:
    """A tiny Whisper with bytes, and above 258 with pairs of them, as its vocabulary."""
    letters = train_tokenizer(["press one or two"] * 3, vocab_size)
    letters.add_special_tokens({"additional_special_tokens": [START, NO_TIMES]})
    letters.save_pretrained(folder)
    tokenizer = WhisperTokenizer.from_pretrained(folder, pad_token=END, eos_token=END, bos_token=END)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=1), tokenizer).save_pretrained(folder)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = tokenizer.convert_tokens_to_ids(START)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=decoder_layers, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, max_source_positions=50,
            max_target_positions=40, decoder_start_token_id=start, bos_token_id=start, **ids,
        )
    )  # fmt: skip
    model.generation_config = GenerationConfig(decoder_start_token_id=start, max_new_tokens=12, **ids)
    model.save_pretrained(folder)
    return folder
