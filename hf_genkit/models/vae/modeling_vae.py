"""A variational autoencoder; what it does beyond encoding, decoding and its loss is in inference_vae.py."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_vae import VAEConfig, check_choice
from .inference_vae import VAEInferenceMixin
from .likelihoods_vae import LIKELIHOODS, DiscretizedLogistic, Gaussian
from .networks_vae import Decoder, Encoder, fan_in
from .objectives_vae import OBJECTIVES, Terms, kl_divergence
from .priors_vae import standard_normal


@dataclass
class VAEOutput(ModelOutput):
    """
    Output of [`VAEModel`]. Terms of the loss are scalars, or of shape `(batch,)` with `reduction="none"`, in nats.

    Args:
        loss (`torch.FloatTensor`): What the objective minimises.
        reconstruction_loss (`torch.FloatTensor`): -log p(x | z), summed over pixels.
        kl_loss (`torch.FloatTensor`): KL(q(z | x) || p(z)), analytic and summed over latents, without beta.
        regularizer (`torch.FloatTensor`, *optional*): Total correlation (`"beta_tc"`) or MMD (`"info_vae"` and
            `"wae_mmd"`), without its weight.
        reconstruction (`torch.FloatTensor` of shape `(batch, channels, height, width)`): The expected picture of the
            first sample, in [-1, 1].
        mean, log_variance (`torch.FloatTensor` of shape `(batch, latent_dim)`): Parameters of q(z | x).
        latents (`torch.FloatTensor` of shape `(batch, latent_dim)`): The first sample of q(z | x).
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    kl_loss: torch.FloatTensor | None = None
    regularizer: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    mean: torch.FloatTensor | None = None
    log_variance: torch.FloatTensor | None = None
    latents: torch.FloatTensor | None = None


