"""Generative adversarial networks: generator, discriminator and the generator's moving average in one model."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_gan import GANConfig, check_choice
from .generation_gan import check_latents, generate_images, interpolate_images
from .modeling_gan_generator import WEIGHTED, GANGeneratorModel, GANPreTrainedModel
from .networks_gan import Discriminator, Generator


Augment = Callable[[Tensor, str], Tensor]


@dataclass
class GANOutput(ModelOutput):
    """
    What one phase of training gives; a field that the phase does not use is `None`.

    Args:
        fake_logits (`torch.Tensor` of shape `[B]`): The discriminator's scores of generated pictures, high for "real".
        real_logits (`torch.Tensor` of shape `[B]`): Its scores of `pixel_values`.
        mixed_logits (`torch.Tensor` of shape `[B]`): Its scores of pictures between the two.
        fake_pixels (`torch.Tensor` of shape `[B, C, H, W]`): The generated pictures, before augmentation.
        real_pixels (`torch.Tensor` of shape `[B, C, H, W]`): The real pictures, before augmentation.
        mixed_pixels (`torch.Tensor` of shape `[B, C, H, W]`): The pictures between the two, before augmentation.
    """

    fake_logits: Tensor | None = None
    real_logits: Tensor | None = None
    mixed_logits: Tensor | None = None
    fake_pixels: Tensor | None = None
    real_pixels: Tensor | None = None
    mixed_pixels: Tensor | None = None


class GANModel(GANPreTrainedModel):
    """
    A GAN: `generator`, `discriminator` and `ema_generator`, the moving average of the first that pictures are drawn
    from. `augmentation_probability` is a scalar buffer in which a trainer keeps what adaptive augmentation has reached.

    Args:
        config ([`GANConfig`]): The networks' sizes and kinds.
    """

    config_class = GANConfig
    main_input_name = "pixel_values"

    def __init__(self, config: GANConfig):
        super().__init__(config)
        self.generator = Generator(config)
        self.ema_generator = Generator(config)
        self.discriminator = Discriminator(config)
        self.register_buffer("augmentation_probability", torch.zeros(()))
        self.post_init()
        if config.discriminator_norm == "spectral":
            # After the weights have their values, so that the power iteration starts from them.
            for module in list(self.discriminator.modules()):
                if isinstance(module, WEIGHTED):
                    spectral_norm(module)
        self.ema_generator.load_state_dict(self.generator.state_dict())

    def initialize_weights(self):
        super().initialize_weights()
        # Called after loading too, which makes new parameters that require gradients.
        self.ema_generator.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self:
            init.zeros_(self.augmentation_probability)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        latents: Tensor | None = None,
        phase: str = "discriminator",
        augment: Augment | None = None,
        mix: Tensor | None = None,
        differentiable_inputs: bool = False,
    ) -> GANOutput:
        """
        One phase of training. Both networks' parameters are reached through here alone, so that a wrapper such as
        `DistributedDataParallel` sees all of it; the caller turns `requires_grad` off for the network not in training.

        Args:
            pixel_values (`torch.Tensor` of shape `[B, C, H, W]`, *optional*):
                Real pictures in [-1, 1]. The discriminator's phase needs them, the generator's only for losses that
                compare real and generated pictures.
            labels (`torch.LongTensor` of shape `[B]`, *optional*):
                Classes from 0 to `num_labels - 1`, of the real and of the generated pictures. A class-conditional
                model needs them, an unconditional one ignores them.
            latents (`torch.Tensor` of shape `[B, latent_dim]`, *optional*):
                What the generator starts from. Drawn from the global random state by default.
            phase (`str`, *optional*, defaults to `"discriminator"`):
                - `"discriminator"`: scores of real and of generated pictures; no gradient reaches the generator.
                - `"generator"`: scores of generated pictures, with gradient through the generator. Scores of
                  `pixel_values`, if given, are without gradient.
            augment (`Callable`, *optional*):
                Called as `augment(pixels, which)` with which of "real", "fake" and "mixed", on all that the
                discriminator is about to see. To train a generator through it, it must be differentiable.
            mix (`torch.Tensor` of shape `[B]`, *optional*):
                Also scores `real + mix * (fake - real)`, for WGAN's gradient penalty; uniform in [0, 1].
                Discriminator's phase alone.
            differentiable_inputs (`bool`, *optional*, defaults to `False`):
                Makes `real_pixels` and `fake_pixels` of the output leaves that the scores are differentiable in, for
                R1 and R2 penalties. They are the pictures before augmentation, so a penalty's gradient goes through
                the augmentation, as in [ADA (Karras et al., 2020)](https://arxiv.org/abs/2006.06676). Discriminator's
                phase alone.

        Returns:
            [`GANOutput`]. Scores whose gradient with respect to pictures is wanted (`mix`, `differentiable_inputs`) are
            computed in float32, outside autocast.

        Raises:
            `ValueError`: If an input lacks, or has a shape that the model can't take, or `phase` is unknown.
        """
        check_choice("phase", phase, ("discriminator", "generator"))
        self._check_inputs(pixel_values, labels, latents, phase)
        if latents is None:
            count = len(labels if pixel_values is None else pixel_values)
            latents = torch.randn(count, self.config.latent_dim, device=self.device, dtype=self.dtype)
        augment = augment or keep
        if phase == "generator":
            fake = self.generator(latents, labels)
            real_logits = None
            if pixel_values is not None:
                with torch.no_grad():
                    real_logits = self.discriminator(augment(pixel_values, "real"), labels)
            fake_logits = self.discriminator(augment(fake, "fake"), labels)
            return GANOutput(fake_logits=fake_logits, real_logits=real_logits, fake_pixels=fake)
        with torch.no_grad():
            fake = self.generator(latents, labels).to(pixel_values.dtype)
        pixels = {"real": pixel_values.detach(), "fake": fake}
        if mix is not None:
            pixels["mixed"] = torch.lerp(pixels["real"], fake, mix.to(fake.dtype)[:, None, None, None])
        for which in pixels:
            if differentiable_inputs or which == "mixed":
                # A leaf: distributed wrappers replace what they return, unless it has no history.
                pixels[which] = pixels[which].float().requires_grad_()
        logits = self._score(pixels, labels, augment)
        return GANOutput(
            **{f"{which}_logits": scores for which, scores in logits.items()},
            **{f"{which}_pixels": batch for which, batch in pixels.items()},
        )

    def _score(self, pixels: dict[str, Tensor], labels: Tensor | None, augment: Augment) -> dict[str, Tensor]:
        """
        The discriminator's scores `[B]` of each batch. They run as one batch, which is faster, unless the discriminator
        has batch statistics, which would mix real with generated pictures, or a batch's own gradient is wanted.
        """
        together = [which for which, batch in pixels.items() if not batch.requires_grad]
        if self.config.discriminator_norm == "batch":
            together = []
        logits = {}
        # Cached, each spectral norm is computed once: all batches meet the same weights.
        with parametrize.cached():
            if together:
                batch = torch.cat([augment(pixels[which], which) for which in together])
                repeated = None if labels is None else labels.repeat(len(together))
                logits = dict(zip(together, self.discriminator(batch, repeated).chunk(len(together)), strict=True))
            for which in [which for which in pixels if which not in together]:
                penalised = pixels[which].requires_grad
                with torch.autocast(self.device.type, enabled=False) if penalised else nullcontext():
                    logits[which] = self.discriminator(augment(pixels[which], which), labels)
        return logits

    def generate(
        self,
        num_images: int | None = None,
        labels: int | list[int] | Tensor | None = None,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        use_ema: bool = True,
        batch_size: int = 256,
    ) -> Tensor:
        """
        Draw pictures, in evaluation mode and without gradients.

        Args:
            num_images (`int`, *optional*): How many. Defaults to one for each of `latents`, or of `labels`, or to 1.
            labels (`int`, `list[int]` or `torch.LongTensor` of shape `[num_images]`, *optional*):
                Classes, one for each picture or one for all. By default the classes of a class-conditional model
                follow each other: 0, 1, 2 ... and again from 0.
            truncation (`float`, *optional*, defaults to 1.0):
                Factor of the latents, above 0 and at most 1: less gives more typical and less varied pictures.
            generator (`torch.Generator`, *optional*):
                Source of the latents; the global random state is then left alone. The latents are drawn on its device.
            latents (`torch.Tensor` of shape `[num_images, latent_dim]`, *optional*): Used instead of random ones.
            use_ema (`bool`, *optional*, defaults to `True`): Draw from the moving average of the generator.
            batch_size (`int`, *optional*, defaults to 256): How many pictures at a time; the latents don't depend on it.

        Returns:
            `torch.Tensor` of shape `[num_images, C, H, W]`: Pixels in [-1, 1], float32, on the model's device.

        Raises:
            `ValueError`: If a label is not a class of the model, or counts or shapes don't fit.
        """
        return generate_images(
            self.ema_generator if use_ema else self.generator,
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
        use_ema: bool = True,
    ) -> Tensor:
        """
        Pictures on the way from one latent vector to another, both ends included.

        Args:
            a (`torch.Tensor` of shape `[latent_dim]` or `[B, latent_dim]`): Where the way starts.
            b (`torch.Tensor` of the same shape): Where it ends.
            steps (`int`): Number of pictures, at least 2.
            mode (`str`, *optional*, defaults to `"linear"`): `"linear"` or `"slerp"` (along a great circle).
            labels (`int`, `list[int]` or `torch.LongTensor` of shape `[B]`, *optional*):
                The class of each way; a class-conditional model needs it.
            use_ema (`bool`, *optional*, defaults to `True`): Draw from the moving average of the generator.

        Returns:
            `torch.Tensor` of shape `[steps, C, H, W]` or `[B, steps, C, H, W]`: Pixels in [-1, 1].

        Raises:
            `ValueError`: If `mode` is unknown, `steps` below 2, labels lack, or shapes don't fit.
        """
        network = self.ema_generator if use_ema else self.generator
        return interpolate_images(network, self.config, a, b, steps, mode=mode, labels=labels)

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """
        Move `ema_generator` towards `generator`: `ema = decay * ema + (1 - decay) * current`, for parameters and for
        buffers such as the batch norms' statistics; whole numbers are copied.

        Args:
            decay (`float`): What the average keeps of itself, such as 0.999; 0 copies the generator.
        """
        averages, currents = self.ema_generator.state_dict(), self.generator.state_dict()
        floating = [name for name, value in averages.items() if value.is_floating_point()]
        torch._foreach_lerp_([averages[name] for name in floating], [currents[name] for name in floating], 1 - decay)
        for name in averages.keys() - floating:
            averages[name].copy_(currents[name])

    def export_generator(self, use_ema: bool = True) -> "GANGeneratorModel":
        """
        The generator alone, for sharing: smaller, and without the discriminator.

        Args:
            use_ema (`bool`, *optional*, defaults to `True`): Take the moving average of the generator.

        Returns:
            [`GANGeneratorModel`]: A copy, in evaluation mode, on the same device and of the same type.
        """
        exported = GANGeneratorModel(self.config.generator_config()).to(self.device, self.dtype)
        exported.generator.load_state_dict((self.ema_generator if use_ema else self.generator).state_dict())
        return exported.eval()

    def _check_inputs(self, pixel_values: Tensor | None, labels: Tensor | None, latents: Tensor | None, phase: str):
        shape = (self.config.num_channels, self.config.image_size, self.config.image_size)
        if pixel_values is None and phase == "discriminator":
            raise ValueError("The discriminator's phase needs `pixel_values`.")
        if pixel_values is None and labels is None and latents is None:
            raise ValueError("The generator's phase needs `latents`, or `pixel_values` or `labels` for their number.")
        if pixel_values is not None and tuple(pixel_values.shape[1:]) != shape:
            raise ValueError(
                f"`pixel_values` have shape {tuple(pixel_values.shape)}, but the model takes [B, {', '.join(map(str, shape))}]."
            )
        if pixel_values is not None:
            if not pixel_values.is_floating_point():
                raise ValueError(f"`pixel_values` have the type {pixel_values.dtype}, but must be floating point.")
            # Elsewhere reading the values would wait for the device.
            on_cpu = pixel_values.device.type == "cpu" and not torch.compiler.is_compiling()
            if on_cpu and pixel_values.numel() and not pixel_values.abs().max() <= 1.001:  # NaN fails, too
                raise ValueError(f"`pixel_values` reach {pixel_values.abs().max():.4g}, but must lie in [-1, 1].")
        if self.config.num_labels and labels is None:
            raise ValueError(f"This model has {self.config.num_labels} classes, so it needs `labels`.")
        if latents is not None:
            check_latents(latents, self.config)


def keep(pixels: Tensor, which: str) -> Tensor:
    """No augmentation."""
    return pixels


__all__ = ["GANModel", "GANOutput"]
