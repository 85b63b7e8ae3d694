"""The generator of a trained GAN as a model of its own, and the initial weights of both models."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_gan import GANGeneratorConfig
from .generation_gan import check_latents, generate_images, interpolate_images
from .networks_gan import Generator
from .r3gan_gan import ScaledConv2d


WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class GANPreTrainedModel(PreTrainedModel):
    """What the two models share: each architecture's initial weights."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        # Functions of `init` leave alone whatever was loaded (`_is_hf_initialized`).
        if isinstance(module, parametrize.ParametrizationList):
            # Spectral norm: the weight and the singular vectors of a layer.
            self._init_weight(module, module.original)
            for vector in module[0].buffers():
                init.constant_(vector, vector.numel() ** -0.5)
        elif isinstance(module, WEIGHTED):
            # Reading a normalised weight would run a power iteration, and a loaded model would differ from the saved.
            if not parametrize.is_parametrized(module):
                self._init_weight(module, module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)

    def _init_weight(self, module: nn.Module, weight: Tensor) -> None:
        if self.config.architecture == "dcgan":
            init.normal_(weight, std=0.02)
        elif self.config.architecture != "r3gan":
            init.xavier_uniform_(weight)
        elif isinstance(module, nn.ConvTranspose2d):
            init.normal_(weight)
        else:
            gain = module.gain if isinstance(module, ScaledConv2d) else 1.0
            init.normal_(weight, std=gain * weight[0].numel() ** -0.5)


@dataclass
class GANGeneratorOutput(ModelOutput):
    """
    Args:
        pixel_values (`torch.Tensor` of shape `[B, C, H, W]`): Generated pictures in [-1, 1].
    """

    pixel_values: Tensor | None = None


class GANGeneratorModel(GANPreTrainedModel):
    """
    The generator of a trained GAN, see [`~GANModel.export_generator`].

    Args:
        config ([`GANGeneratorConfig`]): The network's size and kind.
    """

    config_class = GANGeneratorConfig
    main_input_name = "latents"

    def __init__(self, config: GANGeneratorConfig):
        super().__init__(config)
        self.generator = Generator(config)
        self.post_init()

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> GANGeneratorOutput:
        """
        Args:
            latents (`torch.Tensor` of shape `[B, latent_dim]`): Standard normal.
            labels (`torch.LongTensor` of shape `[B]`, *optional*): Classes; a class-conditional model needs them.

        Returns:
            [`GANGeneratorOutput`]
        """
        check_latents(latents, self.config)
        return GANGeneratorOutput(pixel_values=self.generator(latents, labels))

    def generate(
        self,
        num_images: int | None = None,
        labels: int | list[int] | Tensor | None = None,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        batch_size: int = 256,
    ) -> Tensor:
        """Draw pictures: [`GANModel.generate`] with the same arguments, less `use_ema`."""
        return generate_images(
            self.generator,
            self.config,
            num_images=num_images,
            labels=labels,
            truncation=truncation,
            generator=generator,
            latents=latents,
            batch_size=batch_size,
        )

    def interpolate(
        self,
        a: Tensor,
        b: Tensor,
        steps: int,
        mode: str = "linear",
        labels: int | list[int] | Tensor | None = None,
    ) -> Tensor:
        """Pictures between two latent vectors: [`GANModel.interpolate`] with the same arguments, less `use_ema`."""
        return interpolate_images(self.generator, self.config, a, b, steps, mode=mode, labels=labels)


__all__ = ["GANGeneratorModel", "GANGeneratorOutput"]
