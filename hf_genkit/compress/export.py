"""Models for runtimes without PyTorch: ONNX, in float32 or int8, checked against the model they came from."""

import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import nn
from transformers import PreTrainedModel

from ..arguments.checks import check_choice
from .onnx_model import ONNX_NAME, OUTPUT_KEY, PARAMETERS_KEY, OnnxModel, import_onnxruntime
from .onnx_quantization import quantize_onnx
from .quantization import check_not_quantized


Inputs = Mapping[str, torch.Tensor]


def export_onnx(
    model: PreTrainedModel | ModelMixin,
    folder: str | Path,
    example_inputs: Inputs,
    *,
    output: str = "logits",
    processor=None,
    int8: str | None = None,
    calibration: Iterable[Inputs] | None = None,
    tolerance: float = 1e-4,
) -> dict:
    """
    Writes `model.onnx`, with the configuration and the processor beside it, after checking that onnxruntime computes
    what PyTorch computes on the example, on its first sample, on twice as many samples and, where there are tokens, on
    half their length. The file has no local paths in it.

    With `int8="dynamic"` matrix products and embeddings have int8 weights, a scale a channel, and activations are
    quantized as they come, while convolutions stay in float32; this is what makes transformers faster on a CPU core and
    4 times smaller. With
    `int8="static"` the range of every activation is fixed beforehand, on the `calibration` data, and convolutions are
    quantized too, which CNNs need; transformers usually lose more by it than by "dynamic". What int8 changes is
    reported, and that is for you to judge: nothing is refused for it. Both need a CPU with VNNI instructions to be fast
    and exact; older ones saturate.

    Args:
        model (`~transformers.PreTrainedModel` or `~diffusers.ModelMixin`):
            The model, in full precision. It is left as it is.
        folder (`str` or `Path`):
            Where to write; other files in it stay.
        example_inputs (mapping from `str` to `torch.Tensor` of shape `[batch, ...]`):
            Real inputs of `forward`, one or more samples. The first axis of all and the second of integer ones (the
            tokens) may differ later, the others not. `labels` (-100 is none) are not an input: with them the report has
            accuracies.
        output (`str`, *optional*, defaults to `"logits"`):
            The field of the model's output to export, such as `"sample"` for a UNet.
        processor (*optional*):
            A tokenizer or image processor to save beside the model.
        int8 (`str`, *optional*):
            `"dynamic"`, `"static"` or none.
        calibration (iterable of mappings like `example_inputs`, *optional*):
            Batches of training data for `int8="static"`, such as a `DataLoader` of a few hundred samples.
        tolerance (`float`, *optional*, defaults to 1e-4):
            How far the float32 outputs may be apart, as a share of the largest output.

    Returns:
        `dict`:

        | key               | type    | meaning                                                                             |
        |-------------------|---------|-------------------------------------------------------------------------------------|
        | `size_bytes`      | `int`   | size of `model.onnx`                                                                |
        | `difference`      | `float` | largest difference of float32 ONNX to PyTorch, as a share of the largest output     |
        | `int8_difference` | `float` | the same of int8 to PyTorch, on the example; with `int8` only                       |
        | `int8_agreement`  | `float` | share of predictions (largest logits) that int8 leaves alike; with `int8` and logits |
        | `accuracy`        | `float` | PyTorch's accuracy on the example; with `labels` only                               |
        | `int8_accuracy`   | `float` | that of int8; with `int8` and `labels`                                              |

    Raises:
        `ValueError`: The model is quantized already, has no such output, can't be exported, or the outputs differ by
            more than the tolerance; or `int8` and `calibration` don't fit each other. Nothing is written then.
        `ImportError`: onnx, onnxscript or onnxruntime is not installed.

    Example:

    ```python
    >>> batch = tokenizer(texts, padding=True, return_tensors="pt")
    >>> export_onnx(model, "exported", batch, processor=tokenizer, int8="dynamic")["int8_agreement"]
    >>> load_onnx("exported")(**batch).logits
    ```
    """
    if int8 is not None:
        check_choice("int8", int8, ["dynamic", "static"])
    if (int8 == "static") != (calibration is not None):
        raise ValueError('`calibration` must be given with `int8="static"` and with nothing else.')
    check_not_quantized(model)
    import_onnxruntime()
    inputs = {name: value.to(model.device) for name, value in example_inputs.items() if name != "labels"}
    was_training = model.training
    try:
        check_output(model.eval(), inputs, output)
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / ONNX_NAME
            _write_onnx(model, path, inputs, output)
            report = {"difference": _check_outputs(model, OnnxModel(made), inputs, output, tolerance)}
            if int8 is not None:
                quantize_onnx(path, int8, calibration)
            report |= _compare(model, OnnxModel(made), inputs, output, example_inputs.get("labels"), int8)
            write_companions(model, processor, made)
            shutil.copytree(made, folder, dirs_exist_ok=True)
            return {"size_bytes": path.stat().st_size} | report
    finally:
        model.train(was_training)


