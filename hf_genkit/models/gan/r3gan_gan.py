"""Networks without normalisation, [R3GAN (Huang et al., 2024)](https://arxiv.org/abs/2501.05441), for small pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_gan import R3GAN_EXPANSION, R3GAN_GROUP_SIZE, GANConfig, GANGeneratorConfig


class ScaledConv2d(nn.Conv2d):
    """A convolution that keeps its size and starts with weights of standard deviation `gain / sqrt(fan_in)`."""

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int = 1, *, groups: int = 1, bias: bool, gain: float = 1.0
    ):
        super().__init__(inputs, outputs, kernel_size, padding=kernel_size // 2, groups=groups, bias=bias)
        self.gain = gain


class R3GANBlock(nn.Module):
    r"""
    Adds 1x1, grouped 3x3 and 1x1 convolutions to its input, with leaky ReLUs between them.

    The last convolution starts at 0 and the others are scaled down by \\(L^{-1/4}\\) for \\(L\\) blocks in the network,
    so that without normalisation the variance does not grow with depth
    ([Fixup, Zhang et al., 2019](https://arxiv.org/abs/1901.09321)).
    """

    def __init__(self, width: int, num_blocks: int):
        super().__init__()
        hidden = width * R3GAN_EXPANSION
        gain = nn.init.calculate_gain("leaky_relu", 0.2) * num_blocks**-0.25
        groups = hidden // R3GAN_GROUP_SIZE
        self.expand = ScaledConv2d(width, hidden, bias=True, gain=gain)
        self.mix = ScaledConv2d(hidden, hidden, kernel_size=3, groups=groups, bias=True, gain=gain)
        self.reduce = ScaledConv2d(hidden, width, bias=False, gain=0.0)

    def forward(self, hidden: Tensor) -> Tensor:
        branch = F.leaky_relu(self.expand(hidden), 0.2)
        branch = F.leaky_relu(self.mix(branch), 0.2)
        return hidden + self.reduce(branch)


class BilinearUpsample(nn.Module):
    """Bilinear upsampling by 2, as fast as `interpolate`; unlike its gradient, this one is reproducible on CUDA."""

    def forward(self, hidden: Tensor) -> Tensor:
        for dim in (2, 3):
            size = hidden.shape[dim]
            before = torch.cat([hidden.narrow(dim, 0, 1), hidden.narrow(dim, 0, size - 1)], dim)
            after = torch.cat([hidden.narrow(dim, 1, size - 1), hidden.narrow(dim, size - 1, 1)], dim)
            hidden = torch.stack([hidden.lerp(before, 0.25), hidden.lerp(after, 0.25)], dim + 1).flatten(dim, dim + 1)
        return hidden


class R3GANGenerator(nn.Module):
    """`[B, input_dim]` to pictures before their tanh, `[B, C, H, W]`."""

    def __init__(self, config: GANGeneratorConfig, input_dim: int):
        super().__init__()
        widths = config.stage_widths(config.generator_channels)[::-1]
        num_blocks = len(widths) * config.blocks_per_stage
        self.project = nn.Linear(input_dim, widths[0], bias=False)
        # One learned basis picture for each channel.
        self.basis = nn.ConvTranspose2d(widths[0], widths[0], config.base_size, groups=widths[0], bias=False)
        layers = []
        for width, finer_width in zip(widths, [*widths[1:], None], strict=True):
            layers += [R3GANBlock(width, num_blocks) for _ in range(config.blocks_per_stage)]
            if finer_width is not None:
                layers += [ScaledConv2d(width, finer_width, bias=False), BilinearUpsample()]
        self.layers = nn.Sequential(*layers)
        self.to_pixels = ScaledConv2d(widths[-1], config.num_channels, bias=True)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.to_pixels(self.layers(self.basis(self.project(inputs)[:, :, None, None])))


class R3GANDiscriminator(nn.Module):
    """Pictures `[B, C, H, W]` to features `[B, num_features]`."""

    def __init__(self, config: GANConfig):
        super().__init__()
        widths = config.stage_widths(config.discriminator_channels)
        num_blocks = len(widths) * config.blocks_per_stage
        layers = [ScaledConv2d(config.num_channels, widths[0], bias=True)]
        for width, coarser_width in zip(widths, [*widths[1:], None], strict=True):
            layers += [R3GANBlock(width, num_blocks) for _ in range(config.blocks_per_stage)]
            if coarser_width is not None:
                layers += [nn.AvgPool2d(2), ScaledConv2d(width, coarser_width, bias=False)]
        self.num_features = widths[-1]
        self.layers = nn.Sequential(*layers)
        # One learned weighting of the positions for each channel.
        self.basis = nn.Conv2d(widths[-1], widths[-1], config.base_size, groups=widths[-1], bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.basis(self.layers(pixels)).flatten(1)
