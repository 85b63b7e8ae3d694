"""A report as one page of HTML that needs nothing else: no network, no other file."""

import base64
import re
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from .blocks import Picture, Report
from .charts import draw_chart, left_out
from .markdown import points_table, slug
from .public import public
from .tables import columns_of


TEMPLATES = Path(__file__).parent / "templates"
PNG = b"\x89PNG\r\n\x1a\n"


def render_html(report: Report, folder: str | Path) -> str:
    """
    Renders a report as a page that works opened from disk, in light and dark, and on a phone.

    Args:
        report ([`Report`]): What to render.
        folder (`str` or `Path`): Where the pictures' paths begin; they become a part of the page.

    Raises:
        `ValueError`: A picture is missing, is no PNG or lies outside the folder.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(inline=_inline, words=_words)
    environment.tests["list_item"] = lambda line: line.startswith("- ")
    return environment.get_template("report.html.jinja").render(
        report=public(report),
        anchors=_anchors(report),
        columns_of=columns_of,
        draw_chart=draw_chart,
        left_out=left_out,
        points_table=points_table,
        picture_of=partial(_embedded, Path(folder)),
        kind_of=lambda block: type(block).__name__,
    )


def _anchors(report: Report) -> list[str]:
    """An anchor for each section."""
    return [f"{number}-{slug(section.title)}" for number, section in enumerate(report.sections, 1)]


def _inline(text: str) -> Markup:
    """Plain text as HTML; `code` in backticks becomes code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _words(command: str) -> Markup:
    """A command whose lines are not broken within an option."""
    return Markup(re.sub(r"(\S+)", r"<span>\1</span>", str(escape(command.strip()))))


def _embedded(folder: Path, picture: Picture) -> dict:
    """A picture's data and size, and how many times a small one is enlarged."""
    path = folder / picture.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"The picture '{picture.path}' lies outside the report's folder '{folder}'.")
    if not path.is_file():
        raise ValueError(f"The picture '{picture.path}' is missing in the report's folder '{folder}'.")
    data = path.read_bytes()
    if not data.startswith(PNG):
        raise ValueError(f"The picture '{picture.path}' is no PNG.")
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    shown = width * max(1, 480 // width) if picture.pixelated else width
    return {
        "source": "data:image/png;base64," + base64.b64encode(data).decode(),
        "width": width,
        "height": height,
        "shown": shown,
        "wide": width > 2.2 * height,
    }
