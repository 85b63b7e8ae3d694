"""What a search leaves: a table, the best options as YAML files that run, all trials as JSON, and a picture."""

import json
import shlex
import shutil
from pathlib import Path

from ..evaluation import text_table
from ..evaluation.curves import COLORS
from ..evaluation.figures import save_figure
from .search import Search, describe, short
from .trial_process import Recipe


BEST_FILE, FRONT_FOLDER, TRIALS_FILE, PICTURE = "best.yaml", "front", "trials.json", "search.png"
ROWS = 10  # of the printed table


def write_report(search: Search, recipe: Recipe, command: str) -> None:
    """
    Prints the best trials and writes `best.yaml`, `trials.json` and `search.png` into the search's folder. With more
    objectives, `front/` gets a YAML file for each trial of the Pareto front, and `best.yaml` is the best of them by
    the first objective.

    Args:
        search ([`Search`]): A search with at least one finished trial.
        recipe ([`Recipe`]): What it ran.
        command (`str`): The command of the search.
    """
    folder, best = search.folder, search.best()
    print(f"\n{text_table(table_rows(search))}\n\n{summary(search)}")
    write_best(search, recipe, best[0], folder / BEST_FILE, command)
    shutil.rmtree(folder / FRONT_FOLDER, ignore_errors=True)
    if len(search.args.metrics) > 1:
        (folder / FRONT_FOLDER).mkdir()
        for trial in best:
            write_best(search, recipe, trial, folder / FRONT_FOLDER / f"trial-{trial.number}.yaml", command)
    write_trials(search, folder / TRIALS_FILE)
    plot_search(search, folder / PICTURE)
    print(f"{BEST_FILE}, {TRIALS_FILE} and {PICTURE} are in {folder}. The best one again, in full:")
    print(f"    {run_command(recipe, folder / BEST_FILE)}")


def run_command(recipe: Recipe, config: Path) -> str:
    """The command that runs a recipe with a config."""
    return f"accelerate launch {shlex.join([str(recipe.script), '--config', str(config)])}"


def table_rows(search: Search) -> list[dict[str, str]]:
    """The best trials, or the Pareto front, as rows of a table."""
    if len(search.args.metrics) > 1:
        trials = search.best()
    else:
        sign = 1 if search.args.objectives[0].endswith(":minimize") else -1
        trials = sorted(search.finished(), key=lambda trial: (sign * trial.value, trial.number))
    rows = []
    for trial in trials[:ROWS]:
        numbers = dict(zip(search.args.metrics, trial.values, strict=True)) | trial.params
        texts = {name: short(value) for name, value in numbers.items()}
        rows.append({"Trial": str(trial.number), **texts, "Seconds": f"{trial.user_attrs['seconds']:.0f}"})
    return rows


def summary(search: Search) -> str:
    """How many trials came to what."""
    states = [trial.state.name for trial in search.counted()]
    counts = {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    parts = [f"{states.count(state)} {word}" for word, state in counts.items() if state in states]
    return f"{len(states)} trials: {', '.join(parts)}."


def write_best(search: Search, recipe: Recipe, trial, path: Path, command: str) -> None:
    """A trial's options as a YAML file of the recipe, whose header says what it reached and how it was found."""
    reached = describe(dict(zip(search.args.metrics, trial.values, strict=True)))
    place = "Of the Pareto front" if len(search.args.metrics) > 1 else "The best"
    options = recipe.merged(search.space.values(trial.params)) | {"output_dir": str(search.folder / path.stem)}
    lines = [
        f"# {place} of {len(search.counted())} trials: {reached} in trial {trial.number}.",
        "#",
        f"#     {run_command(recipe, path)}",
        "#",
        f"# Found by: {command}",
        *(f"{name}: {json.dumps(value)}" for name, value in options.items()),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_trials(search: Search, path: Path) -> None:
    """All trials, failed and pruned ones included."""
    trials = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "objectives": dict(zip(search.args.metrics, trial.values or (), strict=False)),
            "values": search.space.values(trial.params),
            "metrics": {
                name: value if value == value else None for name, value in trial.user_attrs["metrics"].items()
            },
            "seconds": trial.user_attrs["seconds"],
            "error": trial.user_attrs.get("error"),
        }
        for trial in search.counted()
    ]
    path.write_text(json.dumps(trials, indent=2) + "\n", encoding="utf-8")


