"""Which noise levels a diffusion model is trained on: from one uniform number to alpha, sigma and the timestep."""

import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin

from ..arguments import check_choice
from ..losses.diffusion import PREDICTIONS
from ..pipelines import scheduler_kind


NOISE_SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}
DENSITIES = ["uniform", "logit_normal"]
PREDICTIONS_OF = {"vp": ["epsilon", "x0", "v"], "flow": ["flow"], "edm": ["edm"]}


def make_noise_scheduler(
    prediction_type: str = "epsilon",
    noise_schedule: str = "linear",
    *,
    num_train_timesteps: int = 1000,
    zero_terminal_snr: bool = False,
    clip_sample: bool = True,
    sigma_data: float = 0.5,
    flow_shift: float = 1.0,
) -> SchedulerMixin:
    """
    A scheduler of diffusers that adds noise as training shall.

    Args:
        prediction_type (`str`, *optional*, defaults to `"epsilon"`):
            What the network predicts: "epsilon", "x0" or "v" along one of the schedules, "flow" along straight lines, or
            "edm", preconditioned and without an end.
        noise_schedule (`str`, *optional*, defaults to `"linear"`):
            "linear", "scaled_linear", "cosine" or "sigmoid"; "flow" and "edm" have none.
        num_train_timesteps (`int`, *optional*, defaults to 1000):
            Levels of noise. (The betas of all schedules but the cosine are for 1000 and are scaled for other numbers.)
        zero_terminal_snr (`bool`, *optional*, defaults to `False`):
            Whether the last level is noise alone ([Lin et al., 2023](https://huggingface.co/papers/2305.08891)): without
            it a model can't draw pictures much darker or brighter than grey.
        clip_sample (`bool`, *optional*, defaults to `True`): Whether samplers keep `x0` in [-1, 1]: not for latents.
        sigma_data (`float`, *optional*, defaults to 0.5): Standard deviation of the data, for "edm".
        flow_shift (`float`, *optional*, defaults to 1.0): Above 1 more of the path is noisy, for "flow".

    Returns:
        `DDPMScheduler`, `FlowMatchEulerDiscreteScheduler` or `EDMEulerScheduler`.

    Raises:
        `ValueError`: A name is unknown, or zero terminal SNR meets the prediction of noise, which then says nothing.
    """
    check_choice("prediction_type", prediction_type, list(PREDICTIONS))
    check_choice("noise_schedule", noise_schedule, list(NOISE_SCHEDULES))
    if prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=num_train_timesteps, shift=flow_shift)
    if prediction_type == "edm":
        return EDMEulerScheduler(num_train_timesteps=num_train_timesteps, sigma_data=sigma_data)
    if zero_terminal_snr and prediction_type == "epsilon":
        raise ValueError(
            "`zero_terminal_snr` is true, but with `prediction_type` 'epsilon' the last level would teach nothing: "
            "predict 'v' or 'x0'."
        )
    scale = 1000 / num_train_timesteps
    return DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_start=1e-4 * scale,
        beta_end=min(0.02 * scale, 0.999),
        beta_schedule=NOISE_SCHEDULES[noise_schedule],
        prediction_type=PREDICTIONS[prediction_type].diffusers_name,
        rescale_betas_zero_snr=zero_terminal_snr,
        timestep_spacing="trailing",
        clip_sample=clip_sample,
    )


def prediction_of(scheduler: SchedulerMixin) -> str:
    """
    What a network that goes with a scheduler predicts: a key of [`~hf_genkit.losses.diffusion.PREDICTIONS`].

    Raises:
        `ValueError`: Nothing can be trained with it.
    """
    kind = scheduler_kind(scheduler)
    if kind == "edm" and scheduler.config.prediction_type != "epsilon":
        raise ValueError(
            f"The scheduler's prediction_type is '{scheduler.config.prediction_type}', but EDM's preconditioning is trained "
            "as 'epsilon', its default."
        )
    if kind != "vp":
        return kind
    names = {prediction.diffusers_name: name for name, prediction in PREDICTIONS.items() if name != "edm"}
    name = names[scheduler.config.prediction_type]
    if name == "epsilon" and scheduler.alphas_cumprod[-1] == 0:
        raise ValueError(
            "The scheduler has zero terminal SNR and predicts 'epsilon', but its last level would teach nothing: predict 'v' "
            "or 'x0'."
        )
    return name


class NoiseLevels:
    """
    The noise levels of a scheduler.

    Args:
        scheduler (`SchedulerMixin`): Any scheduler of diffusers that adds noise as training shall.
        density (`str`, *optional*, defaults to `"uniform"`):
            How the levels are distributed over the schedule: "uniform" or "logit_normal", more in the middle
            ([Esser et al., 2024](https://huggingface.co/papers/2403.03206)). EDM has its own.
        edm_mean, edm_std (`float`, *optional*, default to -1.2 and 1.2): Of the logarithm of EDM's sigma.
    """

    def __init__(self, scheduler, density: str = "uniform", *, edm_mean: float = -1.2, edm_std: float = 1.2):
        check_choice("timestep_density", density, DENSITIES)
        self.kind = scheduler_kind(scheduler)
        self.density, self.edm_mean, self.edm_std = density, edm_mean, edm_std
        self.num_timesteps = scheduler.config.num_train_timesteps
        if self.kind == "vp":
            self.alphas_cumprod = scheduler.alphas_cumprod
        if self.kind == "flow":
            self.shift = scheduler.config.get("shift", scheduler.config.get("flow_shift"))

    def __call__(self, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Levels for uniform numbers.

        Args:
            uniform (`torch.Tensor`): In [0, 1], of shape `[N]`.

        Returns:
            `tuple`: `alpha` and `sigma` of shape `[N, 1, 1, 1]`, and what the network is told: timesteps of shape `[N]`,
            whole numbers along a schedule, else real ones.
        """
        if self.kind == "edm":
            log_sigma = self.edm_mean + self.edm_std * _normal_quantile(uniform)
            sigma = log_sigma.exp()
            return torch.ones_like(sigma).view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1), 0.25 * log_sigma
        if self.density == "logit_normal":
            uniform = torch.sigmoid(_normal_quantile(uniform))
        if self.kind == "flow":
            sigma = self.shift * uniform / (1 + (self.shift - 1) * uniform)
            return (1 - sigma).view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1), sigma * self.num_timesteps
        timesteps = (uniform * self.num_timesteps).long().clamp(max=self.num_timesteps - 1)
        self.alphas_cumprod = self.alphas_cumprod.to(uniform.device)
        kept = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return kept.sqrt(), (1 - kept).sqrt(), timesteps

    def at(self, index: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Levels that a sampler with evenly spaced "trailing" timesteps visits.

        Args:
            index (`torch.Tensor`): How many steps are left, from 0 (the picture) to `steps` (noise): whole, `[N]`.
            steps (`int`): How many steps the sampler takes.

        Returns:
            `tuple`: As from a call with uniform numbers; the picture's `alpha` is 1, its `sigma` 0 and its timestep 0.
        """
        share = index.double() / steps
        if self.kind == "flow":
            sigma = (self.shift * share / (1 + (self.shift - 1) * share)).float()
            return (1 - sigma).view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1), sigma * self.num_timesteps
        timesteps = (share * self.num_timesteps).round().long() - 1
        self.alphas_cumprod = self.alphas_cumprod.to(index.device)
        kept = torch.where(timesteps < 0, 1.0, self.alphas_cumprod[timesteps]).view(-1, 1, 1, 1)
        return kept.sqrt(), (1 - kept).sqrt(), timesteps.clamp(min=0)


def _normal_quantile(uniform: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
