r"""Adversarial losses: pure functions from the discriminator's logits to one value per item.

Every entry of [`GAN_LOSSES`] holds two functions,

    discriminator(real_logits, fake_logits) -> [B]        generator(fake_logits, real_logits=None) -> [B]

on logits `[B]`, high for "real", \\(r = D(x)\\) and \\(f = D(G(z))\\), in any float type; computed in float32, float64
stays. Values are those of the papers, so the discriminator's is the sum of a real and a fake term where there are two.
Divide it by `num_terms` to log it: for the standard losses, a discriminator that can't tell the two apart then reads
ln 2, as in `discriminator_equilibrium`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .classification import upcast


GANETIC_SCALE, GANETIC_EPSILON = 3.985, 1e-7


@dataclass(frozen=True)
class GANLoss:
    """
    A pair of losses, and what a trainer has to know to use it.

    Args:
        discriminator (`Callable`): `(real_logits, fake_logits)` to the discriminator's loss `[B]`, to be minimised.
        generator (`Callable`): `(fake_logits, real_logits)` to the generator's loss `[B]`, to be minimised.
        description (`str`): One line on what it is.
        num_terms (`int`, *optional*, defaults to 2): How many terms the discriminator's loss sums.
        needs_real_in_generator (`bool`, *optional*, defaults to `False`): Whether the generator's loss reads
            `real_logits`.
        weight_clip (`float`, *optional*): Bound on the size of the discriminator's weights, from the paper.
        gradient_penalty (`float`, *optional*, defaults to 0.0): Weight of the penalty
            [`~losses.gan_regularizers.gradient_penalty`], from the paper.
        boundary (`float`, *optional*, defaults to 0.0): The logit from which on a picture counts as real; `None` where
            scores have no level, so that only their differences count.
        generator_equilibrium (`float`, *optional*): The generator's loss where real and generated pictures can't be
            told apart; `None` if any value is possible there.
        discriminator_equilibrium (`float`, *optional*): The same of the discriminator's loss divided by `num_terms`.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    description: str
    num_terms: int = 2
    needs_real_in_generator: bool = False
    weight_clip: float | None = None
    gradient_penalty: float = 0.0
    boundary: float | None = 0.0
    generator_equilibrium: float | None = None
    discriminator_equilibrium: float | None = None


def logistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""
    Cross-entropy \\(-\ln \sigma(r) - \ln(1 - \sigma(f))\\) of
    [Goodfellow et al. (2014)](https://arxiv.org/abs/1406.2661), the discriminator's side of the non-saturating and of
    the saturating loss.
    """
    real, fake = _pair(real_logits, fake_logits)
    return F.softplus(-real) + F.softplus(fake)


def non_saturating_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    r"""
    \\(-\ln \sigma(f)\\), [Goodfellow et al. (2014)](https://arxiv.org/abs/1406.2661): the standard loss. Its gradient
    is strong where the discriminator is sure, so a generator that lags behind can catch up.

    Use [`least_squares_generator`] or a Wasserstein loss instead when the discriminator runs ahead all the same,
    [`relativistic_generator`] with R1 and R2 penalties for a new network.
    """
    return F.softplus(-upcast(fake_logits))


def saturating_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    r"""
    \\(\ln(1 - \sigma(f))\\), the minimax game of [Goodfellow et al. (2014)](https://arxiv.org/abs/1406.2661). Its
    gradient vanishes where the discriminator is sure: for study. Use [`non_saturating_generator`] to train.
    """
    return -F.softplus(upcast(fake_logits))


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""
    \\(\frac{1}{2} (r - 1)^2 + \frac{1}{2} f^2\\), [LSGAN (Mao et al., 2017)](https://arxiv.org/abs/1611.04076) with
    targets 1 and 0.
    """
    real, fake = _pair(real_logits, fake_logits)
    return 0.5 * (real - 1).square() + 0.5 * fake.square()


def least_squares_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    r"""
    \\(\frac{1}{2} (f - 1)^2\\), [LSGAN (Mao et al., 2017)](https://arxiv.org/abs/1611.04076): pulls also on pictures
    that the discriminator already takes for real, so the gradient does not vanish.

    Use [`non_saturating_generator`] instead when logits grow so large that the squares rule the batch.
    """
    return 0.5 * (upcast(fake_logits) - 1).square()


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""
    \\(\max(0, 1 - r) + \max(0, 1 + f)\\), [Lim and Ye (2017)](https://arxiv.org/abs/1705.02894): does not push what
    is already on its side of the margin. Use it with spectral normalisation.
    """
    real, fake = _pair(real_logits, fake_logits)
    return F.relu(1 - real) + F.relu(1 + fake)


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""
    \\(f - r\\), [WGAN (Arjovsky et al., 2017)](https://arxiv.org/abs/1701.07875): minus an estimate of the
    earth mover's distance, up to a factor, if the discriminator's slope is bounded, by clipped weights (`wgan`) or by
    the gradient penalty of [Gulrajani et al. (2017)](https://arxiv.org/abs/1704.00028) (`wgan_gp`, the better one).
    Take several discriminator steps for each of the generator.
    """
    real, fake = _pair(real_logits, fake_logits)
    return fake - real


def wasserstein_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    r"""
    \\(-f\\), the generator's side of [WGAN](https://arxiv.org/abs/1701.07875) and of the hinge loss. The gradient does
    not depend on how sure the discriminator is.
    """
    return -upcast(fake_logits)


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""
    \\(-\ln \sigma(r - f)\\), [relativistic pairing (Jolicoeur-Martineau, 2018)](https://arxiv.org/abs/1807.00734): each
    real picture should score higher than the generated one at the same position of the batch. One term, not two.
    With R1 and R2 penalties it converges, as [R3GAN (Huang et al., 2024)](https://arxiv.org/abs/2501.05441) shows.
    """
    real, fake = _pair(real_logits, fake_logits)
    return F.softplus(fake - real)


def relativistic_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    r"""
    \\(-\ln \sigma(f - r)\\), the generator's side of [`relativistic_discriminator`]; needs the scores of real pictures.
    Against dropped modes: every real picture is a yardstick of its own.
    """
    return relativistic_discriminator(fake_logits, real_logits)


def ganetic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""
    \\(L(\sigma(r), 1) + L(\sigma(f), 0)\\) with
    \\(L(p, y) = p^3 + \sqrt{|3.985\, y / (p + \epsilon)| + \epsilon}\\), the loss that genetic programming found in
    [GANetic (2024)](https://arxiv.org/abs/2406.05023), for each item alone.

    For \\(y = 1\\) it is least at \\(p = 0.73\\), so it smooths the real labels; for \\(y = 0\\) its gradient fades as
    \\(p^3\\). Small spread between runs is what it is for.
    """
    real, fake = _pair(real_logits, fake_logits)
    return _ganetic(real, 1.0) + _ganetic(fake, 0.0)


def ganetic_generator(fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    r"""\\(L(\sigma(f), 1)\\), see [`ganetic_discriminator`]: least where generated pictures score 0.73, not 1."""
    return _ganetic(upcast(fake_logits), 1.0)


def _ganetic(logits: Tensor, target: float) -> Tensor:
    p = logits.sigmoid()
    return p**3 + (GANETIC_SCALE * target / (p + GANETIC_EPSILON) + GANETIC_EPSILON).sqrt()


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape:
        raise ValueError(
            f"Logits of shape {tuple(first.shape)} and {tuple(second.shape)} can't be paired: they must agree."
        )
    return upcast(first), upcast(second)


LN2 = math.log(2)
# Where real and generated pictures score alike, GANetic's discriminator minimises 2 p^3 + sqrt(3.985 / p).
GANETIC_BALANCE = (math.sqrt(GANETIC_SCALE) / 12) ** (2 / 7)
GANETIC_REAL_TERM = GANETIC_BALANCE**3 + math.sqrt(GANETIC_SCALE / GANETIC_BALANCE)

GAN_LOSSES: dict[str, GANLoss] = {
    "non_saturating": GANLoss(
        logistic_discriminator,
        non_saturating_generator,
        "cross-entropy; the generator maximises the log-probability of being taken for real",
        generator_equilibrium=LN2,
        discriminator_equilibrium=LN2,
    ),
    "saturating": GANLoss(
        logistic_discriminator,
        saturating_generator,
        "cross-entropy as a minimax game; the generator's gradient vanishes when it loses",
        generator_equilibrium=-LN2,
        discriminator_equilibrium=LN2,
    ),
    "least_squares": GANLoss(
        least_squares_discriminator,
        least_squares_generator,
        "squared distance of the scores to 1 and 0",
        boundary=0.5,
        generator_equilibrium=0.125,
        discriminator_equilibrium=0.125,
    ),
    "hinge": GANLoss(
        hinge_discriminator,
        wasserstein_generator,
        "margin of 1 on either side; for spectral normalisation",
        discriminator_equilibrium=1.0,
    ),
    "wgan": GANLoss(
        wasserstein_discriminator,
        wasserstein_generator,
        "earth mover's distance with clipped weights",
        weight_clip=0.01,
        boundary=None,
        discriminator_equilibrium=0.0,
    ),
    "wgan_gp": GANLoss(
        wasserstein_discriminator,
        wasserstein_generator,
        "earth mover's distance with a gradient penalty",
        gradient_penalty=10.0,
        boundary=None,
        discriminator_equilibrium=0.0,
    ),
    "relativistic": GANLoss(
        relativistic_discriminator,
        relativistic_generator,
        "cross-entropy on the difference of paired real and generated scores; for R1 and R2 penalties",
        num_terms=1,
        boundary=None,
        needs_real_in_generator=True,
        generator_equilibrium=LN2,
        discriminator_equilibrium=LN2,
    ),
    "ganetic": GANLoss(
        ganetic_discriminator,
        ganetic_generator,
        "found by genetic programming; smooths the real labels",
        generator_equilibrium=GANETIC_REAL_TERM,
        discriminator_equilibrium=(GANETIC_REAL_TERM + GANETIC_BALANCE**3 + math.sqrt(GANETIC_EPSILON)) / 2,
    ),
}
