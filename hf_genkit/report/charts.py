"""Charts as SVG: lines with intervals and labelled points, for light and dark pages and without a script."""

import math

from markupsafe import Markup

from .axes import Axis
from .blocks import Chart, Series


WIDTH, TOP, PLOT_HEIGHT, FONT = 640, 14, 300, 13
CHARACTER = 0.6 * FONT  # a generous mean width of the fonts of all systems
# Okabe and Ito's hues, darkened to a contrast of 3 with white; a page sets --series-1 ... for its dark side.
COLORS = ("#0072B2", "#D55E00", "#00805E", "#B5548C", "#2A94C4", "#A87400", "#555555")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2 1 2", "1 2")
SHAPES = ("circle", "square", "triangle", "diamond", "plus", "cross", "bar")
MOST_MARKERS = 16  # of a line


def draw_chart(chart: Chart, standalone: bool = False) -> Markup:
    """
    Draws a chart.

    Args:
        chart ([`Chart`]): What to draw.
        standalone (`bool`, *optional*, defaults to `False`):
            Whether it is a file of its own, with a white background and its own colours, rather than a part of a page.

    Returns:
        `Markup`: An `<svg>` element, sized by its `viewBox`.
    """
    x, y = (Axis.of(values, is_log) for values, is_log in zip(_extent(chart), (chart.log_x, chart.log_y), strict=True))
    left = 34 + CHARACTER * max(len(text) for _, text in y.ticks)
    x, y = x.between(left, WIDTH - 24), y.between(TOP + PLOT_HEIGHT, TOP)
    legend, legend_height = _legend(chart, left)
    height = TOP + PLOT_HEIGHT + 52 + legend_height
    marks = [_series(chart, series, number, x, y) for number, series in enumerate(chart.series)]
    labels = _labels(chart, x, y) if chart.kind == "scatter" else []
    if not any(_finite(series) for series in chart.series):
        labels.append(_text((left + WIDTH - 24) / 2, TOP + PLOT_HEIGHT / 2, "no finite point", "middle"))
    style = "color:#1b1f24;background:#fff" if standalone else ""
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    background = Markup('<rect width="100%" height="100%" fill="#fff"/>') if standalone else ""
    return Markup(
        '<svg{namespace} viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{label}" style="{style}" '
        'font-family="system-ui, sans-serif" font-size="{font}" fill="currentColor">{background}{parts}</svg>'
    ).format(
        namespace=Markup(namespace), width=WIDTH, height=height, label=_description(chart), style=style, font=FONT,
        background=background, parts=Markup("").join([*_frame(chart, x, y, left), *marks, *labels, *legend]),
    )  # fmt: skip


def left_out(chart: Chart) -> str:
    """One sentence on the points that can't be drawn, or an empty string."""
    count = sum(len(series.points) - len(_finite(series)) for series in chart.series)
    if not count:
        return ""
    return f"{count} {'point that is' if count == 1 else 'points that are'} not finite {'is' if count == 1 else 'are'} left out."


def _finite(series: Series) -> list[int]:
    return [number for number, point in enumerate(series.points) if all(map(math.isfinite, point))]


def _intervals(series: Series) -> list[int]:
    """The points that can be drawn with their interval."""
    if not series.low:
        return []
    return [n for n in _finite(series) if math.isfinite(series.low[n]) and math.isfinite(series.high[n])]


def _extent(chart: Chart) -> tuple[list[float], list[float]]:
    """All that the axes must show."""
    xs = [series.points[n][0] for series in chart.series for n in _finite(series)]
    ys = [series.points[n][1] for series in chart.series for n in _finite(series)]
    ends = [end for series in chart.series for n in _intervals(series) for end in (series.low[n], series.high[n])]
    return xs, ys + [end for end in ends if end > 0 or not chart.log_y]


def _description(chart: Chart) -> str:
    names = ", ".join(series.name for series in chart.series)
    return f"{chart.title}: {chart.y} over {chart.x}" + (f" of {names}" if names else "")


