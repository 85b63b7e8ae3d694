"""Writing a matplotlib figure in one go."""

import os
from pathlib import Path


def save_figure(figure, path: str | Path) -> None:
    """
    Writes a figure so that `path` holds either the whole picture or what was there before.

    Args:
        figure (`matplotlib.figure.Figure`): What to write.
        path (`str` or `Path`): The file; its suffix says the format.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
