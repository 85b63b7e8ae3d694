"""Reading a GAN's losses and probes from lists or from what `Trainer` has logged."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import TrainerState


STATE_NAME = "trainer_state.json"
LOSSES = ("generator_loss", "discriminator_loss")
PROBES = (
    "real_accuracy",
    "fake_accuracy",
    "logit_gap",
    "generator_grad_norm",
    "discriminator_grad_norm",
    "sample_diversity",
    "spectral_norm",
)


@dataclass
class GANLog:
    """
    What was logged, one series a key.

    Args:
        values (`dict[str, numpy.ndarray]`): The values of each key, in the order of training.
        positions (`dict[str, numpy.ndarray]`): Where each of them was logged.
        axis (`str`): What the positions count: `"step"`, `"epoch"`, or `"value"` for lists.
    """

    values: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]
    axis: str


def read_gan_log(generator_losses, discriminator_losses, trainer_state) -> GANLog:
    """The log of either two losses or a trainer state, as [`analyze_gan_stability`] describes them."""
    if trainer_state is None and discriminator_losses is None and _is_state(generator_losses):
        generator_losses, trainer_state = None, generator_losses
    if (trainer_state is None) == (generator_losses is None and discriminator_losses is None):
        raise ValueError("analyze_gan_stability needs either generator and discriminator losses or a trainer state.")
    if trainer_state is not None:
        return _from_entries(_entries(trainer_state))
    values = {
        "generator_loss": _numbers("generator_losses", generator_losses),
        "discriminator_loss": _numbers("discriminator_losses", discriminator_losses),
    }
    longest = max(len(series) for series in values.values())
    return GANLog(values, {key: np.linspace(longest / len(v), longest, len(v)) for key, v in values.items()}, "value")


def _is_state(source) -> bool:
    return isinstance(source, (str, Path, Mapping, TrainerState)) or (
        isinstance(source, Sequence) and len(source) > 0 and isinstance(source[0], Mapping)
    )


def _numbers(name: str, losses: float | Iterable[float] | None) -> np.ndarray:
    try:
        numbers = np.atleast_1d(np.asarray(losses, dtype=float))
    except (TypeError, ValueError):
        numbers = None
    if losses is None or numbers is None or numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"`{name}` is {losses!r:.80}, but it must be a number or a list with at least one number.")
    return numbers


def _entries(state: str | Path | Mapping | TrainerState | Sequence[Mapping]) -> list[Mapping]:
    """The entries of a log history, wherever it is."""
    if isinstance(state, (str, Path)):
        file = _state_file(Path(state))
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is not a trainer state: {error}.") from error
    if isinstance(state, TrainerState):
        return state.log_history
    if isinstance(state, Mapping):
        if "log_history" not in state:
            raise ValueError(f"A trainer state has a 'log_history', but this one has only {sorted(state)}.")
        return state["log_history"]
    return state


def _state_file(path: Path) -> Path:
    """`path` itself, or the trainer state of a run's or checkpoint's folder: its own, or its last checkpoint's."""
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"There is no trainer state at '{path}'.")
        return path
    if (path / STATE_NAME).exists():
        return path / STATE_NAME
    found = {int(file.parent.name.split("-")[1]): file for file in path.glob(f"checkpoint-[0-9]*/{STATE_NAME}")}
    if not found:
        raise FileNotFoundError(f"There is no {STATE_NAME} in '{path}' or in a checkpoint in it.")
    return found[max(found)]


def _from_entries(entries: Sequence[Mapping]) -> GANLog:
    axis = "step" if any("step" in entry for entry in entries) else "epoch"
    values, positions = {}, {}
    for key in (*LOSSES, *PROBES):
        logged = [(entry.get(axis, number), entry[key]) for number, entry in enumerate(entries, 1) if key in entry]
        if logged:
            positions[key], values[key] = (np.asarray(column, dtype=float) for column in zip(*logged, strict=True))
    missing = [key for key in LOSSES if key not in values]
    if missing:
        keys = sorted({key for entry in entries for key in entry})
        raise ValueError(f"The trainer state has no '{missing[0]}'; what it logs is {', '.join(keys) or 'nothing'}.")
    return GANLog(values, positions, axis)
