"""Checks of single values, each of which raises one sentence."""

import difflib
import json
from collections.abc import Sequence
from typing import Any


def nearest(word: str, known: list[str]) -> str:
    """Returns " (did you mean 'x'?)" for the known word closest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def check_range(owner: Any, name: str, low: float, high: float = float("inf"), *, above: bool = False) -> None:
    """
    Raises a `ValueError` that names the value and the range unless `low <= owner.name <= high`.

    Args:
        owner (`Any`): The dataclass instance that holds the value; a value of `None` passes.
        name (`str`): The field to check.
        low (`float`): The smallest value allowed.
        high (`float`, *optional*, defaults to infinity): The largest value allowed.
        above (`bool`, *optional*, defaults to `False`): Whether `low` itself is refused.
    """
    value = getattr(owner, name)
    if value is None or (low < value <= high if above else low <= value <= high):
        return
    allowed = f"above {low}" if above else f"at least {low}"
    if high != float("inf"):
        allowed += f" and at most {high}"
    raise ValueError(f"`{name}` is {value}, but it must be {allowed}.")


def check_choice(name: str, value: str, allowed: list[str]) -> None:
    """Raises a `ValueError` that names `value` and what is allowed unless it is one of `allowed`."""
    if value not in allowed:
        names = ", ".join(allowed) if len(allowed) <= 20 else f"{len(allowed)} known names"
        raise ValueError(f"`{name}` is '{value}', but it must be one of {names}{nearest(value, allowed)}.")


def parse_json(name: str, text: str) -> dict:
    """A JSON object given as an option's text; a `ValueError` names the option if it is none."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` is '{text}', but it must be a JSON object such as '{{\"key\": 1}}'.")
    return value


def parse_terms(name: str, value: dict | str | None, known: Sequence[str]) -> dict[str, float]:
    """
    The terms of a sum of losses and their weights.

    Args:
        name (`str`): The option, for messages.
        value (`dict` or `str`, *optional*): A term's name, or names and weights, also as a JSON object's text.
        known (`Sequence[str]`): The names there are.

    Returns:
        `dict[str, float]`: Name to weight; 1.0 for a name alone, empty for `None`.

    Raises:
        `ValueError`: A name is unknown, or a weight is not a number above 0.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = parse_json(name, value) if value.startswith("{") else {value: 1.0}
    for term, weight in value.items():
        if term not in known:
            raise ValueError(
                f"`{name}` holds '{term}', but it takes {', '.join(known)}{nearest(str(term), list(known))}."
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise ValueError(f"`{name}` gives '{term}' the weight {weight!r}, but it must be a number above 0.")
    return {term: float(weight) for term, weight in value.items()}
