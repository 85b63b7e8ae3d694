"""Models side by side: a metric with its interval, parameters, bytes and times, as rows for a terminal, a card, a JSON."""

from dataclasses import dataclass, field

from .statistics import Interval, mean_interval, paired_difference, ratio_interval, wilson_interval


@dataclass(frozen=True)
class ComparedMetric:
    """
    What models are compared by.

    Args:
        key (`str`): Its id on the Hub, and its name in what a trainer's `evaluate` returns.
        title (`str`): What people call it.
        lower_is_better (`bool`, *optional*, defaults to `False`): Whether less of it is better.
        digits (`int`, *optional*, defaults to 4): How many decimals are shown.
    """

    key: str
    title: str
    lower_is_better: bool = False
    digits: int = 4

    def shown(self, value: float, sign: str = "") -> str:
        """A value as text, with a sign if that is `"+"`."""
        return f"{value:{sign}.{self.digits}f}"


ACCURACY = ComparedMetric("accuracy", "Accuracy")
PERPLEXITY = ComparedMetric("perplexity", "Perplexity", lower_is_better=True, digits=2)
WORD_ERRORS = ComparedMetric("wer", "Word error rate", lower_is_better=True)


@dataclass
class ComparedModel:
    """
    One line of a comparison.

    Args:
        name (`str`): What the model is, such as "student, distilled".
        values (`list[float]`): The metric, one for each seed.
        samples (`int`): How many labelled items each was measured on.
        efficiency (`dict`): From [`measure_efficiency`].
        agreement (`list[float]`, *optional*): Share of items on which it answers as the teacher, for each seed.
        metric ([`ComparedMetric`], *optional*, defaults to `ACCURACY`): What was measured.
        parts, wholes (`list[float]`, *optional*):
            Of a metric that is a ratio of sums, such as wrong words to spoken words, the two for each sample, of the first
            seed.
        elsewhere (`dict[str, list[float]]`, *optional*): The metric on other data sets, by their names.
        seconds_per_clip (`float`, *optional*): How long a model of speech takes to write down a clip.
    """

    name: str
    values: list[float]
    samples: int
    efficiency: dict
    agreement: list[float] = field(default_factory=list)
    metric: ComparedMetric = ACCURACY
    parts: list[float] = field(default_factory=list)
    wholes: list[float] = field(default_factory=list)
    elsewhere: dict[str, list[float]] = field(default_factory=dict)
    seconds_per_clip: float | None = None

    @property
    def interval(self) -> Interval:
        """
        95 % interval: of the mean over seeds, or over the samples where there is one run; without ends for a single
        perplexity.
        """
        if len(self.values) > 1:
            return mean_interval(self.values)
        if self.wholes:
            return ratio_interval(self.parts, self.wholes)
        if self.metric is ACCURACY:
            return wilson_interval(round(self.values[0] * self.samples), self.samples)
        return mean_interval(self.values)

    def row(self) -> dict[str, str]:
        """The model as a row of a table."""
        return {
            "Model": self.name,
            self.metric.title: self.metric.shown(_mean(self.values)),
            "95 % interval": self._interval(),
            **{f"On {name}": self.metric.shown(_mean(values)) for name, values in self.elsewhere.items()},
            "Agrees with teacher": f"{_mean(self.agreement):.4f}" if self.agreement else "",
            **self._costs(),
        }

    def _interval(self) -> str:
        interval = self.interval
        if interval.low is None:
            return ""
        over = f"{len(self.values)} seeds" if len(self.values) > 1 else f"{self.samples:,} samples"
        return f"{self.metric.shown(interval.low)} to {self.metric.shown(interval.high)} ({over})"

    def _costs(self) -> dict[str, str]:
        low, high = self.efficiency["latency_ms_iqr"]
        return {
            "Parameters": f"{self.efficiency['parameters']:,}",
            "On disk": f"{self.efficiency['size_bytes'] / 1e6:.2f} MB",
            "Latency": f"{self.efficiency['latency_ms']:.2f} ms ({low:.2f} to {high:.2f})",
            "Time per clip": "" if self.seconds_per_clip is None else f"{self.seconds_per_clip:.2f} s",
        }


def describe_difference(better: ComparedModel, base: ComparedModel) -> str:
    """One sentence on the paired difference of two models that were trained with the same seeds, or tested on the same samples."""
    metric, over = better.metric, f"{len(better.values)} paired seeds"
    difference = paired_difference(better.values, base.values)
    if len(better.values) == 1 and better.wholes:
        parts = [one - other for one, other in zip(better.parts, base.parts, strict=True)]
        difference, over = ratio_interval(parts, better.wholes), f"{len(parts)} paired samples of one seed"
    unit = f"{metric.title.lower()}{', where less is better' if metric.lower_is_better else ''}"
    sentence = f"{better.name} minus {base.name}: {metric.shown(difference.mean, '+')} {unit}"
    if difference.low is None:
        return f"{sentence} (one seed, so no interval)."
    verdict = "includes zero: no difference shown" if difference.low <= 0 <= difference.high else "excludes zero"
    return (
        f"{sentence}, 95 % interval {metric.shown(difference.low, '+')} to {metric.shown(difference.high, '+')} over {over} "
        f"({verdict})."
    )


def text_table(rows: list[dict[str, str]]) -> str:
    """Rows as aligned columns for a terminal; columns that are empty in every row are left out."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    lines = [[name.ljust(widths[name]) for name in columns], ["-" * widths[name] for name in columns]]
    lines += [[row[name].ljust(widths[name]) for name in columns] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
