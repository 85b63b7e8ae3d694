"""Fully connected networks for small pictures."""

from torch import Tensor, nn

from .configuration_gan import GANConfig, GANGeneratorConfig


def hidden_layer(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    layers = [nn.Linear(inputs, outputs)]
    if norm == "batch":
        layers.append(nn.BatchNorm1d(outputs))
    return nn.Sequential(*layers, nn.LeakyReLU(0.2))


class MLPGenerator(nn.Module):
    """`[B, input_dim]` to pictures before their tanh, `[B, C, H, W]`."""

    def __init__(self, config: GANGeneratorConfig, input_dim: int):
        super().__init__()
        width, norm = config.generator_channels, config.generator_norm
        self.picture_shape = (config.num_channels, config.image_size, config.image_size)
        self.layers = nn.Sequential(
            hidden_layer(input_dim, width, norm),
            hidden_layer(width, width, norm),
            nn.Linear(width, config.num_channels * config.image_size**2),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs).unflatten(1, self.picture_shape)


class MLPDiscriminator(nn.Module):
    """Pictures `[B, C, H, W]` to features `[B, num_features]`."""

    def __init__(self, config: GANConfig):
        super().__init__()
        self.num_features = config.discriminator_channels
        self.layers = nn.Sequential(
            nn.Flatten(),
            hidden_layer(config.num_channels * config.image_size**2, self.num_features, "none"),
            hidden_layer(self.num_features, self.num_features, config.discriminator_norm),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels)
