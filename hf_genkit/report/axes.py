"""The axis of a chart: from values to places, with ticks at round values."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Axis:
    """
    An axis.

    Args:
        low, high (`float`): Its ends.
        ticks (`list[tuple[float, str]]`): Round values with their texts.
        is_log (`bool`): Whether it is logarithmic.
        start, end (`float`): The places of its ends.
    """

    low: float
    high: float
    ticks: list[tuple[float, str]]
    is_log: bool
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, values: list[float], is_log: bool) -> "Axis":
        """The axis that shows all of these values, which are finite, and above 0 where it is logarithmic."""
        low, high = (min(values), max(values)) if values else (1, 10) if is_log else (0, 1)
        if is_log:
            low, high = low / 1.4, high * 1.4
            ticks = _log_ticks(low, high)
        else:
            if low == high:
                margin = abs(low) * 0.1 or 1
                low, high = low - margin, high + margin
            ticks = _linear_ticks(low, high)
            low, high = ticks[0], ticks[-1]
        return cls(low, high, list(zip(ticks, _tick_texts(ticks, is_log), strict=True)), is_log)

    def between(self, start: float, end: float) -> "Axis":
        """The same axis from one place to another."""
        return replace(self, start=start, end=end)

    def __call__(self, value: float) -> float:
        """Where a value is; what lies beyond the ends is put there."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _linear_ticks(low: float, high: float) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high).tolist()


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, where there are few of them also twice and five times these, or else as on a linear axis."""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    step = -(-(last - first) // 8) or 1
    for factors in ((1,), (1, 2, 5)):
        ticks = [factor * 10.0**power for power in range(first, last + 1) if power % step == 0 for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks
    return [tick for tick in _linear_ticks(low, high) if low <= tick <= high]


def _tick_texts(ticks: list[float], is_log: bool) -> list[str]:
    """Ticks with commas between thousands; those of a linear axis with the same number of digits."""
    if any(tick and not 1e-4 <= abs(tick) < 1e7 for tick in ticks):
        return [f"{tick:.4g}".replace("e+0", "e").replace("e-0", "e-") for tick in ticks]
    texts = [f"{round(tick, 10):,.10g}" for tick in ticks]
    decimals = max(len(text.partition(".")[2]) for text in texts)
    return texts if is_log else [f"{tick:,.{decimals}f}" for tick in ticks]
