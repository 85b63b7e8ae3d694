"""A report as Markdown, for a model card or a pull request."""

import re
from collections.abc import Iterator
from urllib.parse import quote

from .blocks import Block, Chart, Picture, Pictures, Report, Table, Text
from .charts import left_out
from .public import public
from .tables import columns_of


ARROWS = {"high": " ↑", "low": " ↓", None: ""}


def render_markdown(report: Report, name: str | None = None) -> str:
    """
    Renders a report as Markdown that GitHub and the Hub show.

    Args:
        report ([`Report`]): What to render.
        name (`str`, *optional*):
            What [`write_report`] was called with, to show each chart as the picture that it wrote; without it a chart
            is the table of its points alone.
    """
    report = public(report)
    files = {id(chart): file for file, chart in chart_files(report, name or "").items()} if name else {}
    parts = [f"# {_inline(report.title)}", *map(_inline, report.summary)]
    if report.facts:
        parts.append("\n".join(f"- **{_inline(key)}**: {_inline(value)}" for key, value in report.facts.items()))
    parts += _command(report.command)
    for section in report.sections:
        parts.append(f"## {_inline(section.title)}")
        for block in section.blocks:
            parts += _block(block, files.get(id(block)))
    return "\n\n".join(parts) + "\n"


def chart_files(report: Report, name: str) -> dict[str, Chart]:
    """The file that each chart of a report is written to."""
    charts = [block for section in report.sections for block in section.blocks if isinstance(block, Chart)]
    files: dict[str, Chart] = {}
    for chart in charts:
        file = f"{name}-{slug(chart.title)}.svg"
        files[f"{name}-{slug(chart.title)}-{len(files) + 1}.svg" if file in files else file] = chart
    return files


def slug(title: str) -> str:
    """A title as a part of a file's name or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "untitled"


def _block(block: Block, file: str | None) -> Iterator[str]:
    if isinstance(block, Text):
        yield from _paragraphs(block)
        return
    yield f"### {_inline(block.title)}"
    if isinstance(block, Table):
        yield _table(block)
    elif isinstance(block, Picture):
        yield _picture(block)
    elif isinstance(block, Pictures):
        for picture in block.pictures:
            yield f"{_inline(picture.title)}\n\n{_picture(picture)}"
            yield from _below(picture)
    elif isinstance(block, Chart):
        if file is not None:
            yield f"![{_inline(block.title)}]({quote(file)})"
        if note := left_out(block):
            yield f"*{_inline(note)}*"
        points = _table(points_table(block))
        yield f"<details><summary>The numbers of this chart</summary>\n\n{points}\n\n</details>"
    yield from _below(block)


def _below(block: Table | Picture | Pictures | Chart) -> Iterator[str]:
    if block.caption:
        yield f"*{_inline(block.caption)}*"
    yield from _command(block.command)


def _paragraphs(text: Text) -> list[str]:
    lines = [f"- {_inline(line[2:])}" if line.startswith("- ") else f"\n{_inline(line)}\n" for line in text.paragraphs]
    return [re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()]


def points_table(chart: Chart) -> Table:
    """The points of a chart as a table."""
    rows = []
    for series in chart.series:
        for number, (x, y) in enumerate(series.points):
            row = {"Series": series.name}
            if series.labels:
                row["Point"] = series.labels[number]
            row |= {chart.x: x, chart.y: y}
            if series.low:
                row |= {"Low": series.low[number], "High": series.high[number]}
            rows.append(row)
    return Table(chart.title, rows)


def _table(table: Table) -> str:
    columns = columns_of(table)
    if not columns:
        return "(empty)"
    lines = [
        [_cell(column.name) + ARROWS[column.direction] for column in columns],
        ["---:" if column.is_numeric else "---" for column in columns],
    ]
    for row in range(len(table.rows)):
        cells = [(_cell(column.cells[row]), row in column.best) for column in columns]
        lines.append([f"**{cell}**" if is_best else cell for cell, is_best in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _inline(text).replace("|", r"\|")


def _picture(picture: Picture) -> str:
    return f"![{_inline(picture.title)}]({quote(picture.path)})"


def _command(command: str | None) -> list[str]:
    if not command:
        return []
    return [f"```bash\n{command.strip()}\n```"]


def _inline(text: str) -> str:
    """Plain text as Markdown that shows it, on one line; `code` stays code."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*\[\]])", r"\\\1", parts[i]).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(parts)
