"""The cells of a table as text: numbers of one column alike, the best ones known."""

import math
import re
from dataclasses import dataclass

from .blocks import Table


# A number, its unit, and an interval or a remark: "1.2 ms (0.9 to 1.4)", "0.98 to 3.23", "0 of 3".
NUMBER = re.compile(
    r"([+-]?(?:(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?|(?:nan|inf)\b))\s*([^\s(\d]*)[\s\d.,%+-]*(?:\(.*\))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Column:
    """
    A column as it is shown.

    Args:
        name (`str`): Its heading.
        cells (`list[str]`): The texts, one for each row.
        is_numeric (`bool`): Whether all that it holds are numbers, also such as "1.2 ms (0.9 to 1.4)".
        best (`set[int]`): The rows that hold its best value.
        direction (`str`, *optional*): "high" or "low", whichever is best.
    """

    name: str
    cells: list[str]
    is_numeric: bool
    best: set[int]
    direction: str | None


def columns_of(table: Table) -> list[Column]:
    """The columns that at least one row fills, in the order in which they first appear."""
    names = dict.fromkeys(name for row in table.rows for name, value in row.items() if value not in (None, ""))
    if not names:
        return []
    first = next(iter(names))
    ranked = {number for number, row in enumerate(table.rows) if row.get(first) not in table.unranked}
    columns = []
    for name in names:
        values = [row.get(name) for row in table.rows]
        is_numeric = all(_number(value) for value in values if value not in (None, ""))
        if name == first:  # names such as "2 layers" are no numbers
            is_numeric = is_numeric and not any(isinstance(value, str) for value in values)
        direction = table.best.get(name)
        best = _best({row: _number(values[row]) for row in ranked}, direction) if direction else set()
        columns.append(Column(name, _cells(values), is_numeric, best, direction))
    return columns


def number_text(value: float) -> str:
    """A number with four significant digits, or all digits of a whole one, with commas between thousands."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


def _cells(values: list) -> list[str]:
    """Values as texts; numbers of similar size with the same number of decimals."""
    cells = ["" if value is None else value if isinstance(value, str) else number_text(value) for value in values]
    finite = {row: value for row, value in enumerate(values) if isinstance(value, float) and math.isfinite(value)}
    sizes = [abs(value) for value in finite.values() if value]
    if sizes and min(sizes) >= 1e-4 and max(sizes) < min(1e3 * min(sizes), 1e3):
        decimals = max(len(cells[row].partition(".")[2]) for row in finite)
        for row, value in finite.items():
            cells[row] = f"{value:.{decimals}f}"
    return cells


def _best(numbers: dict[int, tuple[float, str] | None], direction: str) -> set[int]:
    """The rows of the best of several numbers of the same unit."""
    known = {row: number for row, number in numbers.items() if number and math.isfinite(number[0])}
    if len(known) < 2 or len({unit for _, unit in known.values()}) > 1:
        return set()
    goal = (max if direction == "high" else min)(value for value, _ in known.values())
    return {row for row, (value, _) in known.items() if value == goal}


def _number(value) -> tuple[float, str] | None:
    """The number that a cell is or begins with, and its unit."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value), ""
    match = NUMBER.fullmatch(value)
    return (float(match.group(1).replace(",", "")), match.group(2)) if match else None
