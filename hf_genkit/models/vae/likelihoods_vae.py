"""Likelihoods p(x | z) of a variational autoencoder: what the decoder's outputs say of the pixels."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_vae import VAEConfig


class Likelihood(nn.Module):
    """
    A distribution of pictures given latents.

    `log_prob` takes the decoder's `outputs` (batch, samples, pixels) and `pixel_values` (batch, pixels) in [-1, 1],
    and gives log p(x | z) in nats, summed over pixels: (batch, samples). `mean` turns `outputs` into the expected
    picture, element by element.
    """

    def __init__(self, config: VAEConfig):
        super().__init__()


class Bernoulli(Likelihood):
    """Black or white pixels; `outputs` are logits of white. Grey values x are taken as probabilities (x + 1) / 2."""

    def log_prob(self, outputs: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        # The product with the picture is a matrix product, which leaves one pass over the logits.
        return bilinear(outputs, (pixel_values + 1) / 2) - F.softplus(outputs).sum(-1)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        return 2 * torch.sigmoid(outputs) - 1


class ContinuousBernoulli(Likelihood):
    """A density of (x + 1) / 2 on [0, 1] (Loaiza-Ganem and Cunningham, 2019); `outputs` are its logits."""

    def log_prob(self, outputs: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        # The integral of exp(x logit) over [0, 1] is exp(h) sinh(h) / h with h = logit / 2.
        half = outputs.abs() / 2
        small = half < 0.1
        safe = torch.where(small, 1.0, half)
        log_sinhc = torch.where(
            small, half**2 / 6 - half**4 / 180, safe + torch.log(-torch.expm1(-2 * safe) / (2 * safe))
        )
        # With the picture's x / 2 = (x + 1) / 2 - 1 / 2, the factor exp(h) cancels.
        return bilinear(outputs, pixel_values / 2) - log_sinhc.sum(-1)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        small = outputs.abs() < 0.2
        safe = torch.where(small, 1.0, outputs)
        # 2 E - 1 with E = 1 / (1 - exp(-logit)) - 1 / logit, and its series around 0.
        return torch.where(small, outputs / 6 - outputs**3 / 360, 1 / torch.tanh(safe / 2) - 2 / safe)


class Gaussian(Likelihood):
    """A density of x with mean `outputs` and one standard deviation: fixed, learned, or optimal for each picture."""

    def __init__(self, config: VAEConfig):
        super().__init__(config)
        self.kind, self.least, self.bounded = config.sigma, config.sigma_min, config.bounded
        if self.kind == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("log_scale", torch.zeros(()))

    def log_sigma(self) -> torch.Tensor:
        """Logarithm of the fixed or learned standard deviation, a scalar."""
        return floored(self.log_scale, self.least) if self.kind == "learned" else self.log_scale

    def log_prob(self, outputs: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        pixels = outputs.shape[-1]
        squares = (outputs - pixel_values[:, None]).square().sum(-1)
        if self.kind == "optimal":
            log_variance = (squares / pixels).clamp(min=self.least**2).log()
        else:
            log_variance = 2 * self.log_sigma()
        return -(squares * torch.exp(-log_variance) + pixels * (log_variance + math.log(2 * math.pi))) / 2

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.clamp(-1, 1) if self.bounded else outputs


class DiscretizedLogistic(Likelihood):
    """
    Probabilities of 256 grey levels (Kingma et al., 2016): the logistic distribution with mean `outputs` and one
    learned scale, integrated over each level's interval; the first and the last reach to infinity.
    """

    def __init__(self, config: VAEConfig):
        super().__init__(config)
        self.least = config.sigma_min
        self.log_scale = nn.Parameter(torch.zeros(()))

    def log_prob(self, outputs: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        scale = floored(self.log_scale, self.least).exp()
        pixel_values = pixel_values[:, None]
        upper = (pixel_values + 1 / 255 - outputs) / scale
        lower = (pixel_values - 1 / 255 - outputs) / scale
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), and u - l is the same for all pixels.
        log_cdf, log_survival = F.logsigmoid(upper), F.logsigmoid(-lower)
        inside = log_cdf + log_survival + torch.log(-torch.expm1(-2 / 255 / scale))
        log_prob = torch.where(pixel_values < -1 + 1 / 255, log_cdf, inside)
        return torch.where(pixel_values > 1 - 1 / 255, log_survival, log_prob).sum(-1)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.clamp(-1, 1)


LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "discretized_logistic": DiscretizedLogistic,
    "gaussian": Gaussian,
}


def bilinear(outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sums over pixels of `outputs` (batch, samples, pixels) times `weights` (batch, pixels): (batch, samples)."""
    return torch.bmm(outputs, weights[:, :, None]).squeeze(-1)


def floored(log_scale: torch.Tensor, least: float) -> torch.Tensor:
    """`log_scale` with a smooth floor at log `least`, so that its gradient doesn't vanish there."""
    return math.log(least) + F.softplus(log_scale - math.log(least))
