"""Models that Hugging Face's Auto classes know once this package is imported; each folder registers its own."""

from . import gan, vae, vq_vae


__all__ = ["gan", "vae", "vq_vae"]
