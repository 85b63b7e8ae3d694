"""Models side by side: accuracy with interval, parameters, bytes and latency, as rows for a terminal, a card, a JSON."""

from dataclasses import dataclass, field

from .statistics import Interval, mean_interval, paired_difference, wilson_interval


@dataclass
class ComparedModel:
    """
    One line of a comparison.

    Args:
        name (`str`): What the model is, such as "student, distilled".
        accuracies (`list[float]`): One for each seed.
        samples (`int`): How many labelled items each was measured on.
        efficiency (`dict`): From [`measure_efficiency`].
        agreement (`list[float]`, *optional*): Share of items on which it answers as the teacher, for each seed.
    """

    name: str
    accuracies: list[float]
    samples: int
    efficiency: dict
    agreement: list[float] = field(default_factory=list)

    @property
    def interval(self) -> Interval:
        """95 % interval: of the mean over seeds, or over the samples where there is one run."""
        if len(self.accuracies) > 1:
            return mean_interval(self.accuracies)
        return wilson_interval(round(self.accuracies[0] * self.samples), self.samples)

    def row(self) -> dict[str, str]:
        """The model as a row of a table."""
        over = f"{len(self.accuracies)} seeds" if len(self.accuracies) > 1 else f"{self.samples:,} samples"
        spread = self.efficiency["latency_ms_iqr"]
        return {
            "Model": self.name,
            "Accuracy": f"{sum(self.accuracies) / len(self.accuracies):.4f}",
            "95 % interval": f"{self.interval.low:.4f} to {self.interval.high:.4f} ({over})",
            "Agrees with teacher": f"{sum(self.agreement) / len(self.agreement):.4f}" if self.agreement else "",
            "Parameters": f"{self.efficiency['parameters']:,}",
            "On disk": f"{self.efficiency['size_bytes'] / 1e6:.2f} MB",
            "Latency": f"{self.efficiency['latency_ms']:.2f} ms ({spread[0]:.2f} to {spread[1]:.2f})",
        }


def describe_difference(better: ComparedModel, base: ComparedModel) -> str:
    """One sentence on the paired difference of two models that were trained with the same seeds."""
    difference = paired_difference(better.accuracies, base.accuracies)
    sentence = f"{better.name} minus {base.name}: {difference.mean:+.4f} accuracy"
    if len(better.accuracies) == 1:
        return f"{sentence} (one seed, so no interval)."
    verdict = "includes zero: no difference shown" if difference.low <= 0 <= difference.high else "excludes zero"
    return (
        f"{sentence}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f} over {difference.n} paired seeds "
        f"({verdict})."
    )


def text_table(rows: list[dict[str, str]]) -> str:
    """Rows as aligned columns for a terminal; columns that are empty in every row are left out."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    lines = [[name.ljust(widths[name]) for name in columns], ["-" * widths[name] for name in columns]]
    lines += [[row[name].ljust(widths[name]) for name in columns] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)