def _color(number: int) -> str:
    return f"var(--series-{number % len(COLORS) + 1}, {COLORS[number % len(COLORS)]})"


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, Markup(extra), text)


def _frame(chart: Chart, x: Axis, y: Axis, left: float) -> list[Markup]:
    """Grid, ticks and the names of the axes."""
    bottom, right = TOP + PLOT_HEIGHT, WIDTH - 24
    grid = [f"M{left:.1f} {y(value):.1f}H{right}" for value, _ in y.ticks]
    grid += [f"M{x(value):.1f} {TOP}V{bottom}" for value, _ in x.ticks]
    parts = [Markup('<path d="{}" fill="none" stroke="currentColor" stroke-opacity="0.13"/>').format("".join(grid))]
    line = f"M{left:.1f} {TOP}V{bottom}H{right}"
    parts.append(Markup('<path d="{}" fill="none" stroke="currentColor" stroke-opacity="0.55"/>').format(line))
    parts += [_text(left - 7, y(value) + FONT * 0.35, text, "end") for value, text in y.ticks]
    parts += [_text(x(value), bottom + 18, text, "middle") for value, text in x.ticks]
    parts.append(_text((left + right) / 2, bottom + 40, shorten(chart.x, right - left), "middle"))
    middle = TOP + PLOT_HEIGHT / 2
    turned = f' transform="rotate(-90 14 {middle:.1f})"'
    return [*parts, _text(14, middle + 3, shorten(chart.y, PLOT_HEIGHT), "middle", turned)]


def shorten(text: str, width: float) -> str:
    """`text` cut so that it fits."""
    most = max(int(width / CHARACTER), 2)
    return text if len(text) <= most else text[: most - 1] + "…"


def _legend(chart: Chart, left: float) -> tuple[list[Markup], float]:
    """The names of the series below the plot, in as many rows as they need, and the height of these."""
    if len(chart.series) < 2 and not any(series.name for series in chart.series):
        return [], 0
    column, row, parts = left, 0, []
    for number, series in enumerate(chart.series):
        name = shorten(series.name, WIDTH - left - 70)
        key = 28 if chart.kind == "line" else 8
        width = key + 7 + CHARACTER * len(name) + 18
        if column > left and column + width > WIDTH:
            column, row = left, row + 1
        y = TOP + PLOT_HEIGHT + 66 + 21 * row
        if chart.kind == "line":
            parts.append(_line(f"M{column:.1f} {y:.1f}h28", number))
        parts.append(_marker(column + key / 2, y, number))
        parts.append(_text(column + key + 7, y + FONT * 0.35, name))
        column += width
    return parts, 21 * (row + 1) + 6


def _line(path: str, number: int) -> Markup:
    dashes = DASHES[number % len(DASHES)]
    return Markup('<path d="{}" fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>').format(
        path, _color(number), dashes or "none"
    )


def _marker(x: float, y: float, number: int, title: str = "", size: float = 4.5) -> Markup:
    """A mark of the series' shape."""
    shape, s = SHAPES[number % len(SHAPES)], size
    paths = {
        "circle": f"M{x - s:.1f} {y:.1f}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0Z",
        "square": f"M{x - s:.1f} {y - s:.1f}h{2 * s}v{2 * s}h{-2 * s}Z",
        "triangle": f"M{x:.1f} {y - 1.2 * s:.1f}l{1.2 * s:.1f} {2.1 * s:.1f}h{-2.4 * s:.1f}Z",
        "diamond": f"M{x:.1f} {y - 1.35 * s:.1f}l{1.35 * s:.1f} {1.35 * s:.1f}l{-1.35 * s:.1f} {1.35 * s:.1f}"
        f"l{-1.35 * s:.1f} {-1.35 * s:.1f}Z",
        "plus": f"M{x - s:.1f} {y:.1f}h{2 * s}M{x:.1f} {y - s:.1f}v{2 * s}",
        "cross": f"M{x - s:.1f} {y - s:.1f}l{2 * s} {2 * s}m{-2 * s} 0l{2 * s} {-2 * s}",
        "bar": f"M{x - s:.1f} {y:.1f}h{2 * s}",
    }
    return Markup('<path d="{}" fill="{}" stroke="{}" stroke-width="2">{}</path>').format(
        paths[shape], _color(number), _color(number), Markup("<title>{}</title>").format(title) if title else ""
    )


