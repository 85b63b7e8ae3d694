"""What a hyperparameter search may try: ranges and choices of a recipe's options, checked before any trial."""

import itertools
import json
import math
import random
from collections.abc import Mapping
from typing import Any

from ..arguments import nearest
from .trial_process import Recipe


KEYS = ["low", "high", "log", "step", "choices"]


def optuna():
    """The module, or the `ImportError` that says how to get it."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError('A hyperparameter search needs optuna: pip install "hf-genkit[search]"') from error
    return optuna


class SearchSpace:
    """
    Ranges and choices by name of an option.

    Args:
        space (`Mapping[str, Mapping]`):
            For each option `{"low": ..., "high": ...}` with `"log": True` or a `"step"`, both ends included, or
            `{"choices": [...]}` of numbers, words, booleans, lists or dictionaries. `"model_config.latent_dim"` is a
            key of an option that holds a dictionary.
        recipe ([`Recipe`], *optional*):
            Whose options they are: its parser then says which exist, whether a range is one of whole numbers, and
            whether it takes both ends of a range and every choice. Without it a range is one of whole numbers where
            both ends are.

    Raises:
        `ValueError`: A range is empty or no range, a choice is missing, or the recipe refuses an option or its value.
        `ImportError`: optuna is not installed.

    Example:

    ```python
    >>> from hf_genkit.tuning import SearchSpace
    >>> space = SearchSpace({"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})
    >>> space.distributions["learning_rate"].log
    True
    ```
    """

    def __init__(self, space: Mapping[str, Mapping[str, Any]], recipe: Recipe | None = None):
        self.distributions: dict[str, Any] = {}
        self._choices: dict[str, dict[Any, Any]] = {}
        self._ends: dict[str, list[Any]] = {}
        for name, entry in space.items():
            kind = None if recipe is None else recipe.option_type(name)
            if not isinstance(entry, Mapping) or not ("choices" in entry or {"low", "high"} <= {*entry}):
                raise ValueError(f"`space` has {entry!r} for '{name}', but it must hold low and high, or choices.")
            for key in entry:
                if key not in KEYS:
                    raise ValueError(f"`space` has the key '{key}' for '{name}'{nearest(key, KEYS)}.")
            if "choices" in entry:
                self._add_choices(name, entry)
            else:
                self._add_range(name, entry, kind)
        if recipe is not None:
            first = {name: ends[0] for name, ends in self._ends.items()}
            for name, ends in self._ends.items():
                for value in ends:
                    recipe.check({**first, name: value})

    def _add_choices(self, name: str, entry: Mapping) -> None:
        choices = entry["choices"]
        if len(entry) > 1 or not isinstance(choices, list) or not choices or None in choices:
            raise ValueError(
                f"`space` has {dict(entry)} for '{name}', but choices must be a list of one or more values."
            )
        labels = [json.dumps(choice) if isinstance(choice, list | dict) else choice for choice in choices]
        if len(set(labels)) < len(labels):
            raise ValueError(f"`space` has the choices {choices} for '{name}', but two of them are the same.")
        self._choices[name] = dict(zip(labels, choices, strict=True))
        self._ends[name] = choices
        self.distributions[name] = optuna().distributions.CategoricalDistribution(labels)

    def _add_range(self, name: str, entry: Mapping, kind: type | None) -> None:
        low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
        said = f"`space` has {dict(entry)} for '{name}', but"
        numbers = [low, high] if step is None else [low, high, step]
        if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            raise ValueError(f"{said} low, high and step must be numbers.")
        if kind not in (int, float, None):
            raise ValueError(f"{said} it takes no range of numbers: give it choices.")
        whole = all(isinstance(number, int) for number in numbers)
        if kind is int and not whole:
            raise ValueError(f"{said} it takes whole numbers.")
        if not low < high:
            raise ValueError(f"{said} low must be below high.")
        if not isinstance(log, bool) or (log and step is not None):
            raise ValueError(f"{said} log must be true or false, and true only without a step.")
        if log and low <= 0:
            raise ValueError(f"{said} a range on a log scale must have a low above 0.")
        if step is not None and not 0 < step <= high - low:
            raise ValueError(f"{said} step must be above 0 and at most high - low.")
        distributions = optuna().distributions
        if kind is int or (kind is None and whole):
            self.distributions[name] = distributions.IntDistribution(low, high, log=log, step=step or 1)
        else:
            self.distributions[name] = distributions.FloatDistribution(low, high, log=log, step=step)
        self._ends[name] = [low, high]

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's parameters as the recipe's values: lists and dictionaries are kept as JSON in the study."""
        return {name: self._choices[name][value] if name in self._choices else value for name, value in params.items()}

    def grid(self, seed: int = 0) -> list[dict[str, Any]]:
        """
        All points of the space, in an order drawn with the seed, so that the first few are no corner of it.

        Raises:
            `ValueError`: A range has infinitely many points.
        """
        axes = []
        for name, distribution in self.distributions.items():
            if name in self._choices:
                axes.append(list(self._choices[name]))
                continue
            if distribution.step is None:
                raise ValueError(f"`space` gives '{name}' a range without a step, but a grid needs a step or choices.")
            steps = math.floor((distribution.high - distribution.low) / distribution.step + 1e-8)
            axes.append([distribution.low + i * distribution.step for i in range(steps + 1)])
        points = [dict(zip(self.distributions, point, strict=True)) for point in itertools.product(*axes)]
        random.Random(seed).shuffle(points)
        return points
