"""What comparisons of all kinds note of themselves: whose folder it is, and what they ran on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState

from ..trainers.generative_config import GenerativeConfig
from ..trainers.hub_mixin import VERSIONS
from ..trainers.report import claim_comparison


RESULTS = "results.json"


def device_name(device: torch.device) -> str:
    """What models run on, in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"


@contextmanager
def claimed(folder: Path, common: GenerativeConfig, *others) -> Iterator[None]:
    """
    Notes what is compared in a folder, and takes the note back where what is planned inside is refused.

    Raises:
        `ValueError`: The folder holds another comparison, or a report that is none of this comparison.
    """
    note = folder / "runs" / "comparison.json"
    is_new = not note.is_file()
    if is_new and (folder / "report.html").exists():
        raise ValueError(f"'{folder / 'report.html'}' exists and is not this comparison's: choose another output_dir.")
    PartialState().wait_for_everyone()
    claim_comparison(common, *others)
    try:
        yield
    except ValueError:
        if is_new and PartialState().is_main_process:
            note.unlink()
            for place in (note.parent, folder):
                if not any(place.iterdir()):
                    place.rmdir()
        raise


def versions(*others: str) -> str:
    """The versions of the libraries that all comparisons use, and of others."""
    return ", ".join(f"{name} {version(name)}" for name in (*VERSIONS, *others))
