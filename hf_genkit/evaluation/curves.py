"""Training curves of several runs as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path


# Distinct for colour-blind readers and in print (Okabe and Ito's palette, without its yellow).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

History = Sequence[Mapping[str, float]]


def plot_curves(
    histories: Mapping[str, Sequence[History]],
    path: str | Path,
    metric: str = "eval_accuracy",
    x: str = "epoch",
    references: Mapping[str, float] | None = None,
) -> None:
    """
    Draws the training loss and an evaluation metric of one or more methods side by side.

    A method that was run with several seeds gets a line for their mean and a band from the lowest to the highest run,
    at the points that all of them logged. The background is white, so the picture can be read on light and dark pages.

    Args:
        histories (`dict[str, list[list[dict]]]`):
            For each label of the legend the `trainer.state.log_history` of each run.
        path (`str` or `Path`):
            The picture to write, such as curves.png.
        metric (`str`, *optional*, defaults to `"eval_accuracy"`):
            Key of the log that the right panel shows; without such entries there is no right panel.
        x (`str`, *optional*, defaults to `"epoch"`):
            Key of the log on the horizontal axis, `"epoch"` or `"step"`.
        references (`dict[str, float]`, *optional*):
            Values of the metric to draw as dashed lines, such as the teacher's.

    Example:

    ```python
    >>> plot_curves({"alone": [alone.state.log_history], "distilled": [distilled.state.log_history]}, "curves.png")
    ```
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    colors = {label: COLORS[index % len(COLORS)] for index, label in enumerate(histories)}
    with matplotlib.style.context("default"):
        evaluated = any(metric in entry for runs in histories.values() for run in runs for entry in run)
        keys = ["loss", metric] if evaluated else ["loss"]
        figure = Figure(figsize=(5 * len(keys), 4), dpi=150, layout="constrained")
        panels = dict(zip(keys, figure.subplots(1, len(keys), squeeze=False)[0], strict=True))
        for key, axes in panels.items():
            for label, runs in histories.items():
                _draw(axes, label, [_points(run, x, key) for run in runs], colors[label])
            if not axes.lines:
                axes.text(0.5, 0.5, f"no '{key}' was logged", ha="center", va="center", transform=axes.transAxes)
            axes.set_xlabel(x)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        panels["loss"].set_title("Training loss (each method's own)")
        if evaluated:
            name = metric.removeprefix("eval_").replace("_", " ").capitalize()
            panels[metric].set_title(f"{name} on the evaluation set")
            for index, (label, value) in enumerate((references or {}).items()):
                style = (0, (4, 2 + 2 * index))
                panels[metric].axhline(value, color="0.4", linestyle=style, label=f"{label} ({value:.4g})")
        for axes in panels.values():
            if axes.lines:
                axes.legend(frameon=True, framealpha=0.9)
        figure.savefig(path)


def _points(run: History, x: str, key: str) -> dict[float, float]:
    return {entry[x]: entry[key] for entry in run if key in entry}


def _draw(axes, label: str, runs: list[dict[float, float]], color: str) -> None:
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    if not shared:
        return
    values = [[run[position] for run in runs] for position in shared]
    if len(runs) > 1:
        label = f"{label} (mean and range of {len(runs)} runs)"
        axes.fill_between(shared, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.2, lw=0)
    marker = "o" if len(shared) <= 30 else None
    axes.plot(shared, [sum(v) / len(v) for v in values], color=color, marker=marker, markersize=3.5, label=label)
