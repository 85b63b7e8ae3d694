"""Autoencoders with a codebook."""

from transformers import AutoConfig, AutoModel

from .configuration_vq_vae import VQVAEConfig
from .modeling_vq_vae import VQVAEModel, VQVAEOutput


AutoConfig.register(VQVAEConfig.model_type, VQVAEConfig)
AutoModel.register(VQVAEConfig, VQVAEModel)
VQVAEConfig.register_for_auto_class()
VQVAEModel.register_for_auto_class("AutoModel")

__all__ = ["VQVAEConfig", "VQVAEModel", "VQVAEOutput"]
