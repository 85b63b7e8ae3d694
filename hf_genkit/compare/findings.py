"""The results of a comparison as its report reads them: by model, over seeds, as short texts."""

import statistics
from collections.abc import Callable
from pathlib import PurePath

from ..arguments.comparison_arguments import BUDGET
from ..evaluation import Interval, mean_interval


PREFIXES = ("", "k", "M", "G", "T", "P", "E")
UNIT_WORDS = {"s": "seconds", "m": "minutes", "h": "hours", "steps": "steps", "flops": "FLOPs"}


def short_names(names: list[str]) -> list[str]:
    """Models as a report calls them: by the last parts of their Hub ids or folders, as many as tell them apart."""
    parts = [PurePath(name).parts for name in names]
    for count in range(1, max(map(len, parts)) + 1):
        short = ["/".join(each[-count:]) for each in parts]
        if len(set(short)) == len(names):
            return short
    return names


class Found:
    """
    The results of a comparison, by model.

    Args:
        results (`dict`): As in results.json.
    """

    def __init__(self, results: dict):
        self.results, self.slug, self.command = results, results["slug"], results["command"]
        self.runs: dict[str, list[dict]] = {}
        for run in results["runs"]:
            self.runs.setdefault(run["name"], []).append(run)
        self.names = list(self.runs)
        self.whole = {name: [run for run in runs if run["finite"]] for name, runs in self.runs.items()}
        self.judged = [name for name in self.names if self.whole[name]]
        self.is_trained = "steps" in results["runs"][0]
        self.seeds = results["settings"]["seeds"]

    def values(self, name: str, read: Callable[[dict], float]) -> list[float]:
        """A figure of each finished run of a model."""
        return [read(run) for run in self.whole[name]]

    def scores(self, name: str, metric: str, point: int = -1) -> list[float]:
        """A score for each seed; of a diffusion model the one with that point of its numbers of steps."""
        return self.values(name, lambda run: run["points"][point]["scores"][f"{metric}_{self.slug}"])

    def interval(self, name: str, metric: str, point: int = -1) -> Interval:
        """Its mean and interval over the seeds."""
        return mean_interval(self.scores(name, metric, point))

    def over_seeds(self, name: str, read: Callable[[dict], float]) -> Interval:
        """The mean and interval of a figure over the runs where it is a number."""
        values = [value for value in self.values(name, read) if value == value]
        return mean_interval(values) if values else Interval(float("nan"), None, None, 0)

    def median(self, name: str, read: Callable[[dict], float]) -> float:
        """The median over a model's runs."""
        return statistics.median(self.values(name, read))

    def by_fd(self) -> list[str]:
        """The models that came to an end, the nearest to real pictures first."""
        return sorted(self.judged, key=lambda name: self.interval(name, "fd").mean)


def number(value: float | None) -> str:
    """Three or four digits, without an exponent for everyday sizes."""
    if value is None or value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def with_ends(interval: Interval, least: float | None = None, most: float | None = None) -> str:
    """A mean with its interval, where it has one, cut to the values that there can be."""
    if interval.low is None:
        return number(interval.mean)
    low = interval.low if least is None else max(least, interval.low)
    high = interval.high if most is None else min(most, interval.high)
    return f"{number(interval.mean)} ({number(low)} to {number(high)})"


def article(name: str) -> str:
    """A family as it stands in a sentence; the name of a repo as it is."""
    return f"the {name}" if name in ("VAE", "GAN", "diffusion model") else f"'{name}'"


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def milliseconds(seconds: float) -> str:
    """A short time with its unit."""
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"


def flops(value: float) -> str:
    """A number of FLOPs with its unit."""
    power = min(max(0, int(f"{value:.2e}".partition("e")[2]) // 3), len(PREFIXES) - 1)
    return f"{number(value / 1000**power)} {PREFIXES[power]}FLOPs"


def budget_words(text: str) -> str:
    """A budget as it stands in a sentence: "30s" is 30 seconds."""
    amount, unit = BUDGET.fullmatch(text.strip()).groups()
    words = UNIT_WORDS[unit.lower()]
    return f"{amount} {words.removesuffix('s') if float(amount) == 1 and unit.lower() != 'flops' else words}"


def seconds_of(run: dict) -> float:
    """How long a picture takes among 100, of a diffusion model with the most steps."""
    return run["points"][-1]["seconds"]
