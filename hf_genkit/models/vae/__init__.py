"""Variational autoencoders."""

from transformers import AutoConfig, AutoModel

from .configuration_vae import VAEConfig
from .modeling_vae import VAEModel, VAEOutput


AutoConfig.register(VAEConfig.model_type, VAEConfig)
AutoModel.register(VAEConfig, VAEModel)
VAEConfig.register_for_auto_class()
VAEModel.register_for_auto_class("AutoModel")

__all__ = ["VAEConfig", "VAEModel", "VAEOutput"]
