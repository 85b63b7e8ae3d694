"""Encoders and decoders of a variational autoencoder."""

import math
from itertools import pairwise

import torch
from torch import nn

from .configuration_vae import VAEConfig


class GatedLinear(nn.Module):
    """A gated layer, (Wx + b) * sigmoid(Vx + c) (Dauphin et al., 2017): W and V are one matrix product."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.linear = nn.Linear(in_features, 2 * out_features)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return nn.functional.glu(self.linear(hidden))


class SubpixelConv2d(nn.Conv2d):
    """
    A transposed convolution with a 4x4 kernel, stride 2 and padding 1, as a 2x2 convolution to the four pixels that
    follow from each (Shi et al., 2016): several times faster where there are few output channels.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, 4 * out_channels, 2, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return nn.functional.pixel_shuffle(super().forward(hidden), 2)[:, :, 1:-1, 1:-1]


class UnflattenChannelsLast(nn.Module):
    """Vectors to (batch, channels, size, size), stored channels last, in which transposed convolutions are faster."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.view(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)


def mlp_layers(sizes: list[int], gated: bool) -> list[nn.Module]:
    """Layers of widths `sizes`, the input's first, each with its nonlinearity."""
    layers = []
    for in_features, out_features in pairwise(sizes):
        if gated:
            layers.append(GatedLinear(in_features, out_features))
        else:
            layers += [nn.Linear(in_features, out_features), nn.ReLU(inplace=True)]
    return layers


class Encoder(nn.Module):
    """Pictures (batch, channels, height, width) to the mean and log-variance of q(z | x), both (batch, latents)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        sizes = config.hidden_sizes
        if config.architecture == "mlp":
            pixels = config.num_channels * config.image_size**2
            layers = [nn.Flatten(), *mlp_layers([pixels, *sizes], config.gated)]
            features = sizes[-1]
        else:
            layers = []
            for in_channels, out_channels in pairwise([config.num_channels, *sizes]):
                layers += [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
            layers.append(nn.Flatten())
            features = sizes[-1] * (config.image_size >> len(sizes)) ** 2
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(features, 2 * config.latent_dim)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.head(self.layers(pixel_values)).float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-20.0, 10.0)


class Decoder(nn.Module):
    """Latents (batch, latents) to what the likelihood needs of each pixel, (batch, channels, height, width)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        sizes = config.hidden_sizes[::-1]
        if config.architecture == "mlp":
            layers = mlp_layers([config.latent_dim, *sizes], config.gated)
            self.head = nn.Linear(sizes[-1], config.num_channels * config.image_size**2)
            # The number of values in its widest layer tells how many latents to decode at a time.
            self.width = max(*sizes, self.head.out_features)
        else:
            size = config.image_size >> len(sizes)
            layers = [
                nn.Linear(config.latent_dim, sizes[0] * size**2),
                nn.ReLU(inplace=True),
                UnflattenChannelsLast(sizes[0], size),
            ]
            for in_channels, out_channels in pairwise(sizes):
                layers += [
                    nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1),
                    nn.ReLU(inplace=True),
                ]
            self.head = SubpixelConv2d(sizes[-1], config.num_channels)
            self.width = sizes[-1] * (config.image_size // 2) ** 2
        self.layers = nn.Sequential(*layers)
        self.shape = (config.num_channels, config.image_size, config.image_size)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(latents)).float().reshape(-1, *self.shape).contiguous()


def fan_in(layer: nn.Module) -> float:
    """Number of inputs that each output of a linear or convolutional layer adds up."""
    weight = layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        return weight.shape[0] * math.prod(layer.kernel_size) / math.prod(layer.stride)
    return weight[0].numel()
