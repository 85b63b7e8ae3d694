"""Models for phones and small devices, through ExecuTorch."""

import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import ModelMixin
from transformers import PreTrainedModel

from .export import Inputs, Positional, check_output, difference, run, write_companions
from .quantization import check_not_quantized


EXECUTORCH_NAME = "model.pte"


def export_executorch(
    model: PreTrainedModel | ModelMixin,
    folder: str | Path,
    example_inputs: Inputs,
    *,
    output: str = "logits",
    processor=None,
    tolerance: float = 1e-4,
) -> dict:
    """
    Writes `model.pte`, which takes one sample of exactly the example's shape and runs on XNNPACK's kernels for the CPUs of
    phones, with the configuration and the processor beside it, after checking that ExecuTorch's runtime computes what
    PyTorch computes. Texts have to be padded to the example's length.

    Args:
        model (`~transformers.PreTrainedModel` or `~diffusers.ModelMixin`):
            The model on the CPU, in full precision. It is left as it is.
        folder (`str` or `Path`):
            Where to write; other files in it stay.
        example_inputs (mapping from `str` to `torch.Tensor` of shape `[batch, ...]`):
            Real inputs of `forward`, in the order in which `model.pte` will take them. The first sample is used.
        output (`str`, *optional*, defaults to `"logits"`):
            The field of the model's output to export.
        processor (*optional*):
            A tokenizer or image processor to save beside the model.
        tolerance (`float`, *optional*, defaults to 1e-4):
            How far the outputs may be apart, as a share of the largest output.

    Returns:
        `dict`: `size_bytes` of `model.pte` (`int`), and `difference` (`float`), the largest one as a share of the largest
        output.

    Raises:
        `ValueError`: The model is quantized already or has no such output, or the outputs differ by more than the tolerance.
        `ImportError`: executorch, or one of the packages it needs, is not installed.
    """
    check_not_quantized(model)
    inputs = {name: value[:1] for name, value in example_inputs.items()}
    was_training = model.training
    try:
        check_output(model.eval(), inputs, output)
        partitioner, lower, runtime = _import_executorch()
        wrapped = Positional(model, [*inputs], output).eval()
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / EXECUTORCH_NAME
            program = torch.export.export(wrapped, tuple(inputs.values()))
            path.write_bytes(lower(program, partitioner=[partitioner()]).to_executorch().buffer)
            method = runtime.get().load_program(path).load_method("forward")
            apart = difference(method.execute(tuple(inputs.values()))[0], run(model, inputs, output))
            if not apart <= tolerance:
                raise ValueError(
                    f"The exported {type(model).__name__} differs from PyTorch's by {apart:.2g} of the largest output,"
                    f" but the tolerance is {tolerance:g}."
                )
            write_companions(model, processor, made)
            shutil.copytree(made, folder, dirs_exist_ok=True)
            return {"size_bytes": path.stat().st_size, "difference": apart}
    finally:
        model.train(was_training)


def _import_executorch() -> tuple:
    """What of executorch an export takes: a partitioner, the lowering and the runtime."""
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime
    except ImportError as error:
        raise ImportError(f'This export needs executorch ({error}): pip install "hf-genkit[executorch]"') from error
    return XnnpackPartitioner, to_edge_transform_and_lower, Runtime