class Positional(nn.Module):
    """A model with its inputs in order and one tensor as its output."""

    def __init__(self, model: nn.Module, names: Iterable[str], output: str):
        super().__init__()
        self.model, self.names, self.output = model, names, output

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True)))[self.output]


@torch.no_grad()
def check_output(model: nn.Module, inputs: Inputs, output: str) -> None:
    """Raises a `ValueError` that names the model's outputs if `output` is none of them."""
    check_choice("output", output, [*model(**inputs)])


def _write_onnx(model: nn.Module, path: Path, inputs: Inputs, output: str) -> None:
    try:
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise ImportError('Exporting needs onnx and onnxscript: pip install "hf-genkit[onnx]"') from error
    # PyTorch would take an axis of length 1 for a constant.
    twice = [torch.cat([value, value]) for value in inputs.values()]
    axes = tuple({0: "batch", 1: "tokens"} if _has_tokens(value) else {0: "batch"} for value in twice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about PyTorch's own code
            program = torch.onnx.export(
                Positional(model, [*inputs], output).eval(),
                tuple(twice),
                dynamo=True,
                dynamic_shapes=(axes,),
                input_names=[*inputs],
                output_names=["output" if output in inputs else output],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"The {type(model).__name__} can't be exported with the inputs {', '.join(inputs)}:"
            f" {first_line(error.__cause__ or error)}"
        ) from error
    ClearMetadataAndDocStringPass()(program.model)  # the stack traces in it name local files
    program.model.metadata_props.update({PARAMETERS_KEY: str(model.num_parameters()), OUTPUT_KEY: output})
    program.save(path)


def _has_tokens(value: torch.Tensor) -> bool:
    return value.ndim == 2 and not value.is_floating_point()


def _check_outputs(model: nn.Module, exported: OnnxModel, inputs: Inputs, output: str, tolerance: float) -> float:
    half = {name: value[:, : (value.shape[1] + 1) // 2] for name, value in inputs.items() if _has_tokens(value)}
    if "attention_mask" in half:  # with padding on the left, a half may be padding alone
        half["attention_mask"] = torch.ones_like(half["attention_mask"])
    shapes = {
        "the example": inputs,
        "its first sample": {name: value[:1] for name, value in inputs.items()},
        "twice as many samples": {name: torch.cat([value, value]) for name, value in inputs.items()},
        "half its length": {**inputs, **half},
    }
    differences = []
    for shape, values in shapes.items():
        differences.append(difference(exported(**values)[output], run(model, values, output)))
        if not differences[-1] <= tolerance:
            raise ValueError(
                f"The exported {type(model).__name__} differs from PyTorch's by {differences[-1]:.2g} of the largest"
                f" output on {shape}, but the tolerance is {tolerance:g}."
            )
    return max(differences)


@torch.no_grad()
def run(model: nn.Module, inputs: Inputs, output: str) -> torch.Tensor:
    return model(**inputs)[output].cpu().float()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _compare(
    model: nn.Module, exported: OnnxModel, inputs: Inputs, output: str, labels: torch.Tensor | None, int8: str | None
) -> dict:
    expected, found = run(model, inputs, output), exported(**inputs)[output]
    report = {}
    if int8 is not None:
        report["int8_difference"] = difference(found, expected)
    if output != "logits":
        return report
    valid = torch.ones(expected.shape[:-1], dtype=torch.bool) if labels is None else labels.cpu() != -100
    expected, found = expected.argmax(-1)[valid], found.argmax(-1)[valid]
    if int8 is not None:
        report["int8_agreement"] = (found == expected).float().mean().item()
    if labels is not None:
        labels = labels.cpu()[valid]
        report["accuracy"] = (expected == labels).float().mean().item()
        if int8 is not None:
            report["int8_accuracy"] = (found == labels).float().mean().item()
    return report


def write_companions(model: PreTrainedModel | ModelMixin, processor, folder: str) -> None:
    if isinstance(model, PreTrainedModel):
        model.config.save_pretrained(folder)
    else:
        model.save_config(folder)
    if processor is not None:
        processor.save_pretrained(folder)


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
