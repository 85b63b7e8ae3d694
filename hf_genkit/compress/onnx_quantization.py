"""int8 for ONNX files, by onnxruntime's own quantizer."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch


MATRICES = ("MatMul", "Gemm", "Gather")


class CalibrationReader:
    """
    Gives onnxruntime's calibration one batch after the other.

    Args:
        batches (iterable of mappings from `str` to `torch.Tensor`): The batches.
        names (sequence of `str`): The graph's inputs; whatever else a batch has is left out.
    """

    def __init__(self, batches: Iterable[Mapping[str, torch.Tensor]], names: list[str]):
        self.batches: Iterator = iter(batches)
        self.names = names

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return batch and {name: batch[name].cpu().numpy() for name in self.names}


def quantize_onnx(path: Path, method: str, calibration: Iterable[Mapping[str, torch.Tensor]] | None = None) -> None:
    """
    Replaces an ONNX file by one in int8: weights with a scale a channel, activations in 0 to 255.

    Args:
        path (`Path`): The file, whose metadata stay.
        method (`str`): `"dynamic"`, matrix products and embeddings; or `"static"`, which has convolutions as well.
        calibration (iterable of mappings from `str` to `torch.Tensor`, *optional*):
            Batches of inputs, for `"static"`.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    metadata = onnx.load(path, load_external_data=False)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        if method == "dynamic":
            quantize_dynamic(prepared, path, MATRICES, per_channel=True, weight_type=QuantType.QInt8)
        else:
            quantize_static(
                prepared,
                path,
                CalibrationReader(calibration, [value.name for value in metadata.graph.input]),
                op_types_to_quantize=[*MATRICES, "Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
    quantized = onnx.load(path)
    quantized.metadata_props.clear()
    quantized.metadata_props.extend(metadata.metadata_props)
    onnx.save(quantized, path)
