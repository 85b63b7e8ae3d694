"""A report of what a run left in its output folder."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from .blocks import Picture, Report, Section, Table, Text
from .card_reading import picture_of, read_card
from .writing import read_report


RESULTS = ("results.json", "trials.json")
CAPTION = "Names as in {}. Several values, such as one for each seed, are their mean (the lowest to the highest)."


def report_of_folder(folder: str | Path) -> Report:
    """
    The report of the output folder of any recipe: its report.json where there is one, or else what its card says, with
    the numbers of results.json (trials.json of a search) and all of its pictures.

    Args:
        folder (`str` or `Path`): The folder.

    Raises:
        `ValueError`: The folder holds no results, or they are no JSON.
    """
    folder = Path(folder)
    if (folder / "report.json").is_file():
        return read_report(folder)
    file = next((folder / name for name in RESULTS if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"'{folder}' holds no results: none of report.json, {', '.join(RESULTS)} is in it.")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"'{file}' is no JSON ({error}).") from error
    card = folder / "README.md"
    title, command, sections = read_card(card.read_text(encoding="utf-8") if card.is_file() else "")
    summary = _summary(found, sections)
    facts = _facts(sections)
    shown = {block.path for section in sections for block in section.blocks if isinstance(block, Picture)}
    pictures = [picture_of(path.name) for path in sorted(folder.glob("*.png")) if path.name not in shown]
    if pictures:
        sections.append(Section("Pictures", list(pictures)))
    sections.append(Section("All numbers", [Text([CAPTION.format(file.name)]), *tables_of(found)]))
    return Report(title or folder.resolve().name, summary, facts, sections, command)


def tables_of(found: dict | list, title: str = "The run") -> Iterator[Table]:
    """
    What a file of results holds, as tables: things of a kind side by side, and the values of each level.

    Args:
        found (`dict` or `list`): What was read.
        title (`str`, *optional*): The first table's.
    """
    items = found if isinstance(found, dict) else {str(number): item for number, item in enumerate(found)}
    if items and all(isinstance(item, dict) for item in items.values()):
        yield Table(title, [{"Name": name} | _flat(_without(item, name)) for name, item in items.items()])
        return
    nested = {name: item for name, item in items.items() if isinstance(item, dict) or _holds_dicts(item)}
    values = _flat({name: item for name, item in items.items() if name not in nested})
    if values:
        yield Table(title, [{"Name": name, "Value": value} for name, value in values.items()])
    for name, item in nested.items():
        yield from tables_of(item, name.replace("_", " ").capitalize())


def _without(item: dict, name: str) -> dict:
    """A thing without the entry that only repeats its name."""
    return {key: value for key, value in item.items() if value != name}


def _holds_dicts(item) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(part, dict) for part in item)


def _flat(values: dict, prefix: str = "") -> dict:
    """The values of nested dicts under names with dots, as cells of a table."""
    cells = {}
    for name, value in values.items():
        if isinstance(value, dict):
            cells |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            cells[prefix + name] = _several(value)
        else:
            cells[prefix + name] = value
    return cells


def _several(values: list) -> str:
    if values and all(isinstance(value, float) for value in values):
        if len(values) == 1:
            return f"{values[0]:.4g}"
        return f"{statistics.fmean(values):.4g} ({min(values):.4g} to {max(values):.4g})"
    return ", ".join(map(str, values))


def _summary(found: dict | list, sections: list[Section]) -> list[str]:
    """The verdict, the scores in one sentence and what the model is, as far as they are known; takes the last away."""
    summary = []
    if isinstance(found, dict) and (difference := found.pop("difference", "")):
        summary.append(difference[:1].upper() + difference[1:])
    for section in sections:
        tables = [block for block in section.blocks if isinstance(block, Table) and "Metric" in block.rows[0]]
        if section.title == "Results" and tables and isinstance(section.blocks[0], Text):
            scores = ", ".join(f"{row['Metric']} {row['Value']}" for row in tables[0].rows)
            summary.append(f"{section.blocks[0].paragraphs[0].removesuffix('.')}: {scores}.")
    if sections and not sections[0].title:
        summary += [line for block in sections.pop(0).blocks if isinstance(block, Text) for line in block.paragraphs]
    return summary


def _facts(sections: list[Section]) -> dict[str, str]:
    """Hardware and versions, which are taken from where the card says them."""
    facts = {}
    for section in sections:
        for block in list(section.blocks):
            name, _, value = block.paragraphs[0].partition(": ") if isinstance(block, Text) else ("", "", "")
            if name in ("Hardware", "Versions"):
                section.blocks.remove(block)
                facts[name] = value.removesuffix(".")
    versions = dict(version.rsplit(" ", 1) for version in facts.get("Versions", "").split(", ") if " " in version)
    return facts | ({"hf_genkit": versions["hf-genkit"]} if "hf-genkit" in versions else {})
