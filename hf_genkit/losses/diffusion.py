"""
What a diffusion model predicts, and how much each noise level counts.

A noisy picture is `x = alpha * x0 + sigma * noise`. All functions take `x0` and `noise` of shape `[N, C, H, W]` and
`alpha`, `sigma` of shape `[N, 1, 1, 1]`.

| Prediction | Target | An error `e` of it moves `x0` by | Use it |
|---|---|---|---|
| `epsilon` | `noise` | `sigma / alpha * e` | as DDPM does ([Ho et al., 2020](https://huggingface.co/papers/2006.11239)); not with zero terminal SNR |
| `x0` | `x0` | `e` | where few steps are taken |
| `v` | `alpha * noise - sigma * x0` | `sigma * e` | the safe choice ([Salimans and Ho, 2022](https://huggingface.co/papers/2202.00512)) |
| `flow` | `noise - x0` | `sigma * e` | with `alpha = 1 - sigma` ([Liu et al., 2023](https://huggingface.co/papers/2209.03003)) |
| `edm` | `(x0 - c_skip * x) / c_out` | `c_out * e` | with `alpha = 1`, preconditioned ([Karras et al., 2022](https://huggingface.co/papers/2206.00364)) |
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Prediction:
    """
    What the network's output means.

    Args:
        diffusers_name (`str`): The `prediction_type` of diffusers' schedulers.
        target (`Callable`): `(x0, noise, alpha, sigma, sigma_data)` to what the output shall be, `[N, C, H, W]`.
        scale (`Callable`): `(alpha, sigma, sigma_data)` to how far an error of 1 moves `x0`, `[N, 1, 1, 1]`.
    """

    diffusers_name: str
    target: Callable[..., torch.Tensor]
    scale: Callable[..., torch.Tensor]


def edm_coefficients(sigma: torch.Tensor, sigma_data: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """EDM's `c_skip`, `c_out` and `c_in`: `x0 = c_skip * x + c_out * network(c_in * x)`, with `x = x0 + sigma * noise`."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total**0.5, total**-0.5


def _edm_target(x0, noise, alpha, sigma, sigma_data):
    c_skip, c_out, _ = edm_coefficients(sigma, sigma_data)
    return (x0 - c_skip * (x0 + sigma * noise)) / c_out


PREDICTIONS: dict[str, Prediction] = {
    "epsilon": Prediction("epsilon", lambda x0, noise, alpha, sigma, _: noise, lambda alpha, sigma, _: sigma / alpha),
    "x0": Prediction("sample", lambda x0, noise, alpha, sigma, _: x0, lambda alpha, sigma, _: torch.ones_like(sigma)),
    "v": Prediction(
        "v_prediction",
        lambda x0, noise, alpha, sigma, _: alpha * noise - sigma * x0,
        lambda alpha, sigma, _: sigma,
    ),
    "flow": Prediction(
        "flow_prediction", lambda x0, noise, alpha, sigma, _: noise - x0, lambda alpha, sigma, _: sigma
    ),
    "edm": Prediction("epsilon", _edm_target, lambda alpha, sigma, sigma_data: edm_coefficients(sigma, sigma_data)[1]),
}


def min_snr_weight(alpha: torch.Tensor, sigma: torch.Tensor, scale: torch.Tensor, gamma: float) -> torch.Tensor:
    """
    The weight of min-SNR-gamma ([Hang et al., 2023](https://huggingface.co/papers/2303.09556)): in terms of `x0` it is
    `min(SNR, gamma)` with `SNR = (alpha / sigma)^2`, whatever is predicted. That makes `min(SNR, gamma) / SNR` for
    `epsilon` and `min(SNR, gamma) / (SNR + 1)` for `v`.

    Args:
        alpha, sigma (`torch.Tensor`): Of shape `[N, 1, 1, 1]`.
        scale (`torch.Tensor`): The prediction's scale, of the same shape.
        gamma (`float`): The largest weight.
    """
    return (alpha / sigma).square().clamp(max=gamma) * scale.square()


WEIGHTINGS: dict[str, Callable[..., torch.Tensor]] = {
    "none": lambda alpha, sigma, scale, gamma: torch.ones_like(sigma),
    "min_snr": min_snr_weight,
}


def diffusion_loss(
    output: torch.Tensor,
    x0: torch.Tensor,
    noise: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
    *,
    prediction_type: str,
    weighting: str = "none",
    gamma: float = 5.0,
    sigma_data: float = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The squared error of what the network predicted, for each picture.

    Args:
        output (`torch.Tensor`): What the network gave, `[N, C, H, W]`.
        x0, noise (`torch.Tensor`): The picture and the noise, of the same shape, of type `float32`.
        alpha, sigma (`torch.Tensor`): `[N, 1, 1, 1]`.
        prediction_type (`str`): A key of `PREDICTIONS`.
        weighting (`str`, *optional*, defaults to `"none"`): A key of `WEIGHTINGS`.
        gamma (`float`, *optional*, defaults to 5.0): Of min-SNR.
        sigma_data (`float`, *optional*, defaults to 0.5): Standard deviation of the data, for `"edm"`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: Weighted and plain loss, both `[N]`: means over a picture's values.
    """
    prediction = PREDICTIONS[prediction_type]
    error = output.float() - prediction.target(x0, noise, alpha, sigma, sigma_data)
    plain = error.square().flatten(1).mean(1)
    scale = prediction.scale(alpha, sigma, sigma_data)
    return plain * WEIGHTINGS[weighting](alpha, sigma, scale, gamma).flatten(), plain
