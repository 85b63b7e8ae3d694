"""The two networks of a GAN: an architecture, and what makes it conditional."""

import torch
from torch import Tensor, nn

from .configuration_gan import GANConfig, GANGeneratorConfig
from .dcgan_gan import DCGANDiscriminator, DCGANGenerator
from .mlp_gan import MLPDiscriminator, MLPGenerator
from .r3gan_gan import R3GANDiscriminator, R3GANGenerator
from .resnet_gan import ResNetDiscriminator, ResNetGenerator


GENERATORS = {"mlp": MLPGenerator, "dcgan": DCGANGenerator, "resnet": ResNetGenerator, "r3gan": R3GANGenerator}
DISCRIMINATORS = {
    "mlp": MLPDiscriminator,
    "dcgan": DCGANDiscriminator,
    "resnet": ResNetDiscriminator,
    "r3gan": R3GANDiscriminator,
}


class Generator(nn.Module):
    """Latents `[B, latent_dim]`, and labels `[B]` whose embedding is joined to them, to pixels in [-1, 1]."""

    def __init__(self, config: GANGeneratorConfig):
        super().__init__()
        self.num_labels, input_dim = config.num_labels, config.latent_dim
        if self.num_labels:
            label_dim = min(config.num_labels, config.latent_dim)
            self.label_embedding = nn.Embedding(config.num_labels, label_dim)
            input_dim += label_dim
        self.network = GENERATORS[config.architecture](config, input_dim)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.num_labels:
            latents = torch.cat([latents, self.label_embedding(labels)], dim=1)
        return self.network(latents).tanh()


class Discriminator(nn.Module):
    """
    Pixels `[B, C, H, W]` and labels `[B]` to logits `[B]`, high for real ones. Labels enter as a projection, the inner
    product of the features with one vector for each class
    ([Miyato and Koyama, 2018](https://arxiv.org/abs/1802.05637)).
    """

    def __init__(self, config: GANConfig):
        super().__init__()
        self.num_labels = config.num_labels
        self.network = DISCRIMINATORS[config.architecture](config)
        self.score = nn.Linear(self.network.num_features, 1)
        if self.num_labels:
            self.projection = nn.Linear(self.network.num_features, config.num_labels, bias=False)

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.network(pixels)
        logits = self.score(features)
        if self.num_labels:
            logits = logits + self.projection(features).gather(1, labels[:, None])
        return logits.squeeze(1)
