"""Measures again what the card of a model claims; `python -m hf_genkit.verify REPO` is the command."""

from .checking import Verification, verify_card
from .verdict import Check


__all__ = ["Check", "Verification", "verify_card"]
