"""What a comparison of classifiers or language models found, as a report."""

import math
from typing import TYPE_CHECKING

from ..arguments import FineTuningDataArguments
from ..evaluation import Interval
from ..report.blocks import Chart, Report, Section, Series, Table, Text
from ..trainers.generation_report import dataset_facts
from ..trainers.task_data import TaskData
from ..trainers.tasks import CLASSIFICATION
from .claiming import device_name, versions
from .findings import number


if TYPE_CHECKING:
    from .task_models import JudgedModel


def tell_tasks(
    judged: list["JudgedModel"], task: str, data: TaskData, data_args: FineTuningDataArguments, command: str
) -> Report:
    """
    Results as a report, the answer first.

    Args:
        judged (`list[JudgedModel]`): The models, the one that the others are held against first.
        task (`str`): What they are for.
        data ([`~hf_genkit.trainers.task_data.TaskData`]): What they were tested on.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where that came from.
        command (`str`): The command that measured it.
    """
    right = task in CLASSIFICATION
    title = "Accuracy" if right else "Perplexity"
    qualities = {one.name: shown(one.quality(task), right) for one in judged}
    rows = [row(one, judged[0], task, title, qualities[one.name]) for one in judged]
    caption = (
        f"Intervals are 95 %: of {title.lower()} over the {len(judged[0].parts):,} samples, of the difference to "
        f"'{judged[0].name}' over the same samples in pairs, by a bootstrap. "
        + ("" if right else "Perplexities are compared as a ratio. ")
        + "Size is that of the saved weights; latency the median of a pass with one sample on one thread, with "
        "quartiles, taken in turns."
    )
    best = {title: "high" if right else "low", "Size": "low", "Latency": "low"}
    charts = [
        chart(
            judged, qualities, f"{title} against size", "MB on disk", title, command, lambda one: one.size_bytes / 1e6
        ),
        chart(
            judged,
            qualities,
            f"{title} against latency",
            "ms for one sample",
            title,
            command,
            lambda one: one.latency_ms,
        ),
    ]
    notes = [
        "- One data set and one trained model each: the intervals cover the choice of test samples, not the training.",
        "- Latency depends on the machine and on what else it does; compare what was measured together.",
    ]
    names = [f"'{one.name}'" for one in judged]
    facts = dataset_facts(data.data, data_args)
    return Report(
        f"{', '.join(names[:-1])} and {names[-1]}: {title.lower()} against size and time",
        summary(judged, task, title, qualities),
        {
            "Data": f"{facts.name}, {len(judged[0].parts):,} samples of the split '{facts.split}'",
            "Task": task,
            "Hardware": device_name(),
            "Versions": versions(),
        },
        [
            Section("Side by side", [Table("Models", rows, caption, command, best), *charts]),
            Section("What to keep in mind", [Text(notes)]),
        ],
        command,
    )


def shown(interval: Interval, right: bool) -> Interval:
    """Accuracy as it is, a mean negative log-likelihood as perplexity."""
    if right:
        return interval
    low, high = (None if end is None else math.exp(end) for end in (interval.low, interval.high))
    return Interval(math.exp(interval.mean), low, high, interval.n)


def row(one: "JudgedModel", first: "JudgedModel", task: str, title: str, quality: Interval) -> dict:
    """A model as a row of the table."""
    right = task in CLASSIFICATION
    text = (lambda value: f"{value:.4f}") if right else number
    cells = {"Model": one.name, title: f"{text(quality.mean)} ({text(quality.low)} to {text(quality.high)})"}
    gap, sign = shown(one.minus(first), right), "+.4f" if right else ".3f"
    beside = "" if one is first else f"{gap.mean:{sign}} ({gap.low:{sign}} to {gap.high:{sign}})"
    cells[f"{'Minus' if right else 'Over'} {first.name}"] = beside
    low, high = one.latency_ms_iqr
    return cells | {
        "Parameters": f"{one.parameters:,}",
        "Size": f"{one.size_bytes / 1e6:.2f} MB",
        "Smaller": f"{first.size_bytes / one.size_bytes:.1f} times",
        "Latency": f"{one.latency_ms:.2f} ms ({low:.2f} to {high:.2f})",
        "Faster": f"{first.latency_ms / one.latency_ms:.1f} times",
    }


def chart(judged, qualities, name, x, y, command, read) -> Chart:
    """Quality against a cost, one point a model."""
    series = [
        Series(
            one.name,
            [(read(one), qualities[one.name].mean)],
            [qualities[one.name].low],
            [qualities[one.name].high],
            [one.name],
        )
        for one in judged
    ]
    return Chart(name, x, y, series, "scatter", log_x=True, caption="Further left costs less.", command=command)


def summary(judged: list["JudgedModel"], task: str, title: str, qualities: dict[str, Interval]) -> list[str]:
    """What came out, in a few sentences."""
    right, first = task in CLASSIFICATION, judged[0]
    best = (max if right else min)(judged, key=lambda one: qualities[one.name].mean)
    small = min(judged, key=lambda one: one.size_bytes)
    fast = min(judged, key=lambda one: one.latency_ms)
    said = [f"'{best.name}' has the best {title.lower()}, {number(qualities[best.name].mean)}."]
    gains = ((small, "smallest and the fastest"),) if small is fast else ((small, "smallest"), (fast, "fastest"))
    for one, gain in gains:
        if one is first:
            said.append(f"'{one.name}' is the {gain}.")
            continue
        gap = one.minus(first)
        sure = "excludes" if gap.low > 0 or gap.high < 0 else "includes"
        smaller, faster = first.size_bytes / one.size_bytes, first.latency_ms / one.latency_ms
        size = f"{smaller:.1f} times smaller and {faster:.1f} times as fast"
        difference = shown(gap, right)
        words = f"{difference.mean:+.4f} accuracy" if right else f"{difference.mean:.3f} times the perplexity"
        said.append(
            f"'{one.name}' is the {gain}: {size} as '{first.name}' with {words}, whose 95 % interval over paired "
            f"samples {sure} no difference."
        )
    return said
