"""The layers of a VAE against what they stand for."""

import torch
from torch import nn

from hf_genkit.models.vae import VAEConfig, VAEModel
from hf_genkit.models.vae.networks_vae import GatedLinear, SubpixelConv2d, UnflattenChannelsLast, fan_in


def test_the_last_convolution_is_a_transposed_one():
    transposed = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1)
    layer = SubpixelConv2d(3, 2)
    for row in range(2):
        for column in range(2):
            # Each of the four output pixels sees every other row and column of the 4x4 kernel, in reverse.
            kernel = transposed.weight.data[:, :, row::2, column::2].flip(2, 3).transpose(0, 1)
            layer.weight.data.unflatten(0, (2, 4))[:, 2 * row + column] = kernel
    layer.bias.data = transposed.bias.data.repeat_interleave(4)
    hidden = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(layer(hidden), transposed(hidden))


def test_a_gated_layer_is_a_product_with_a_sigmoid():
    layer, hidden = GatedLinear(3, 5), torch.randn(2, 3)
    (w, v), (b, c) = layer.linear.weight.chunk(2), layer.linear.bias.chunk(2)
    torch.testing.assert_close(layer(hidden), (hidden @ w.T + b) * torch.sigmoid(hidden @ v.T + c))


def test_the_gated_network_is_that_of_the_literature():
    config = VAEConfig(architecture="mlp", hidden_sizes=[300, 300], gated=True, latent_dim=40)
    layers = [(784, 600), (300, 600), (300, 80), (40, 600), (300, 600), (300, 784)]
    expected = sum(a * b + b for a, b in layers)
    assert sum(parameter.numel() for parameter in VAEModel(config).parameters()) == expected


def test_unflattening_is_channels_last():
    hidden = UnflattenChannelsLast(3, 2)(torch.randn(4, 12))
    assert hidden.shape == (4, 3, 2, 2)
    assert hidden.is_contiguous(memory_format=torch.channels_last)


def test_each_output_of_a_transposed_convolution_adds_up_a_quarter_of_the_kernel():
    assert fan_in(nn.ConvTranspose2d(8, 2, 4, stride=2, padding=1)) == 8 * 4
    assert fan_in(nn.Conv2d(8, 2, 4)) == 8 * 16
    assert fan_in(nn.Linear(8, 2)) == 8


def test_an_exploding_log_variance_leaves_the_loss_finite():
    model = VAEModel(VAEConfig(image_size=8, latent_dim=2))
    model.encoder.head.bias.data.fill_(1e4)
    mean, log_variance = model.encode(torch.zeros(1, 1, 8, 8))
    assert mean.min() > 1e3
    assert log_variance.max() == 10
    assert torch.isfinite(model(torch.zeros(1, 1, 8, 8)).loss)
