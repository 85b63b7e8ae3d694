"""Writing a report into a folder as HTML, Markdown and JSON, and reading it again."""

import json
import math
import os
import re
from dataclasses import asdict
from pathlib import Path

from .blocks import Block, Chart, Picture, Pictures, Report, Section, Series, Table, Text
from .charts import draw_chart
from .html import render_html
from .markdown import chart_files, render_markdown
from .public import public


KINDS = {"text": Text, "table": Table, "picture": Picture, "pictures": Pictures, "chart": Chart}


def write_report(report: Report, folder: str | Path, name: str = "report", overwrite: bool = False) -> Path:
    """
    Writes `<name>.html`, one page with everything in it; `<name>.md` for a card, with each chart as `<name>-*.svg`;
    and `<name>.json`, which [`read_report`] reads. Access tokens are removed from all texts, and local paths cut down
    to their last component. The same report gives the same bytes.

    Args:
        report ([`Report`]): What to write.
        folder (`str` or `Path`): Where to; the pictures' paths begin here.
        name (`str`, *optional*, defaults to `"report"`): The files' name without suffix.
        overwrite (`bool`, *optional*, defaults to `False`): Whether older files may be replaced.

    Returns:
        `Path`: The page.

    Raises:
        `ValueError`: One of the files exists and `overwrite` is not set, or a picture is missing, is no PNG or lies outside the
            folder. Nothing is written then.
    """
    folder, report = Path(folder), public(report)
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise ValueError(f"`name` is '{name}', but it must be a file's name without a folder.")
    texts = {file: draw_chart(chart, standalone=True) for file, chart in chart_files(report, name).items()}
    texts[f"{name}.json"] = json.dumps(_plain(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts[f"{name}.md"] = render_markdown(report, name)
    texts[f"{name}.html"] = render_html(report, folder)
    existing = [file for file in texts if (folder / file).exists()]
    if existing and not overwrite:
        raise ValueError(f"'{folder / existing[-1]}' exists: choose another name, or set overwrite to replace it.")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = {file: folder / f".{file}.{os.getpid()}" for file in texts}
    try:
        for file, path in unfinished.items():
            path.write_text(texts[file], encoding="utf-8", newline="\n")
        for file, path in unfinished.items():
            path.replace(folder / file)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)
    return folder / f"{name}.html"


def read_report(folder: str | Path, name: str = "report") -> Report:
    """
    The report that [`write_report`] wrote.

    Raises:
        `ValueError`: There is no `<name>.json`, or it is no report.
    """
    path = Path(folder, f"{name}.json")
    if not path.is_file():
        raise ValueError(f"There is no report in '{folder}': {path.name} is missing.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        sections = [Section(section["title"], list(map(_block, section["blocks"]))) for section in found["sections"]]
        return Report(**found | {"sections": sections})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is no report that hf_genkit wrote ({type(error).__name__}: {error}).") from error


def _plain(report: Report) -> dict:
    """A report as JSON can hold it: each block with its kind, numbers that are not finite as texts."""
    found = _finite(asdict(report))
    names = {block: kind for kind, block in KINDS.items()}
    for section, plain in zip(report.sections, found["sections"], strict=True):
        plain["blocks"] = [
            {"block": names[type(block)]} | values
            for block, values in zip(section.blocks, plain["blocks"], strict=True)
        ]
    return found


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _block(values: dict) -> Block:
    kind = KINDS[values.pop("block")]
    if kind is Pictures:
        values["pictures"] = [Picture(**picture) for picture in values["pictures"]]
    if kind is Chart:
        values["series"] = [_series(series) for series in values["series"]]
    return kind(**values)


def _series(values: dict) -> Series:
    points = [(_number(x), _number(y)) for x, y in values["points"]]
    ends = {name: list(map(_number, values[name])) for name in ("low", "high")}
    return Series(**values | ends | {"points": points})


def _number(value: float | str) -> float:
    return float(value) if isinstance(value, str) else value
