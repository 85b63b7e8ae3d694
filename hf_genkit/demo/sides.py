"""A model beside its teacher: the same input for both, what each answers, and how long it takes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from .loading import DemoModel


REPEATS = 5


def check_pair(student: DemoModel, teacher: DemoModel) -> None:
    """
    Raises:
        `ValueError`: The two are for different tasks, or tell different classes.
    """
    if student.kind != teacher.kind:
        raise ValueError(
            f"'{student.name}' is for {student.kind}, but the teacher '{teacher.name}' for {teacher.kind}."
        )
    if student.kind in ("diffusion", "vae", "gan"):
        raise ValueError(f"'{student.name}' draws pictures, and has no teacher to be shown beside.")
    if student.kind.endswith("classification"):
        ours, theirs = ([*each.model.config.id2label.values()] for each in (student, teacher))
        if ours != theirs:
            raise ValueError(
                f"'{student.name}' tells {_few(ours)}, but the teacher '{teacher.name}' tells {_few(theirs)}."
            )


def sides(student: DemoModel, teacher: DemoModel | None) -> dict[str, DemoModel]:
    """The models by what they are called on the page."""
    if teacher is None:
        return {f"{student.short_name} ({_size(student)})": student}
    return {f"Student ({_size(student)})": student, f"Teacher ({_size(teacher)})": teacher}


@torch.inference_mode()
def timed(calls: list[Callable[[], Any]], repeats: int = REPEATS) -> tuple[list, list[float]]:
    """
    What each call returns, and the median time of each in milliseconds. The calls take turns, after a round that isn't
    timed, so that a busy machine slows all of them alike.

    Args:
        calls (`list[Callable]`): What to run, one for each model.
        repeats (`int`, *optional*, defaults to 5): Number of timed rounds.
    """
    answers, milliseconds = [call() for call in calls], [[] for _ in calls]
    for _ in range(repeats):
        for call, own in zip(calls, milliseconds, strict=True):
            start = time.perf_counter()
            call()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            own.append(1000 * (time.perf_counter() - start))
    return answers, [statistics.median(own) for own in milliseconds]


def told_times(milliseconds: list[float], what: str = "a pass, the median of 5") -> str:
    """One sentence on the time of one model or of both."""
    if len(milliseconds) == 1:
        return f"{milliseconds[0]:.3g} ms {what}."
    ours, theirs = milliseconds
    ratio, word = (theirs / ours, "faster") if ours <= theirs else (ours / theirs, "slower")
    return f"{ours:.3g} ms against {theirs:.3g} ms {what}: **{ratio:.1f} times {word}**."


def _size(loaded: DemoModel) -> str:
    count = loaded.parameters
    return f"{count / 1e6:.3g} M parameters" if count >= 1e6 else f"{count:,} parameters"


def _few(names: list[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
