"""Models that Hugging Face's Auto classes know once this package is imported; each folder registers its own."""

from . import early_exit, gan, vae, vq_vae


__all__ = ["early_exit", "gan", "vae", "vq_vae"]
