"""
One step of DDIM ([Song et al., 2020](https://huggingface.co/papers/2010.02502)), there and back: what teachers of few-step
models take.

A noisy picture is `x = alpha * x0 + sigma * noise`. Pictures are of shape `[N, C, H, W]`, `alpha` and `sigma` of shape
`[N, 1, 1, 1]`. Along the straight lines of a flow (`alpha = 1 - sigma`) a step is Euler's.
"""

import torch


CLEAN = {
    "epsilon": lambda output, x, alpha, sigma: (x - sigma * output) / alpha,
    "x0": lambda output, x, alpha, sigma: output,
    "v": lambda output, x, alpha, sigma: alpha * x - sigma * output,
    "flow": lambda output, x, alpha, sigma: x - sigma * output,
}


def predicted_clean(output, x, alpha, sigma, prediction_type: str) -> torch.Tensor:
    """`x0` of what a network gave for `x`, in float32; `prediction_type` is one of `CLEAN`."""
    return CLEAN[prediction_type](output.float(), x, alpha, sigma)


def ddim_step(clean, x, alpha, sigma, next_alpha, next_sigma) -> torch.Tensor:
    """The state at a lower level on the line through `x` and the `x0` that was predicted for it."""
    return next_alpha * clean + next_sigma / sigma * (x - alpha * clean)


def clean_for_step(state, x, alpha, sigma, next_alpha, next_sigma) -> torch.Tensor:
    """The `x0` with which one [`ddim_step`] leads from `x` to `state`."""
    ratio = next_sigma / sigma
    return (state - ratio * x) / (next_alpha - ratio * alpha)


def truncated_snr_weight(alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """
    `max(SNR, 1)` with `SNR = (alpha / sigma)^2`: the weight of an error of `x0` that lets no level go unlearned
    ([Salimans and Ho, 2022](https://huggingface.co/papers/2202.00512)).
    """
    return (alpha / sigma).square().clamp(min=1)


def pseudo_huber(error: torch.Tensor) -> torch.Tensor:
    """
    `sqrt(|e|^2 + c^2) - c` of each picture, with `c = 0.00054 sqrt(d)` for `d` values
    ([Song and Dhariwal, 2023](https://huggingface.co/papers/2310.14189)), divided by `sqrt(d)`: of shape `[N]`.
    """
    square, c = error.square().flatten(1).mean(1), 0.00054
    return (square + c**2).sqrt() - c
