"""The pipeline that does a task with whatever model is there."""

import diffusers
from diffusers import DiffusionPipeline

from . import pipeline_image_diffusion
from .pipeline_image_diffusion import (
    ImageDiffusionPipeline,
    ImageToImagePipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    UnconditionalPipeline,
)


TASKS = {"inpainting": InpaintingPipeline, "image-to-image": ImageToImagePipeline}
STOCK = ("DDPMPipeline", "DDIMPipeline")


def load_pipeline(name: str, task: str | None = None, **kwargs) -> DiffusionPipeline:
    """
    Loads a pipeline from the Hub or a folder, without running code that came with it.

    Args:
        name (`str`): Hub id or local folder.
        task (`str`, *optional*):
            "inpainting" or "image-to-image" for another use of the model than it was saved for. (To make pictures of
            pictures is what a model that enlarges is saved for.)
        kwargs: Passed to `from_pretrained`.

    Returns:
        `DiffusionPipeline`: One of `hf_genkit.pipelines` for models that were saved by one of these or by diffusers'
        `DDPMPipeline` and `DDIMPipeline`; else the pipeline of diffusers that was saved.

    Raises:
        `ValueError`: The task is unknown, or the pipeline is another one of diffusers and a task is named; or its class
            is not to be had.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"`task` is '{task}', but it must be one of {', '.join(TASKS)}.")
    saved = DiffusionPipeline.load_config(name, **{k: kwargs[k] for k in ("revision", "token") if k in kwargs})
    saved = saved["_class_name"]
    saved = saved if isinstance(saved, str) else saved[1]
    known = {each.__name__: each for each in vars(pipeline_image_diffusion).values() if _is_pipeline(each)}
    known |= dict.fromkeys(STOCK, UnconditionalPipeline)
    if saved in known:
        enlarges = known[saved] is SuperResolutionPipeline
        if enlarges and task == "inpainting":
            raise ValueError(f"'{name}' enlarges pictures and can't be used for inpainting.")
        return (known[saved] if enlarges else TASKS.get(task, known[saved])).from_pretrained(name, **kwargs)
    if task is not None:
        raise ValueError(f"'{name}' is a {saved}: {task} is for models of {', '.join(known)}.")
    if saved not in dir(diffusers):
        raise ValueError(f"'{name}' is a {saved}, which neither hf_genkit nor diffusers has.")
    return getattr(diffusers, saved).from_pretrained(name, **kwargs)


def _is_pipeline(value) -> bool:
    return isinstance(value, type) and issubclass(value, ImageDiffusionPipeline)
