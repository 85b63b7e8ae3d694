"""What a report is made of, as plain values: text, tables, pictures and charts, in sections."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """Paragraphs, as plain sentences with `code` in backticks; strings that begin with "- " become a list."""

    paragraphs: list[str]


@dataclass(frozen=True)
class Table:
    """
    A table.

    Args:
        title (`str`): What it shows.
        rows (`list[dict]`): Each from column name to text or number; columns that no row fills are left out.
        caption (`str`, *optional*): Whole sentences on how to read it.
        command (`str`, *optional*): The command that measured it.
        best (`dict[str, str]`, *optional*):
            Columns whose best value is marked: name to "high" or "low". Of a text, the number that it begins with
            counts, and only where all of the column have the same unit.
        unranked (`list[str]`, *optional*):
            Rows that are never the best, such as the scores of real data, by the text in their first column.

    Raises:
        `ValueError`: A cell is neither text nor a number, or `best` names no column or no direction.
    """

    title: str
    rows: list[dict]
    caption: str | None = None
    command: str | None = None
    best: dict[str, str] = field(default_factory=dict)
    unranked: list[str] = field(default_factory=list)

    def __post_init__(self):
        columns = {column for row in self.rows for column in row}
        for column, direction in self.best.items():
            if column not in columns:
                raise ValueError(
                    f"The table '{self.title}' marks the best of '{column}', which is none of its columns."
                )
            if direction not in ("high", "low"):
                raise ValueError(f"The best of '{column}' is '{direction}', but it must be one of high, low.")
        for row in self.rows:
            for column, value in row.items():
                if value is not None and not isinstance(value, str | int | float):
                    raise ValueError(
                        f"The table '{self.title}' has {value!r} in '{column}', but a cell must be a text, a number or None."
                    )


@dataclass(frozen=True)
class Picture:
    """
    A picture.

    Args:
        title (`str`): What it shows, also its text for those who can't see it.
        path (`str`): The PNG, relative to the report's folder.
        caption (`str`, *optional*): Whole sentences on how to read it.
        command (`str`, *optional*): The command that drew it.
        pixelated (`bool`, *optional*, defaults to `True`): Whether small pictures are enlarged with hard edges.
    """

    title: str
    path: str
    caption: str | None = None
    command: str | None = None
    pixelated: bool = True


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side, such as the samples of three models: a title and [`Picture`] objects."""

    title: str
    pictures: list[Picture]
    caption: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class Series:
    """
    One line or one cloud of points of a chart.

    Args:
        name (`str`): Its name in the legend.
        points (`list[tuple[float, float]]`): x and y; points that are not finite are left out, and a note says so.
        low, high (`list[float]`, *optional*): Ends of an interval around each y.
        labels (`list[str]`, *optional*): A name for each point.

    Raises:
        `ValueError`: There are ends or labels, but not one for each point.
    """

    name: str
    points: list[tuple[float, float]]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def __post_init__(self):
        for name, values in {"low ends": self.low, "high ends": self.high, "labels": self.labels}.items():
            if len(values) not in (0, len(self.points)):
                raise ValueError(f"The series '{self.name}' has {len(self.points)} points, but {len(values)} {name}.")
        if len(self.low) != len(self.high):
            raise ValueError(f"The series '{self.name}' has {len(self.low)} low ends, but {len(self.high)} high ends.")


@dataclass(frozen=True)
class Chart:
    """
    Lines or points in a coordinate system.

    Args:
        title (`str`): What it shows.
        x, y (`str`): The axes, with units.
        series (`list[Series]`): What is drawn.
        kind (`str`, *optional*, defaults to `"line"`): "line" or "scatter".
        log_x, log_y (`bool`, *optional*, defaults to `False`): Logarithmic axes.
        caption (`str`, *optional*): Whole sentences on how to read it.
        command (`str`, *optional*): The command that measured it.

    Raises:
        `ValueError`: The kind is unknown, or a logarithmic axis shall show a value that is not above 0.
    """

    title: str
    x: str
    y: str
    series: list[Series]
    kind: str = "line"
    log_x: bool = False
    log_y: bool = False
    caption: str | None = None
    command: str | None = None

    def __post_init__(self):
        if self.kind not in ("line", "scatter"):
            raise ValueError(f"`kind` is '{self.kind}', but it must be one of line, scatter.")
        for axis, is_log in enumerate((self.log_x, self.log_y)):
            for series in self.series if is_log else []:
                wrong = [point[axis] for point in series.points if math.isfinite(point[axis]) and point[axis] <= 0]
                if wrong:
                    raise ValueError(
                        f"The chart '{self.title}' has a logarithmic {'xy'[axis]} axis, but '{series.name}' holds {wrong[0]:g}."
                    )


Block = Text | Table | Picture | Pictures | Chart


@dataclass(frozen=True)
class Section:
    """A heading with what is below it."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Report:
    """
    A report of one run or of one comparison.

    Args:
        title (`str`): Its heading.
        summary (`list[str]`): What came out, in a few sentences, the answer first.
        facts (`dict[str, str]`):
            What was done with what: data, budget, seeds, hardware, versions. The version under the key "hf_genkit" is
            also named at the foot of the page.
        sections (`list[Section]`): Everything else.
        command (`str`, *optional*): The command that made all of it.
    """

    title: str
    summary: list[str]
    facts: dict[str, str]
    sections: list[Section]
    command: str | None = None
