"""Adapting trained models with few weights."""

from .lora import add_lora, load_lora


__all__ = ["add_lora", "load_lora"]