def importances(search: Search) -> dict[str, float]:
    """
    How much each parameter has to do with being among the best tenth of the trials, as shares of 1, by PED-ANOVA
    ([Watanabe et al., 2023](https://huggingface.co/papers/2304.10255)); empty for fewer than ten finished trials.
    """
    return search.optuna.importance.get_param_importances(search.study) if len(search.finished()) >= 10 else {}


def plot_search(search: Search, path: Path) -> None:
    """
    Draws the value of each trial with the best so far, or of two objectives the Pareto front, and beside it the first
    objective over each parameter.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    shares = importances(search)
    names = sorted(search.space.distributions, key=lambda name: -shares.get(name, 0))
    columns = min(len(names) + 1, 4)
    rows = -(-(len(names) + 1) // columns)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(4 * columns, 3.4 * rows), dpi=150, layout="constrained")
        first, *others = figure.subplots(rows, columns, squeeze=False).flat
        (_draw_front if len(search.args.metrics) > 1 else _draw_history)(first, search)
        for axes, name in zip(others, names, strict=False):
            _draw_slice(axes, search, name, shares.get(name))
        for axes in others[len(names) :]:
            axes.remove()
        for axes in figure.axes:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        save_figure(figure, path)


def _draw_history(axes, search: Search) -> None:
    trials, (name,) = search.finished(), search.args.metrics
    choose = min if search.args.metrics[name] == "minimize" else max
    numbers, values = [trial.number for trial in trials], [trial.value for trial in trials]
    best = [choose(values[: i + 1]) for i in range(len(values))]
    axes.scatter(numbers, values, s=14, color=COLORS[0], label="finished trial")
    axes.step(numbers, best, where="post", color=COLORS[1], label="best so far")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="trial", ylabel=name, title=summary(search))
    axes.legend(frameon=True, framealpha=0.9)


def _draw_front(axes, search: Search) -> None:
    front, (first, second) = search.best(), list(search.args.metrics)[:2]
    others = [trial for trial in search.finished() if trial.number not in {best.number for best in front}]
    axes.scatter(*zip(*(trial.values[:2] for trial in others), strict=True) if others else ([], []), s=14, color="0.7")
    axes.plot(*zip(*(trial.values[:2] for trial in front), strict=True), "o-", color=COLORS[1], label="Pareto front")
    for trial in front:
        axes.annotate(str(trial.number), trial.values[:2], xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel=first, ylabel=second, title=summary(search))
    axes.legend(frameon=True, framealpha=0.9)


def _draw_slice(axes, search: Search, name: str, share: float | None) -> None:
    distribution, trials = search.space.distributions[name], search.finished()
    positions = [trial.params[name] for trial in trials]
    if isinstance(distribution, search.optuna.distributions.CategoricalDistribution):
        labels = [str(choice) for choice in distribution.choices]
        positions = [labels.index(str(position)) for position in positions]
        axes.set_xticks(range(len(labels)), labels, fontsize=7)
    elif distribution.log:
        axes.set_xscale("log")
        axes.set_xlim(distribution.low / 1.2, distribution.high * 1.2)
        axes.tick_params(axis="x", which="both", labelsize=7)
    axes.scatter(positions, [trial.values[0] for trial in trials], s=14, color=COLORS[0])
    axes.set(xlabel=name, ylabel=next(iter(search.args.metrics)))
    axes.set_title("" if share is None else f"importance {share:.2f}", fontsize=9)
