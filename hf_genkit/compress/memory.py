"""Peak memory of a saved model, taken in a process of its own: `python -m hf_genkit.compress.memory FOLDER CLASS SAMPLE`."""

import ctypes
import gc
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from .onnx_model import ONNX_NAME, load_onnx


logger = logging.getLogger(__name__)


def peak_memory(folder: str | Path, auto_class: str, sample: Mapping[str, torch.Tensor]) -> int | None:
    """
    How much memory loading a model and one pass take at most, beyond what the imported libraries take. On Linux.

    Args:
        folder (`str` or `Path`): A folder that `from_pretrained` loads, or one with an exported `model.onnx`.
        auto_class (`str`): The class of transformers that loads it.
        sample (mapping from `str` to `torch.Tensor`): Inputs of `forward`.

    Returns:
        `int` or `None`: Bytes of resident memory; `None` where it can't be taken, as on other systems than Linux.
    """
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "sample.safetensors"
        save_file({name: value.contiguous() for name, value in sample.items()}, path)
        command = [sys.executable, "-m", __name__, str(folder), auto_class, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        logger.warning(f"The peak memory of '{folder}' can't be taken: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {key}.")


def main(folder: str, auto_class: str, sample: str) -> None:
    torch.set_num_threads(1)
    inputs = load_file(sample)

    @torch.inference_mode()
    def load_and_run() -> None:
        if Path(folder, ONNX_NAME).is_file():
            model = load_onnx(folder, threads=1)
        else:
            model = getattr(transformers, auto_class).from_pretrained(folder)
        model.eval()(**inputs)

    load_and_run()  # imports what it needs
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    load_and_run()
    print(json.dumps(max(_status("VmHWM") - before, 0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
