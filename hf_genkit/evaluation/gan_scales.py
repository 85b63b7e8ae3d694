"""What a GAN's losses say about its discriminator: the scales on which logged losses are read."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import brentq


@dataclass(frozen=True)
class LossScale:
    """
    Reads the loss of a discriminator as a share of right answers.

    The loss is the mean of its term for real pictures and its term for generated ones, without penalties.

    Args:
        best_loss (`Callable[[float], float]`, *optional*):
            The lowest loss possible where what can be seen tells real from generated with the given probability, from
            0.5 (they look alike: the equilibrium) to 1 (never wrong). `None` for a loss without a lower bound.
        generator (`float`, *optional*):
            The generator's loss at the equilibrium; `None` where any value is possible.
        logit_sign (`bool`, *optional*, defaults to `True`):
            Whether the sign of a logit says "real" or "generated", so that an accuracy can be counted.
    """

    best_loss: Callable[[float], float] | None
    generator: float | None
    logit_sign: bool = True

    @property
    def equilibrium(self) -> float:
        """The discriminator's loss when real and generated pictures look alike."""
        return self.best_loss(0.5) if self.best_loss else 0.0

    @property
    def floor(self) -> float:
        """The discriminator's loss when it is never wrong."""
        return self.best_loss(1.0) if self.best_loss else -math.inf

    def accuracy(self, loss: float) -> float:
        """The share of right answers that a loss stands for: of the best discriminator with this loss, at least 0.5."""
        if loss >= self.equilibrium:
            return 0.5
        if loss <= self.floor:
            return 1.0
        return brentq(lambda accuracy: self.best_loss(accuracy) - loss, 0.5, 1.0)


def _entropy(p: float) -> float:
    return sum(-q * math.log(q) for q in (p, 1 - p) if q > 0)


def _relativistic(accuracy: float) -> float:
    """Pairs of a real and a generated picture: both speak for the truth, both against it, or they cancel."""
    right, wrong = accuracy**2, (1 - accuracy) ** 2
    return (right + wrong) * _entropy(right / (right + wrong)) + 2 * accuracy * (1 - accuracy) * math.log(2)


def _ganetic_minimum(real: float) -> tuple[float, float]:
    """
    The best probability p and the loss p^3 + sqrt(3.985 y / p) there, for pictures of which a share is real (y = 1)
    ([GANetic loss](https://arxiv.org/abs/2406.05023), without its tiny constants against division by zero).
    """
    p = (real * math.sqrt(3.985) / 6) ** (2 / 7)
    return p, p**3 + (real * math.sqrt(3.985 / p) if real else 0.0)


def _ganetic(accuracy: float) -> float:
    return (_ganetic_minimum(accuracy)[1] + _ganetic_minimum(1 - accuracy)[1]) / 2


_LN2 = math.log(2)
_GANETIC_HALF = _ganetic_minimum(0.5)[0]

# Keys and losses are those of `hf_genkit.losses.gan.GAN_LOSSES`; least squares has halved squares, targets 1 and 0.
GAN_SCALES = {
    "non_saturating": LossScale(_entropy, _LN2),
    "saturating": LossScale(_entropy, -_LN2),
    "least_squares": LossScale(lambda accuracy: accuracy * (1 - accuracy) / 2, 0.125, logit_sign=False),
    "hinge": LossScale(lambda accuracy: 2 * (1 - accuracy), None),
    "wgan": LossScale(None, None, logit_sign=False),
    "wgan_gp": LossScale(None, None, logit_sign=False),
    "relativistic": LossScale(_relativistic, _LN2, logit_sign=False),
    "ganetic": LossScale(_ganetic, _GANETIC_HALF**3 + math.sqrt(3.985 / _GANETIC_HALF)),
}
