"""Strided 4x4 convolutions, [DCGAN (Radford et al., 2016)](https://arxiv.org/abs/1511.06434)."""

from torch import Tensor, nn

from .configuration_gan import GANConfig, GANGeneratorConfig


def norm_layer(channels: int, norm: str) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


class DCGANGenerator(nn.Module):
    """`[B, input_dim]` to pictures before their tanh, `[B, C, H, W]`."""

    def __init__(self, config: GANGeneratorConfig, input_dim: int):
        super().__init__()
        *finer, coarsest = config.stage_widths(config.generator_channels)
        self.first_shape = (coarsest, config.base_size, config.base_size)
        self.project = nn.Linear(input_dim, coarsest * config.base_size**2)
        layers = [norm_layer(coarsest, config.generator_norm), nn.ReLU()]
        width = coarsest
        for finer_width in reversed(finer[1:]):
            layers += [
                nn.ConvTranspose2d(width, finer_width, kernel_size=4, stride=2, padding=1),
                norm_layer(finer_width, config.generator_norm),
                nn.ReLU(),
            ]
            width = finer_width
        layers.append(nn.ConvTranspose2d(width, config.num_channels, kernel_size=4, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(self.project(inputs).unflatten(1, self.first_shape))


class DCGANDiscriminator(nn.Module):
    """Pictures `[B, C, H, W]` to features `[B, num_features]`; the first layer has no batch norm, as in the paper."""

    def __init__(self, config: GANConfig):
        super().__init__()
        layers, width, norm = [], config.num_channels, "none"
        for coarser_width in config.stage_widths(config.discriminator_channels)[1:]:
            layers += [
                nn.Conv2d(width, coarser_width, kernel_size=4, stride=2, padding=1),
                norm_layer(coarser_width, norm),
                nn.LeakyReLU(0.2),
            ]
            width, norm = coarser_width, config.discriminator_norm
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.num_features = width * config.base_size**2

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels)
