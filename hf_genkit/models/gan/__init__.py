"""GANs: `GANModel` for training and sampling, `GANGeneratorModel` for sharing the generator alone."""

from transformers import AutoConfig, AutoModel

from .configuration_gan import GANConfig, GANGeneratorConfig
from .modeling_gan import GANModel, GANOutput
from .modeling_gan_generator import GANGeneratorModel, GANGeneratorOutput


for config_class, model_class in ((GANConfig, GANModel), (GANGeneratorConfig, GANGeneratorModel)):
    AutoConfig.register(config_class.model_type, config_class)
    AutoModel.register(config_class, model_class)
    config_class.register_for_auto_class()
    model_class.register_for_auto_class("AutoModel")

__all__ = [
    "GANConfig",
    "GANGeneratorConfig",
    "GANGeneratorModel",
    "GANGeneratorOutput",
    "GANModel",
    "GANOutput",
]
