"""A vector-quantised variational autoencoder."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .codebook_vq_vae import Codebook
from .configuration_vq_vae import VQVAEConfig
from .networks_vq_vae import Decoder, Encoder


@dataclass
class VQVAEOutput(ModelOutput):
    """
    Output of [`VQVAEModel`]. Terms of the loss are scalars, or of shape `(batch,)` with `reduction="none"`.

    Args:
        loss (`torch.FloatTensor`): reconstruction_loss + commitment_weight * commitment_loss.
        reconstruction_loss (`torch.FloatTensor`): Squared error, summed over pixels.
        commitment_loss (`torch.FloatTensor`): Squared distance of the encodings from their codes, summed over
            positions and dimensions.
        perplexity (`torch.FloatTensor`, a scalar): exp of the entropy of the codes in the batch (over all processes
            in training): how many codes are in use.
        reconstruction (`torch.FloatTensor` of shape `(batch, channels, height, width)`): In [-1, 1].
        codes (`torch.LongTensor` of shape `(batch, rows, columns)`): The code of each position.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    perplexity: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None


class VQVAEModel(PreTrainedModel):
    """
    A vector-quantised variational autoencoder (van den Oord et al., 2017), with a codebook of moving averages that
    changes in training mode alone, once in each call of `forward`.

    Pictures are `pixel_values` of shape `(batch, channels, height, width)` in [-1, 1], in and out. Inputs are checked:
    shape and type always, the range on the CPU always and on other devices in all methods but `forward`, where reading
    the values would wait for the device at each training step.
    """

    config_class = VQVAEConfig
    base_model_prefix = "vq_vae"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: VQVAEConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.codebook = Codebook(config)
        self.decoder = Decoder(config)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        # The functions of transformers.initialization leave alone what a checkpoint has filled (`_is_hf_initialized`).
        if isinstance(module, nn.Conv2d):
            gain = 1 if module in (self.encoder[-1], self.decoder[-1]) else 2
            init.normal_(module.weight, std=math.sqrt(gain / module.weight[0].numel()))
            init.zeros_(module.bias)
        elif isinstance(module, Codebook):
            init.normal_(module.vectors)
            init.copy_(module.sums, module.vectors)
            init.ones_(module.counts)
            init.zeros_(module.updates)
            # The first batch draws all codes anew that none of its encodings takes.
            init.constant_(module.idle, self.config.revival_steps - 1)

    def forward(
        self,
        pixel_values: torch.FloatTensor,
        reduction: str = "mean",
        return_loss: bool = True,
        return_dict: bool | None = None,
    ) -> VQVAEOutput | tuple:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch, channels, height, width)`): Pictures in [-1, 1].
            reduction (`str`, *optional*, defaults to `"mean"`):
                `"mean"` over the batch, or `"none"`: one loss for each picture.
            return_loss (`bool`, *optional*, defaults to `True`): Whether to compute the terms of the loss.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                Whether to return a [`VQVAEOutput`] rather than a tuple.

        Raises:
            `ValueError`: `pixel_values` has the wrong shape, type or range, or `reduction` is unknown.
        """
        if reduction not in ("mean", "none"):
            raise ValueError(f"`reduction` is {reduction!r}, but it must be 'mean' or 'none'.")
        on_cpu = pixel_values.device.type == "cpu" and not torch.compiler.is_compiling()
        self._check_pixel_values(pixel_values, check_range=on_cpu)
        encodings, codes = self._encode(pixel_values)
        vectors = self.codebook(codes)
        # Straight through: the gradient at the vectors passes to the encodings unchanged.
        decoded = self._decode(encodings + (vectors - encodings).detach())
        output = VQVAEOutput(reconstruction=decoded.clamp(-1, 1), codes=codes)
        usage = self.codebook.update(encodings, codes) if self.training else self.codebook.usage(codes)
        if return_loss:
            reconstruction_loss = (decoded - pixel_values.float()).square().flatten(1).sum(1)
            commitment_loss = (encodings - vectors).square().flatten(1).sum(1)
            loss = reconstruction_loss + self.config.commitment_weight * commitment_loss
            output.perplexity = torch.special.entr(usage / usage.sum()).sum().exp()
            losses = {"loss": loss, "reconstruction_loss": reconstruction_loss, "commitment_loss": commitment_loss}
            for name, value in losses.items():
                output[name] = value.mean() if reduction == "mean" else value
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def encode(self, pixel_values: torch.FloatTensor) -> torch.Tensor:
        """
        The codes of pictures, `(batch, rows, columns)`.

        Raises:
            `ValueError`: `pixel_values` has the wrong shape, type or range.
        """
        self._check_pixel_values(pixel_values)
        return self._encode(pixel_values)[1]

    @torch.no_grad()
    def decode(self, codes: torch.LongTensor) -> torch.Tensor:
        """
        The pictures of `codes` (batch, rows, columns), of shape `(batch, channels, height, width)`.

        Raises:
            `ValueError`: `codes` has another shape or type, or holds numbers that are no codes.
        """
        size = self.config.image_size >> len(self.config.hidden_sizes)
        if codes.ndim != 3 or codes.shape[1:] != (size, size) or codes.dtype != torch.long:
            raise ValueError(
                f"`codes` has the shape {tuple(codes.shape)} and the type {codes.dtype}, but it must be "
                f"(batch, {size}, {size}) of torch.int64."
            )
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.config.codebook_size:
            raise ValueError(f"`codes` must be from 0 to {self.config.codebook_size - 1}.")
        return self._decode(self.codebook(codes)).clamp(-1, 1)

    def reconstruct(self, pixel_values: torch.FloatTensor) -> torch.Tensor:
        """Pictures decoded from the codes of `pixel_values`, with its shape."""
        return self.decode(self.encode(pixel_values))

    @torch.no_grad()
    def interpolate(self, a: torch.FloatTensor, b: torch.FloatTensor, steps: int = 8) -> torch.Tensor:
        """
        Pictures between `a` and `b`, both (batch, channels, height, width), along the line between their encodings,
        each point of which takes its nearest codes: `(batch, steps, channels, height, width)`, both ends included.

        Raises:
            `ValueError`: `steps` is less than 2, or `a` and `b` are not pictures of one shape.
        """
        if steps < 2:
            raise ValueError(f"`steps` is {steps}, but both ends are included, so it must be 2 or more.")
        if a.shape != b.shape:
            raise ValueError(f"`a` has the shape {tuple(a.shape)} and `b` has {tuple(b.shape)}, but both must agree.")
        for pixel_values in (a, b):
            self._check_pixel_values(pixel_values)
        first, last = self._encode(a)[0][:, None], self._encode(b)[0][:, None]
        time = torch.linspace(0, 1, steps, device=first.device).view(-1, 1, 1, 1)
        path = ((1 - time) * first + time * last).flatten(0, 1)
        return self.decode(self.codebook.nearest(path)).unflatten(0, (len(a), steps))

    def _encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encodings = self.encoder(pixel_values.to(self.dtype)).float()
        with torch.autocast(encodings.device.type, enabled=False), torch.no_grad():
            return encodings, self.codebook.nearest(encodings)

    def _decode(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.decoder(vectors.to(self.dtype)).float().contiguous()

    def _check_pixel_values(self, pixel_values: torch.Tensor, check_range: bool = True):
        config = self.config
        shape = (config.num_channels, config.image_size, config.image_size)
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != shape:
            raise ValueError(
                f"`pixel_values` has the shape {tuple(pixel_values.shape)}, but the model takes (batch, "
                f"{', '.join(map(str, shape))})."
            )
        if not pixel_values.is_floating_point():
            raise ValueError(f"`pixel_values` has the type {pixel_values.dtype}, but it must be floating point.")
        if check_range and pixel_values.numel():
            least, most = (float(value) for value in torch.aminmax(pixel_values))
            # Written so that NaN fails, too.
            if not (least >= -1.001 and most <= 1.001):
                raise ValueError(f"`pixel_values` goes from {least:.4g} to {most:.4g}, but it must be in [-1, 1].")
