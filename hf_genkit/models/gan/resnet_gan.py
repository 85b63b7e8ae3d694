"""Residual blocks of 3x3 convolutions, as in [SNGAN (Miyato et al., 2018)](https://arxiv.org/abs/1802.05957)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_gan import GANConfig, GANGeneratorConfig
from .dcgan_gan import norm_layer


class UpBlock(nn.Module):
    """Doubles the resolution: nearest-neighbour upsampling in the branch and in the shortcut."""

    def __init__(self, inputs: int, outputs: int, norm: str):
        super().__init__()
        self.norm1, self.norm2 = norm_layer(inputs, norm), norm_layer(outputs, norm)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, hidden: Tensor) -> Tensor:
        branch = self.conv1(F.interpolate(self.norm1(hidden).relu(), scale_factor=2))
        branch = self.conv2(self.norm2(branch).relu())
        # A 1x1 convolution commutes with the upsampling, and is four times cheaper before it.
        return branch + F.interpolate(self.shortcut(hidden), scale_factor=2)


class ResNetGenerator(nn.Module):
    """`[B, input_dim]` to pictures before their tanh, `[B, C, H, W]`."""

    def __init__(self, config: GANGeneratorConfig, input_dim: int):
        super().__init__()
        widths = config.stage_widths(config.generator_channels)[::-1]
        self.first_shape = (widths[0], config.base_size, config.base_size)
        self.project = nn.Linear(input_dim, widths[0] * config.base_size**2)
        blocks = [UpBlock(*pair, config.generator_norm) for pair in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks, norm_layer(widths[-1], config.generator_norm), nn.ReLU())
        self.to_pixels = nn.Conv2d(widths[-1], config.num_channels, kernel_size=3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.to_pixels(self.blocks(self.project(inputs).unflatten(1, self.first_shape)))


class ResidualBlock(nn.Module):
    """Keeps the resolution, or halves it by averaging; the first of a network takes pixels, without a ReLU before it."""

    def __init__(self, inputs: int, outputs: int, norm: str, *, downsample: bool = True, first: bool = False):
        super().__init__()
        self.downsample, self.first = downsample, first
        self.norm1 = norm_layer(inputs, "none" if first else norm)
        self.norm2 = norm_layer(outputs, norm)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, kernel_size=1) if inputs != outputs else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        branch = hidden if self.first else self.norm1(hidden).relu()
        branch = self.conv2(self.norm2(self.conv1(branch)).relu())
        if self.downsample:
            branch, hidden = F.avg_pool2d(branch, 2), F.avg_pool2d(hidden, 2)
        return branch + self.shortcut(hidden)


class ResNetDiscriminator(nn.Module):
    """Pictures `[B, C, H, W]` to features `[B, num_features]`, summed over positions."""

    def __init__(self, config: GANConfig):
        super().__init__()
        widths = [config.num_channels, *config.stage_widths(config.discriminator_channels)[1:]]
        norm = config.discriminator_norm
        blocks = [
            ResidualBlock(inputs, outputs, norm, first=position == 0)
            for position, (inputs, outputs) in enumerate(pairwise(widths))
        ]
        self.num_features = widths[-1]
        self.blocks = nn.Sequential(*blocks, ResidualBlock(widths[-1], widths[-1], norm, downsample=False))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.blocks(pixels).relu().sum((2, 3))
