"""What a model costs: parameters, bytes on disk, time for one sample."""

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel


WEIGHTS = (".safetensors", ".onnx")


def measure_efficiency(
    model: PreTrainedModel,
    example_inputs: Mapping[str, torch.Tensor],
    repeats: int = 50,
    warmup: int = 5,
    size_bytes: int | None = None,
) -> dict:
    """
    Counts a model's parameters and bytes and times its forward pass on one sample, in evaluation mode.

    Latencies compare models that were measured on one machine, under one load; where it matters, measure in turns.

    Args:
        model (`~transformers.PreTrainedModel` or `~hf_genkit.compress.OnnxModel`):
            The model, quantized or not, on the device to measure. Its training mode is restored.
        example_inputs (mapping from `str` to `torch.Tensor` of shape `[batch, ...]`):
            Inputs of `forward`; the first sample is used.
        repeats (`int`, *optional*, defaults to 50):
            Number of timed passes.
        warmup (`int`, *optional*, defaults to 5):
            Number of passes before them that are not timed.
        size_bytes (`int`, *optional*):
            Bytes of the model's files where they are known; it is saved to find them out otherwise, which not every
            quantized model can be that was loaded.

    Returns:
        `dict`:

        | key              | type             | meaning                                                               |
        |------------------|------------------|-----------------------------------------------------------------------|
        | `parameters`     | `int`            | number of parameters, tied ones counted once, in any number of bits   |
        | `size_bytes`     | `int`            | size of the safetensors or ONNX files that `save_pretrained` writes   |
        | `latency_ms`     | `float`          | median time of a pass, in milliseconds                                |
        | `latency_ms_iqr` | `(float, float)` | quartiles of the times: half of them lie in between                   |
        | `repeats`        | `int`            | number of timed passes                                                |
        | `threads`        | `int`            | PyTorch's threads on the CPU                                          |
        | `device`         | `str`            | type of the device, or the name of the GPU                            |

    Raises:
        `ValueError`: if `repeats` is below 2.
    """
    if repeats < 2:
        raise ValueError(f"repeats must be at least 2 to show a spread, got {repeats}.")
    sample = {name: value[:1].to(model.device) for name, value in example_inputs.items()}
    milliseconds = _time_forward(model, sample, repeats, warmup)
    lower, median, upper = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return {
        "parameters": model.num_parameters(),
        "size_bytes": _size_on_disk(model) if size_bytes is None else size_bytes,
        "latency_ms": median,
        "latency_ms_iqr": (lower, upper),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type,
    }


@torch.inference_mode()
def _time_forward(model: PreTrainedModel, sample: dict[str, torch.Tensor], repeats: int, warmup: int) -> list[float]:
    was_training, on_cpu = model.training, model.device.type == "cpu"
    milliseconds = []
    model.eval()
    for _ in range(warmup + repeats):
        start = time.perf_counter()
        model(**sample)
        if not on_cpu:
            torch.accelerator.synchronize()
        milliseconds.append(1000 * (time.perf_counter() - start))
    model.train(was_training)
    return milliseconds[warmup:]


def _size_on_disk(model: PreTrainedModel) -> int:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).iterdir() if file.suffix in WEIGHTS)
