"""What a comparison of classifiers, language models or models of speech found, as a report."""

import math

import torch

from ..arguments import FineTuningDataArguments
from ..evaluation import PERPLEXITY, ComparedMetric, Interval
from ..report.blocks import Chart, Report, Section, Series, Table, Text
from ..trainers.generation_report import dataset_facts
from ..trainers.judging import metric_of
from ..trainers.task_data import TaskData
from ..trainers.tasks import SPEECH
from .claiming import device_name, versions
from .findings import number
from .judged_models import JudgedModel, JudgedSpeechModel


def tell_tasks(
    judged: list[JudgedModel],
    task: str,
    data: TaskData,
    data_args: FineTuningDataArguments,
    command: str,
    device: torch.device,
) -> Report:
    """
    Results as a report, the answer first.

    Args:
        judged (`list[JudgedModel]`): The models, the one that the others are held against first.
        task (`str`): What they are for.
        data ([`~hf_genkit.trainers.task_data.TaskData`]): What they were tested on.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where that came from.
        command (`str`): The command that measured it.
        device (`torch.device`): Where the models ran.
    """
    metric = metric_of(task)
    title = metric.title
    qualities = {one.name: shown(one.quality(task), metric) for one in judged}
    rows = [row(one, judged[0], metric, qualities[one.name]) for one in judged]
    caption = (
        f"Intervals are 95 %: of {title.lower()} over the {len(judged[0].parts):,} samples, of the difference to "
        f"'{judged[0].name}' over the same samples in pairs, by a bootstrap. "
        + ("Perplexities are compared as a ratio. " if metric is PERPLEXITY else "")
        + f"Size is that of the saved weights; {latency(judged[0], device)}"
    )
    best = {title: "low" if metric.lower_is_better else "high", "Size": "low", "Latency": "low"}
    best |= {"Character error rate": "low"} if task == SPEECH else {}
    sample = "clip" if task == SPEECH else "sample"
    axes = {
        "size": ("MB on disk", lambda one: one.size_bytes / 1e6),
        "latency": (f"ms for one {sample}", lambda one: one.latency_ms),
    }
    charts = [
        chart(judged, qualities, f"{title} against {name}", axis, title, command, read)
        for name, (axis, read) in axes.items()
    ]
    notes = [
        "- One data set and one trained model each: the intervals cover the choice of test samples, not the training.",
        "- Latency depends on the machine and on what else it does; compare what was measured together.",
    ]
    if task == SPEECH:
        notes += [
            "- Transcripts are compared in lower case and without punctuation, and of English with numbers as digits.",
            "- A model that repeats itself makes more wrong words than there are, and takes as long as it goes on.",
        ]
    names = [f"'{one.name}'" for one in judged]
    facts = dataset_facts(data.data, data_args)
    return Report(
        f"{', '.join(names[:-1])} and {names[-1]}: {title.lower()} against size and time",
        summary(judged, metric, qualities),
        {
            "Data": f"{facts.name}, {len(judged[0].parts):,} {sample}s of the split '{facts.split}'",
            "Task": task,
            "Hardware": device_name(device),
            "Versions": versions(),
        },
        [
            Section("Side by side", [Table("Models", rows, caption, command, best), *charts]),
            Section("What to keep in mind", [Text(notes)]),
        ],
        command,
    )


def latency(first: JudgedModel, device: torch.device) -> str:
    """How the time of a sample was measured, as the end of a sentence."""
    where = " on one thread" if device.type == "cpu" else ""
    if isinstance(first, JudgedSpeechModel):
        return (
            f"latency the median time to write down one clip{where}, the mean over {first.timed_clips} of "
            f"{first.clip_seconds:.1f} seconds on average, with quartiles, taken in turns. The real-time factor is the "
            "time for a second of speech: below 1 is faster than it is spoken."
        )
    return f"latency the median of a pass with one sample{where}, with quartiles, taken in turns."


def shown(interval: Interval, metric: ComparedMetric) -> Interval:
    """A mean negative log-likelihood as perplexity, and everything else as it is."""
    if metric is not PERPLEXITY:
        return interval
    return Interval(math.exp(interval.mean), math.exp(interval.low), math.exp(interval.high), interval.n)


def row(one: JudgedModel, first: JudgedModel, metric: ComparedMetric, quality: Interval) -> dict:
    """A model as a row of the table."""
    is_ratio = metric is PERPLEXITY
    text = number if is_ratio else metric.shown
    cells = {"Model": one.name, metric.title: f"{text(quality.mean)} ({text(quality.low)} to {text(quality.high)})"}
    gap, sign = shown(one.minus(first), metric), ".3f" if is_ratio else "+.4f"
    beside = "" if one is first else f"{gap.mean:{sign}} ({gap.low:{sign}} to {gap.high:{sign}})"
    cells[f"{'Over' if is_ratio else 'Minus'} {first.name}"] = beside
    low, high = one.latency_ms_iqr
    is_speech = isinstance(one, JudgedSpeechModel)
    if is_speech:
        cells["Character error rate"] = metric.shown(one.character_errors.mean)
    cells |= {
        "Parameters": f"{one.parameters:,}",
        "Size": f"{one.size_bytes / 1e6:.2f} MB",
        "Smaller": f"{first.size_bytes / one.size_bytes:.1f} times",
        "Latency": f"{number(one.latency_ms)} ms ({number(low)} to {number(high)})",
        "Faster": f"{first.latency_ms / one.latency_ms:.1f} times",
    }
    return cells | ({"Real-time factor": number(one.real_time_factor)} if is_speech else {})


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


def summary(judged: list[JudgedModel], metric: ComparedMetric, qualities: dict[str, Interval]) -> list[str]:
    """What came out, in a few sentences."""
    first, title = judged[0], metric.title.lower()
    means = [qualities[one.name].mean for one in judged]
    best = min(means) if metric.lower_is_better else max(means)
    names = [f"'{one.name}'" for one, mean in zip(judged, means, strict=True) if mean == best]
    small = min(judged, key=lambda one: one.size_bytes)
    fast = min(judged, key=lambda one: one.latency_ms)
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    said = [f"{listed} {'has' if len(names) == 1 else 'have'} the best {title}, {number(best)}."]
    gains = ((small, "smallest and the fastest"),) if small is fast else ((small, "smallest"), (fast, "fastest"))
    for one, gain in gains:
        if one is first:
            said.append(f"'{one.name}' is the {gain}.")
            continue
        gap = one.minus(first)
        sure = "excludes" if gap.low > 0 or gap.high < 0 else "includes"
        smaller, faster = first.size_bytes / one.size_bytes, first.latency_ms / one.latency_ms
        size = f"{times(smaller, 'smaller', 'as large')} and {times(faster, 'as fast', 'as slow')}"
        difference = shown(gap, metric).mean
        words = f"{difference:.3f} times the {title}" if metric is PERPLEXITY else f"{difference:+.4f} {title}"
        said.append(
            f"'{one.name}' is the {gain}: {size} as '{first.name}' with {words}, whose 95 % interval over paired "
            f"samples {sure} no difference."
        )
    return said


def times(ratio: float, more: str, less: str) -> str:
    """A ratio in words that never speak of less than one time."""
    return f"{ratio:.1f} times {more}" if ratio >= 1 else f"{1 / ratio:.1f} times {less}"
