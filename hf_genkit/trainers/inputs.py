"""From a batch to what one model reads of it: student and teacher may want other names, sizes and pixels."""

import inspect
from collections.abc import Callable, Mapping

import torch
from transformers.image_processing_utils import BaseImageProcessor

from ..data import prepare_pixels


def argument_names(forward: Callable) -> set[str]:
    """The named arguments of a model's `forward`, without `labels`."""
    parameters = inspect.signature(forward).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {p.name for p in parameters if p.kind not in variable} - {"labels"}


def student_inputs(inputs: Mapping[str, torch.Tensor], names: set[str]) -> dict[str, torch.Tensor]:
    """The inputs that the student reads: those among its [`argument_names`]; an empty set takes every own input."""
    own = {name: value for name, value in inputs.items() if not name.startswith("teacher_")}
    return {name: value for name, value in own.items() if not names or name in names}


def own_of_teacher(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What of a batch is made for the teacher alone, without its prefix; empty if it reads what the student reads."""
    return {name.removeprefix("teacher_"): value for name, value in inputs.items() if name.startswith("teacher_")}


def teacher_inputs(inputs: Mapping[str, torch.Tensor], names: set[str]) -> dict[str, torch.Tensor]:
    """
    The inputs that the teacher reads.

    Args:
        inputs (`Mapping[str, torch.Tensor]`):
            A batch. Where it has inputs made for the teacher, such as `teacher_input_ids`, those count, without their
            prefix.
        names (`set[str]`): The teacher's [`argument_names`]; an empty set takes every input.
    """
    inputs = own_of_teacher(inputs) or {name: value for name, value in inputs.items() if name != "labels"}
    return {name: value for name, value in inputs.items() if not names or name in names}


def with_float_pixels(
    inputs: dict[str, torch.Tensor], processor: BaseImageProcessor | None
) -> dict[str, torch.Tensor]:
    """
    The inputs with uint8 `pixel_values` resized and normalised, on the device they are on.

    Args:
        inputs (`dict[str, torch.Tensor]`): Model inputs; floating-point pixels are left as they are.
        processor (`BaseImageProcessor`, *optional*): How the model wants its pixels.

    Raises:
        `ValueError`: The pixels are uint8 and there is no processor.
    """
    pixels = inputs.get("pixel_values")
    if pixels is None or pixels.dtype != torch.uint8:
        return inputs
    if processor is None:
        raise ValueError("uint8 pixel_values need an image processor to normalise them: pass it as processing_class.")
    return {**inputs, "pixel_values": prepare_pixels(pixels, processor)}
