"""The text of a model card as sections of a report."""

import re
from pathlib import PurePosixPath

import yaml

from .blocks import Block, Picture, Section, Table, Text


METADATA = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
STRETCH = re.compile(r"^```.*?^```$|(?:(?!^```|\n\n).)+", re.MULTILINE | re.DOTALL)  # a fence, or up to an empty line
HEADING = re.compile(r"(#+) (.+)")
PICTURE = re.compile(r"!\[(.*?)\]\((\S+?)\)")
LINK = re.compile(r"\[(.+?)\]\(\S+?\)")
DRAWINGS = {"curves", "pareto", "scores", "search", "stability"}  # lines and text rather than grids of pictures


def read_card(text: str) -> tuple[str | None, str | None, list[Section]]:
    """
    What a card says that [`~hf_genkit.hub.render_model_card`] wrote, or one like it.

    Args:
        text (`str`): The whole card; its metadata and the section on its use are left out.

    Returns:
        `tuple`: The title, the command that trained the model, and the sections. What comes before the first heading but the
        title's is a section without a title.
    """
    title, command, sections = None, None, [Section("", [])]
    for stretch in map(str.strip, STRETCH.findall(COMMENT.sub("", METADATA.sub("", text)))):
        if heading := HEADING.fullmatch(stretch):
            if title is None:
                title = heading.group(2)
            else:
                sections.append(Section(heading.group(2), []))
        elif stretch.startswith("```bash"):
            command = command or _inside(stretch)
        elif stretch:
            sections[-1].blocks.extend(_blocks(stretch, sections[-1]))
    return title, command, [section for section in sections if section.blocks and section.title != "Use"]


def picture_of(path: str, caption: str = "") -> Picture:
    """A picture of a run's folder; without a caption it is called after its file."""
    name = PurePosixPath(path).stem
    return Picture(caption or name.replace("_", " ").capitalize(), path, pixelated=name not in DRAWINGS)


def _blocks(stretch: str, section: Section) -> list[Block]:
    """What a stretch of Markdown shows."""
    if stretch.startswith("```yaml"):
        options = yaml.safe_load(_inside(stretch))
        rows = [
            {"Option": name, "Value": value if isinstance(value, int | float) else str(value)}
            for name, value in options.items()
        ]
        return [Table(_title_above(section) or "Options", rows)]
    if stretch.startswith("```"):
        return []
    if stretch.startswith("|"):
        lines = [
            [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in stretch.splitlines()
        ]
        rows = [dict(zip(lines[0], line, strict=False)) for line in lines[2:]]
        return [Table(_title_above(section) or "Scores", rows)]
    if picture := PICTURE.fullmatch(stretch):
        return [picture_of(picture.group(2), picture.group(1))]
    if stretch.startswith("*") and section.blocks and isinstance(section.blocks[-1], Picture):
        return []  # the picture's caption again
    lines = stretch.splitlines() if stretch.startswith("- ") else [stretch]
    return [Text([LINK.sub(r"\1", line) for line in lines])]


def _inside(fence: str) -> str:
    return fence.partition("\n")[2].removesuffix("```").strip()


def _title_above(section: Section) -> str | None:
    """Takes a section's last paragraph as a title, where it ends with a colon."""
    last = section.blocks[-1] if section.blocks else None
    if isinstance(last, Text) and last.paragraphs[-1].endswith(":"):
        return section.blocks.pop().paragraphs[-1].removesuffix(":")
    return None
