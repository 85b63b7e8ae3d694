"""A model that onnxruntime computes, called like the PyTorch model it came from."""

import shutil
from pathlib import Path

import torch
from torch import nn
from transformers.modeling_outputs import ModelOutput


ONNX_NAME = "model.onnx"
PARAMETERS_KEY, OUTPUT_KEY = "parameters", "output"
"""Keys of the file's metadata: the number of parameters, and the field that the one output is in PyTorch."""


class OnnxModel(nn.Module):
    """
    An exported model on the CPU; see [`load_onnx`]. Called with the inputs of the PyTorch model as keywords, it returns a
    `ModelOutput` with the output that was exported, such as `logits`; inputs that the graph lacks, such as `labels`, are
    left out. It can be evaluated with a `Trainer` and measured with [`~hf_genkit.evaluation.measure_efficiency`], but not
    trained.

    Args:
        folder (`str` or `Path`): A folder that [`export_onnx`] wrote.
        threads (`int`, *optional*): Threads of a pass; PyTorch's number by default.
    """

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__()
        onnxruntime = import_onnxruntime()
        self.folder = Path(folder)
        if not (self.folder / ONNX_NAME).is_file():
            raise ValueError(f"`folder` is '{folder}', which has no {ONNX_NAME}: `export_onnx` writes one.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(self.folder / ONNX_NAME, options, ["CPUExecutionProvider"])
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.device = torch.device("cpu")
        self.eval()

    def forward(self, **inputs: torch.Tensor) -> ModelOutput:
        feeds = {name: inputs[name].cpu().numpy() for name in self.input_names}
        (output,) = self.session.run(None, feeds)
        return ModelOutput({self.metadata[OUTPUT_KEY]: torch.from_numpy(output)})

    def num_parameters(self) -> int:
        """Number of parameters of the model that was exported."""
        return int(self.metadata[PARAMETERS_KEY])

    def save_pretrained(self, folder: str | Path) -> None:
        """Copies the exported model's files."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def load_onnx(folder: str | Path, threads: int | None = None) -> OnnxModel:
    """
    Loads a model that [`export_onnx`] wrote, for the CPU.

    Args:
        folder (`str` or `Path`): The folder.
        threads (`int`, *optional*): Threads of a pass; PyTorch's number by default.

    Returns:
        [`OnnxModel`]: called like the PyTorch model.

    Raises:
        `ValueError`: The folder has no exported model.
        `ImportError`: onnxruntime is not installed.

    Example:

    ```python
    >>> model = load_onnx("exported", threads=1)
    >>> model(**tokenizer("A fine film.", return_tensors="pt")).logits
    ```
    """
    return OnnxModel(folder, threads)


def import_onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('ONNX needs onnxruntime: pip install "hf-genkit[onnx]"') from error
    return onnxruntime