def _series(chart: Chart, series: Series, number: int, x: Axis, y: Axis) -> Markup:
    """A line with its band, or points with their error bars."""
    shown, within = _finite(series), _intervals(series)
    places = {n: (x(series.points[n][0]), y(series.points[n][1])) for n in shown}
    ends = {n: (y(series.low[n]), y(series.high[n])) for n in within}
    parts = []
    if chart.kind == "line" and within:
        corners = [(places[n][0], ends[n][0]) for n in within] + [(places[n][0], ends[n][1]) for n in reversed(within)]
        band = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        parts.append(Markup('<polygon points="{}" fill="{}" fill-opacity="0.18"/>').format(band, _color(number)))
    elif within:
        bars = "".join(
            f"M{places[n][0]:.1f} {low:.1f}V{high:.1f}M{places[n][0] - 4:.1f} {low:.1f}h8M{places[n][0] - 4:.1f} {high:.1f}h8"
            for n, (low, high) in ends.items()
        )
        parts.append(Markup('<path d="{}" fill="none" stroke="{}" stroke-width="1.5"/>').format(bars, _color(number)))
    if chart.kind == "line" and len(shown) > 1:
        parts.append(_line("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places.values()), number))
    step = 1 if chart.kind == "scatter" else -(-len(shown) // MOST_MARKERS)
    parts += [_marker(*places[n], number, _says(chart, series, n)) for n in shown[:: step or 1]]
    return Markup("<g><title>{}</title>{}</g>").format(series.name, Markup("").join(parts))


def _says(chart: Chart, series: Series, number: int) -> str:
    """What a point says when the pointer rests on it."""
    name = series.labels[number] if series.labels else series.name
    x, y = series.points[number]
    interval = f" ({series.low[number]:.4g} to {series.high[number]:.4g})" if number in _intervals(series) else ""
    return f"{name}: {chart.x} {x:.6g}, {chart.y} {y:.4g}{interval}"


def _labels(chart: Chart, x: Axis, y: Axis) -> list[Markup]:
    """The names of points, each where it hides neither another nor a point."""
    places = [
        (x(series.points[n][0]), y(series.points[n][1]), series.labels[n] if series.labels else "")
        for series in chart.series
        for n in _finite(series)
    ]
    taken = [(a - 7, b - 7, a + 7, b + 7) for a, b, _ in places]
    parts = []
    for a, b, label in places:
        if not label:
            continue
        text = shorten(label, WIDTH / 2)
        width = CHARACTER * len(text)
        choices = [("start", 10, 0), ("end", -10, 0), ("middle", 0, -15), ("middle", 0, 16)]
        choices += [("start", 8, -13), ("start", 8, 14), ("end", -8, -13), ("end", -8, 14)]
        boxes = [(_box(a + dx, b + dy, width, anchor), anchor, dx, dy) for anchor, dx, dy in choices]
        inside = [one for one in boxes if one[0][0] >= 0 and one[0][2] <= WIDTH and one[0][1] >= 0]
        box, anchor, dx, dy = next(
            (one for one in inside if not any(_overlap(one[0], other) for other in taken)), inside[0]
        )
        taken.append(box)
        parts.append(_text(a + dx, b + dy + FONT * 0.35, text, anchor))
    return parts


def _box(x: float, y: float, width: float, anchor: str) -> tuple[float, float, float, float]:
    left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
    return left, y - FONT * 0.6, left + width, y + FONT * 0.6


def _overlap(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
