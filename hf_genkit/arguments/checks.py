"""Checks of single values, each of which raises one sentence."""

import difflib
import json
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
