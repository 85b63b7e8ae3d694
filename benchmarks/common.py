"""What the benchmarks share: what they ran on, how two contenders take turns, and the JSON that holds a result."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("accelerate", "datasets", "diffusers", "hf-genkit", "numpy", "torch", "transformers")


def environment() -> dict:
    """The machine, the versions, the command and the commit that a result belongs to."""
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "hf_genkit", "benchmarks/*.py", "recipes")),
        "hardware": {
            "cores": os.cpu_count(),
            "cpu": _cpu_name(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def write_result(
    name: str,
    *,
    claim: str,
    value: float,
    bar: float,
    at_least: bool,
    spread: tuple[float, float],
    spread_kind: str,
    seconds: float,
    details: dict,
    unit: str = "x",
) -> dict:
    """
    Prints a result and writes it to `results/<name>.json`, keys sorted.

    Args:
        name (`str`): The script, and after a hyphen which of its claims.
        claim (`str`): What was measured, in one phrase for the table.
        value (`float`): The figure.
        bar (`float`): What it is held against.
        at_least (`bool`): Whether the figure must reach the bar or stay under it; of a confidence interval the
            lower end must lie above the bar.
        spread (`tuple[float, float]`): Lower and upper end.
        spread_kind (`str`): What the spread is: "quartiles of ..." or "95 % interval ...".
        seconds (`float`): Wall-clock time of the whole measurement.
        details (`dict`): Whatever explains the figure.
        unit (`str`, *optional*, defaults to `"x"`):
            "x" for a ratio, "accuracy" for a difference of accuracies, "nats" for a log-likelihood, "AUROC" for an
            area under the ROC curve, "WER" for a difference of word error rates, "FD" for one of Frechet distances, "min" for
            minutes, "ms" for milliseconds, "GB" for gigabytes, "gray" for a mean absolute error of pixels from 0 to 255,
            "%" and "ppm" for shares.

    Returns:
        `dict`: What was written.
    """
    low, high = spread
    if spread_kind.startswith("95 % interval"):
        passed = low > bar
    else:
        passed = value >= bar if at_least else value <= bar
    result = {
        "name": name,
        "claim": claim,
        "value": round(value, 5),
        "bar": bar,
        "at_least": at_least,
        "passed": passed,
        "spread": [round(low, 5), round(high, 5)],
        "spread_kind": spread_kind,
        "unit": unit,
        "seconds": round(seconds, 1),
        "details": details,
        **environment(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    verdict = "passed" if result["passed"] else "MISSED"
    print(f"{name}: {value:.4g} {unit} ({spread_kind} {low:.4g} to {high:.4g}), bar {bar}: {verdict}", flush=True)
    return result


def alternate(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """
    Runs contenders in turns, there and back (A B B A) in each round, after one round that does not count.

    Args:
        contenders (`dict[str, Callable]`): Name to a function that does the work once and returns its seconds.
        rounds (`int`): How many rounds count.

    Returns:
        `dict[str, list[float]]`: The seconds of each contender in each round, its two runs together.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for work in contenders.values():
        work()
    for number in range(1, rounds + 1):
        spent = dict.fromkeys(names, 0.0)
        for name in names + names[::-1]:
            spent[name] += contenders[name]()
        for name in names:
            seconds[name].append(spent[name])
        print(f"round {number}: " + ", ".join(f"{name} {spent[name]:.2f} s" for name in names), flush=True)
    return seconds


def ratios(numerator: list[float], denominator: list[float]) -> tuple[float, tuple[float, float]]:
    """Median and quartiles of the ratios of two contenders' paired runs."""
    pairs = [a / b for a, b in zip(numerator, denominator, strict=True)]
    quartiles = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return statistics.median(pairs), (quartiles[0], quartiles[2])


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a function, all threads of the process together."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _git(*words: str) -> str:
    """What git says; on a machine that has a copy without a history, the variable COMMIT says which commit that is."""
    if not (ROOT / ".git").exists():
        return os.environ["COMMIT"] if words[0] == "rev-parse" else ""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
