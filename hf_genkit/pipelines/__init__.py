"""Pipelines that draw pictures with diffusion and flow models, and samplers for them."""

from .loading import load_pipeline
from .pipeline_image_diffusion import (
    ClassConditionalPipeline,
    ImageDiffusionPipeline,
    ImageToImagePipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
)
from .samplers import SAMPLERS, make_sampler, scheduler_kind, speed_up


__all__ = [
    "SAMPLERS",
    "ClassConditionalPipeline",
    "ImageDiffusionPipeline",
    "ImageToImagePipeline",
    "InpaintingPipeline",
    "SuperResolutionPipeline",
    "TextToImagePipeline",
    "UnconditionalPipeline",
    "load_pipeline",
    "make_sampler",
    "scheduler_kind",
    "speed_up",
]