class VAEModel(VAEInferenceMixin, PreTrainedModel):
    """
    A variational autoencoder (Kingma and Welling, 2014; Rezende et al., 2014).

    Pictures are `pixel_values` of shape `(batch, channels, height, width)` in [-1, 1], in and out. Inputs are checked:
    shape and type always, the range on the CPU always and on other devices in all methods but `forward`, where reading
    the values would wait for the device at each training step.
    """

    config_class = VAEConfig
    base_model_prefix = "vae"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: VAEConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.likelihood = LIKELIHOODS[config.likelihood](config)
        if (components := config.mixture_components) is not None:
            self.register_mixture(
                torch.empty(components),
                torch.empty(components, config.latent_dim),
                torch.empty(components, config.latent_dim, config.latent_dim),
            )
        if config.second_stage is not None:
            self.second_stage = VAEModel(config.second_stage_config())
        self.post_init()

    def _init_weights(self, module: nn.Module):
        # The functions of transformers.initialization leave alone what a checkpoint has filled (`_is_hf_initialized`).
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            gain = 1 if module in (self.encoder.head, self.decoder.head) else 2
            init.normal_(module.weight, std=math.sqrt(gain / fan_in(module)))
            init.zeros_(module.bias)
        elif isinstance(module, Gaussian | DiscretizedLogistic):
            init.constant_(module.log_scale, math.log(self.config.sigma_value))
        elif module is self and self.config.mixture_components is not None:
            init.constant_(self.mixture_log_weights, -math.log(self.config.mixture_components))
            init.zeros_(self.mixture_means)
            init.copy_(self.mixture_scale_trils, torch.eye(self.config.latent_dim).expand_as(self.mixture_scale_trils))

    def forward(
        self,
        pixel_values: torch.FloatTensor,
        noise: torch.FloatTensor | None = None,
        generator: torch.Generator | None = None,
        beta: float | torch.Tensor | None = None,
        reduction: str = "mean",
        return_loss: bool = True,
        return_dict: bool | None = None,
    ) -> VAEOutput | tuple:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch, channels, height, width)`): Pictures in [-1, 1].
            noise (`torch.FloatTensor` of shape `(batch, latent_dim)` or `(batch, num_importance_samples, latent_dim)`, *optional*):
                Standard normal noise of the samples of q(z | x). When it is given, nothing is drawn.
            generator (`torch.Generator`, *optional*, defaults to the global one):
                Draws the noise.
            beta (`float`, *optional*, defaults to `config.beta`):
                Weight of the KL term, for a warm-up; see the objectives of [`VAEConfig`].
            reduction (`str`, *optional*, defaults to `"mean"`):
                `"mean"` over the batch, or `"none"`: one loss for each picture. Terms of the whole batch (the MMD) are
                repeated for each picture, and the aggregate posterior of `"beta_tc"` is the batch's, too.
            return_loss (`bool`, *optional*, defaults to `True`):
                Whether to compute the terms of the loss.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                Whether to return a [`VAEOutput`] rather than a tuple.

        Raises:
            `ValueError`: An input has the wrong shape, type or range, or `reduction` is unknown.
        """
        check_choice("reduction", reduction, ("mean", "none"))
        on_cpu = pixel_values.device.type == "cpu" and not torch.compiler.is_compiling()
        self.check_pixel_values(pixel_values, check_range=on_cpu)
        mean, log_variance = self.encode_checked(pixel_values)
        noise = self.noise_of_batch(noise, generator, mean)
        latents = mean[:, None] + torch.exp(log_variance[:, None] / 2) * noise
        log_likelihood, outputs = self.log_prob(latents, pixel_values)
        output = VAEOutput(
            reconstruction=self.likelihood.mean(outputs[:, 0]).view_as(pixel_values),
            mean=mean,
            log_variance=log_variance,
            latents=latents[:, 0],
        )
        if return_loss:
            terms = Terms(log_likelihood, kl_divergence(mean, log_variance), mean, log_variance, noise, latents)
            objective = OBJECTIVES[self.config.objective]
            loss, regularizer = objective(terms, self.config, self.config.beta if beta is None else beta)
            losses = {"loss": loss, "reconstruction_loss": terms.reconstruction, "kl_loss": terms.kl.sum(-1)}
            if regularizer is not None:
                losses["regularizer"] = regularizer
            for name, value in losses.items():
                output[name] = value.mean() if reduction == "mean" else value
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def encode(self, pixel_values: torch.FloatTensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The mean and the log-variance of q(z | x), each of shape `(batch, latent_dim)`.

        Raises:
            `ValueError`: `pixel_values` has the wrong shape, type or range.
        """
        self.check_pixel_values(pixel_values)
        return self.encode_checked(pixel_values)

    def encode_checked(self, pixel_values: torch.FloatTensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[`~VAEModel.encode`] for pictures that have been checked."""
        return self.encoder(pixel_values.to(self.dtype))

    def decode(self, latents: torch.FloatTensor) -> torch.Tensor:
        """
        The expected pictures of `latents` (batch, latent_dim), of shape `(batch, channels, height, width)`.

        Raises:
            `ValueError`: `latents` has another shape.
        """
        if latents.ndim != 2 or latents.shape[1] != self.config.latent_dim:
            raise ValueError(
                f"`latents` has the shape {tuple(latents.shape)}, but it must be (batch, {self.config.latent_dim})."
            )
        return self.likelihood.mean(self.decoder(latents.to(self.dtype)))

    def log_prob(self, latents: torch.Tensor, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        log p(x | z) in nats, (batch, samples), and the decoder's outputs, (batch, samples, pixels), for `latents`
        (batch, samples, latent_dim). All but the decoder is fp32, under autocast, too.
        """
        outputs = self.decoder(latents.flatten(0, 1).to(self.dtype)).view(*latents.shape[:2], -1)
        with torch.autocast(outputs.device.type, enabled=False):
            return self.likelihood.log_prob(outputs, pixel_values.flatten(1).float()), outputs

    def noise_of_batch(
        self, noise: torch.Tensor | None, generator: torch.Generator | None, mean: torch.Tensor
    ) -> torch.Tensor:
        """The given noise as (batch, samples, latent_dim), or newly drawn noise of that shape."""
        shape = (len(mean), self.config.num_importance_samples, self.config.latent_dim)
        if noise is None:
            return standard_normal(shape, generator, mean.device)
        if noise.ndim == 2 and shape[1] == 1:
            noise = noise[:, None]
        if noise.shape != shape:
            raise ValueError(f"`noise` has the shape {tuple(noise.shape)}, but it must be {shape}.")
        return noise.float()

    def check_pixel_values(self, pixel_values: torch.Tensor, check_range: bool = True):
        """
        Raises:
            `ValueError`: `pixel_values` is no batch of the pictures that the configuration describes.
        """
        config = self.config
        shape = (config.num_channels, config.image_size, config.image_size)
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != shape:
            raise ValueError(
                f"`pixel_values` has the shape {tuple(pixel_values.shape)}, but the model takes (batch, "
                f"{', '.join(map(str, shape))})."
            )
        if not pixel_values.is_floating_point():
            raise ValueError(f"`pixel_values` has the type {pixel_values.dtype}, but it must be floating point.")
        if check_range and config.bounded and pixel_values.numel():
            least, most = (float(value) for value in torch.aminmax(pixel_values))
            # Written so that NaN fails, too.
            if not (least >= -1.001 and most <= 1.001):
                raise ValueError(f"`pixel_values` goes from {least:.4g} to {most:.4g}, but it must be in [-1, 1].")

    def register_mixture(self, log_weights: torch.Tensor, means: torch.Tensor, scale_trils: torch.Tensor):
        """Makes the parameters of a mixture prior part of the model's state."""
        self.register_buffer("mixture_log_weights", log_weights)
        self.register_buffer("mixture_means", means)
        self.register_buffer("mixture_scale_trils", scale_trils)
