"""Other samplers for a trained model, and a faster network."""

import inspect

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from .pipeline_image_diffusion import ImageDiffusionPipeline


SAMPLERS = {
    "vp": {
        "ddpm": diffusers.DDPMScheduler,
        "ddim": diffusers.DDIMScheduler,
        "dpm++": diffusers.DPMSolverMultistepScheduler,
        "unipc": diffusers.UniPCMultistepScheduler,
        "lcm": diffusers.LCMScheduler,
    },
    "flow": {
        "euler": diffusers.FlowMatchEulerDiscreteScheduler,
        "dpm++": diffusers.DPMSolverMultistepScheduler,
        "unipc": diffusers.UniPCMultistepScheduler,
    },
    "edm": {
        "euler": diffusers.EDMEulerScheduler,
        "dpm++": diffusers.EDMDPMSolverMultistepScheduler,
    },
}


def scheduler_kind(scheduler: SchedulerMixin) -> str:
    """
    What a model with this scheduler was trained on: `"vp"` (a variance-preserving diffusion with betas), `"flow"` or
    `"edm"`.

    Raises:
        `ValueError`: It is none of these.
    """
    if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler) or scheduler.config.get("use_flow_sigmas"):
        return "flow"
    if isinstance(scheduler, tuple(SAMPLERS["edm"].values())):
        return "edm"
    if "beta_schedule" in scheduler.config:
        return "vp"
    raise ValueError(f"{type(scheduler).__name__} is of no kind that has samplers here: {', '.join(SAMPLERS)}.")


def make_sampler(scheduler: SchedulerMixin, name: str, **options) -> SchedulerMixin:
    """
    A scheduler that samples the same model in another way.

    Args:
        scheduler (`SchedulerMixin`): The model's. Its schedule, prediction type and so on are kept; of a diffusion
            model's also what the other scheduler doesn't know, such as its clipping, so that the way back loses
            nothing. Diffusion models are sampled with "trailing" timesteps, which begin at the last one.
        name (`str`):
            `"ddpm"` (stochastic; 250 steps and more), `"ddim"` (50), `"dpm++"` or `"unipc"` (10 to 25) for diffusion
            models, `"lcm"` (1 to 8) for consistency models among them; `"euler"`, `"dpm++"` or `"unipc"` for flow models;
            `"euler"` or `"dpm++"` for EDM models.
        options: Options of the new scheduler that are not to follow from the model's.

    Raises:
        `ValueError`: The model has no such sampler.

    Example:

    ```python
    >>> pipeline.scheduler = make_sampler(pipeline.scheduler, "dpm++")
    ```
    """
    kind = scheduler_kind(scheduler)
    if name not in SAMPLERS[kind]:
        raise ValueError(f"`name` is {name!r}, but samplers of a {kind} model are {', '.join(SAMPLERS[kind])}.")
    changes = {}
    if kind == "vp":
        changes = {"timestep_spacing": "trailing"}
    elif kind == "flow":
        euler = isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
        shift = scheduler.shift if euler else scheduler.config.flow_shift
        if name == "euler":
            changes = {"shift": shift}
        else:
            changes = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
    scheduler_class = SAMPLERS[kind][name]
    names = inspect.signature(scheduler_class).parameters
    made = scheduler_class(
        **{name: value for name, value in scheduler.config.items() if name in names} | changes | options
    )
    if kind == "vp":
        made.register_to_config(**{name: value for name, value in scheduler.config.items() if name not in names})
    return made


def speed_up(
    pipeline: DiffusionPipeline, *, bf16: bool = False, channels_last: bool = False, compile: bool = False
) -> DiffusionPipeline:
    """
    Makes the network of a pipeline faster, in place. On a CPU with bfloat16 instructions `bf16` draws 1.6 times as fast
    with a UNet of 3 million parameters (`benchmarks/ddpm_speed.py`); `compile` pays in runs over about 15 minutes there.

    Args:
        pipeline ([`ImageDiffusionPipeline`]): Its state and the scheduler's arithmetic stay float32. A stock pipeline
            is taken, too, unless with `bf16`.
        bf16 (`bool`, *optional*, defaults to `False`): Runs the network in bfloat16; the VAE, called once for a
            picture, is left in float32.
        channels_last (`bool`, *optional*, defaults to `False`): Memory format of the network and the VAE. It is slower
            on a CPU where groups of the normalisation have fewer than 16 channels.
        compile (`bool`, *optional*, defaults to `False`): Compiles the network at its first call.

    Raises:
        `ValueError`: `bf16` for a stock pipeline.
    """
    if bf16 and not isinstance(pipeline, ImageDiffusionPipeline):
        raise ValueError(
            f"A {type(pipeline).__name__} keeps its state in the network's dtype, and bfloat16 loses small steps; "
            "make it one of ours first, such as UnconditionalPipeline.from_pipe(pipeline)."
        )
    if bf16:
        torch.nn.Module.to(pipeline.unet, torch.bfloat16)  # diffusers' own `to` warns of an empty list
    if channels_last:
        for module in pipeline.components.values():
            if isinstance(module, torch.nn.Module):
                module.to(memory_format=torch.channels_last)
    if compile:
        pipeline.unet.compile()
    return pipeline
