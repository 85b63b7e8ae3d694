"""
Training state as safetensors and JSON: what a checkpoint holds beside the model, without a pickle.

A state is a tree of dictionaries, lists, tuples, numbers, strings and tensors. `name.json` holds the tree and
`name.safetensors` its tensors, so a checkpoint can be shared and loaded without running anybody's code.
"""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file


FILE_LIST = "files.json"


def save_state(folder: str | Path, name: str, state: Any) -> None:
    """
    Writes a state as `name.json` and, where it holds tensors, `name.safetensors`.

    Args:
        folder (`str` or `Path`): An existing folder.
        name (`str`): The files' common name, without an ending.
        state (`Any`): Dictionaries (any plain keys), lists, tuples, numbers, strings, `None` and tensors, nested.

    Raises:
        `TypeError`: The state holds something else, such as a function.
    """
    tensors: dict[str, torch.Tensor] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            key = str(len(tensors))
            tensors[key] = value.detach().cpu().contiguous().clone()
            return {"tensor": key}
        if isinstance(value, dict):
            return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
        if isinstance(value, tuple):
            return {"tuple": [encode(v) for v in value]}
        if isinstance(value, list):
            return [encode(v) for v in value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"`{name}` holds a {type(value).__name__}, which can't be saved as JSON or safetensors.")

    Path(folder, f"{name}.json").write_text(json.dumps(encode(state)), encoding="utf-8")
    if tensors:
        save_file(tensors, Path(folder, f"{name}.safetensors"))


def load_state(folder: str | Path, name: str) -> Any:
    """Reads what [`save_state`] wrote, tensors on the CPU."""
    path = Path(folder, f"{name}.safetensors")
    tensors = load_file(path) if path.is_file() else {}

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(v) for v in value]
        if isinstance(value, dict):
            if "tensor" in value:
                return tensors[value["tensor"]]
            if "tuple" in value:
                return tuple(decode(v) for v in value["tuple"])
            return {decode(k): decode(v) for k, v in value["dict"]}
        return value

    return decode(json.loads(Path(folder, f"{name}.json").read_text(encoding="utf-8")))


def rng_state() -> dict:
    """The state of Python's, NumPy's and torch's global generators (every GPU's included)."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, cached),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    """Puts the global generators where [`rng_state`] found them; a GPU that was not there then keeps its own."""
    random.setstate(state["python"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.random.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Leaves the global generators as it found them."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def is_trainer_state(name: str) -> bool:
    """Whether a checkpoint's file may be shared: JSON or safetensors, which nothing is unpickled from."""
    return name.endswith((".json", ".safetensors"))


def seal(checkpoint: str | Path) -> None:
    """Lists a finished checkpoint's JSON and safetensors in `files.json`, which [`is_whole`] goes by."""
    names = sorted(path.name for path in Path(checkpoint).iterdir() if is_trainer_state(path.name))
    Path(checkpoint, FILE_LIST).write_text(json.dumps(names), encoding="utf-8")


def is_whole(checkpoint: str | Path) -> bool:
    """
    Whether every file of a checkpoint is there and complete: a save that was cut short leaves one that is not. Of a
    checkpoint that [`~transformers.Trainer`] itself wrote, and that has no list, its last file must be there.
    """
    folder = Path(checkpoint)
    try:
        listed = folder / FILE_LIST
        names = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else ["trainer_state.json"]
        if not all((folder / name).exists() for name in names):
            return False
        for path in folder.glob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """The `checkpoint-N` folder that was saved last among those that a resume can read, or `None`."""
    whole = [path for path in _by_time(output_dir) if is_whole(path)]
    return str(whole[-1]) if whole else None


def rotate(output_dir: str | Path, limit: int | None, best: str | None) -> None:
    """
    Deletes the oldest checkpoints beyond a limit. The newest stays, and so does the best.

    Args:
        output_dir (`str` or `Path`): The folder of the checkpoints.
        limit (`int`, *optional*): How many to keep; `None` keeps all.
        best (`str`, *optional*): The best one's folder.
    """
    folders = _by_time(output_dir)
    excess = len(folders) - limit if limit else 0
    for folder in [path for path in folders[:-1] if str(path) != best][: max(excess, 0)]:
        shutil.rmtree(folder)


def _by_time(output_dir: str | Path) -> list[Path]:
    """The finished checkpoints, oldest first: a shorter run after a longer one has the lower numbers."""
    states = Path(output_dir).glob("checkpoint-*/trainer_state.json")
    return [state.parent for state in sorted(states, key=lambda state: state.stat().st_mtime_ns)]
