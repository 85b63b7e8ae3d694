"""A recipe's options, and a run of it in a process of its own that is watched while it trains."""

import copy
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..arguments import GenkitParser, check_choice, nearest


POLL_SECONDS = 0.5
SECONDS_TO_END = 10
STATE_FILE, RESULTS_FILE = "trainer_state.json", "results.json"
SET_BY_THE_SEARCH = ("config", "output_dir", "resume_from_checkpoint")
LAUNCHERS_ERRORS = ("CalledProcessError", "ChildFailedError")

Log = list[dict[str, Any]]


class TrialFailed(Exception):
    """A trial that came to no value; the message is one sentence."""


class Recipe:
    """
    A recipe script, what all of its runs share, and its parser.

    Args:
        script (`str` or `Path`): A script that reads its options through [`~hf_genkit.GenkitParser`].
        base_config (`str`, *optional*): YAML file of its options; defaults to the recipe's own, as without `--config`.
        options (`Mapping[str, Any]`, *optional*): Options that win over those of the file.
        launcher (`str`, *optional*): What starts the script, such as `"accelerate launch"`; defaults to Python.

    Raises:
        `ValueError`: There is no such recipe, or it doesn't know an option.
    """

    def __init__(
        self,
        script: str | Path,
        base_config: str | None = None,
        options: Mapping[str, Any] | None = None,
        launcher: str | None = None,
    ):
        self.script = Path(script)
        self.has_launcher = launcher is not None
        self.launcher = shlex.split(launcher) if self.has_launcher else [sys.executable]
        self.parser = parser_of(self.script)
        self.options = dict(options or {})
        if base_config is None and "dataset_name" not in self.options and self.parser.default_config is not None:
            base_config = str(self.parser.default_config)
        self.base_config = base_config
        self.base = {**({} if base_config is None else self.parser.read_config(base_config)), **self.options}
        for name in self.options:
            self.option_type(name, "options")

    def option_type(self, name: str, source: str = "space") -> Callable | None:
        """
        What turns the option's word into its value, such as `int`; `None` for a key of a JSON option.

        Args:
            name (`str`): The option.
            source (`str`, *optional*, defaults to `"space"`): Who names it, for the message.

        Raises:
            `ValueError`: The recipe has no such option, or it is the search's own.
        """
        option, _, key = name.partition(".")
        types = {action.dest: action.type for action in self.parser._actions if action.dest != "help"}
        if option not in types:
            raise ValueError(
                f"`{source}` has '{name}', which {self.script.name} has no option for{nearest(name, [*types])}."
            )
        if option in SET_BY_THE_SEARCH:
            raise ValueError(f"`{source}` has '{name}', which the search sets itself.")
        place = self.base
        for parent in name.split(".")[:-1]:
            place = place.get(parent) or {}
            if not isinstance(place, dict):
                raise ValueError(f"`{source}` has '{name}', but '{parent}' is {place!r}, which has no keys.")
        return None if key else types[option]

    def merged(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All options of a run with these values; `"a.b"` changes the key `b` of the option `a`."""
        merged = copy.deepcopy(self.base)
        for name, value in values.items():
            *parents, last = name.split(".")
            place = merged
            for parent in parents:
                place[parent] = place.get(parent) or {}
                place = place[parent]
            place[last] = value
        return merged

    def check(self, values: Mapping[str, Any]) -> None:
        """Raises a `ValueError` with the recipe's own words unless its parser takes these values."""
        try:
            self.parser.parse_args_into_dataclasses(self.words(values, "unused"))
        except ValueError as error:
            given = ", ".join(f"{name} {value}" for name, value in values.items())
            raise ValueError(f"{self.script.name} refuses {given}: {error}") from error

    def words(self, values: Mapping[str, Any], folder: str | Path) -> list[str]:
        """The command line of a run, which pushes nothing."""
        config = [] if self.base_config is None else ["--config", self.base_config]
        changed = {*self.options, *(name.partition(".")[0] for name in values)}
        options = {name: value for name, value in self.merged(values).items() if name in changed}
        if self.base.get("push_to_hub"):
            options["push_to_hub"] = False
        return [*config, *self.parser.words({**options, "output_dir": str(folder)})]

    def run(
        self, values: Mapping[str, Any], folder: Path, watch: Callable[[Log], None], worker: int = 0
    ) -> dict[str, float]:
        """
        Runs the recipe in a process of its own, whose output goes to `<folder>.log`.

        Args:
            values (`Mapping[str, Any]`): The values to try.
            folder (`Path`): The output folder of the run.
            watch (`Callable`): Is given the log so far again and again; whatever it raises ends the process.
            worker (`int`, *optional*, defaults to 0): Where there are several GPUs, which of them the run has.

        Returns:
            `dict[str, float]`: See [`read_metrics`].

        Raises:
            [`TrialFailed`]: The process ended with an error.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(f"{folder.name}.log")
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*self.launcher, str(self.script), *self.words(values, folder)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **({} if self.has_launcher else device_of(worker))},
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    watch(read_log(folder))
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(POLL_SECONDS)
            finally:
                end(process)
        if process.returncode != 0:
            raise TrialFailed(last_error(log.read_text(encoding="utf-8", errors="replace"), process.returncode))
        watch(read_log(folder))
        return read_metrics(folder)


def check_single_process() -> None:
    """Raises a `ValueError` in one of several processes, each of which would run the same search."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "A search runs in one process: start it with `python`, and give trials of several processes a --launcher."
        )


def recipe_script(name: str, *folders: Path) -> Path:
    """The script of a recipe: a path that ends in .py, or one by its name of the first folder that has it."""
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise ValueError(f"`recipe` is '{name}', but there is no such file.")
        return Path(name)
    scripts = {
        path.stem: path for folder in reversed(folders) for path in folder.glob("*.py") if path.stem != "search"
    }
    check_choice("recipe", name, sorted(scripts))
    return Path(os.path.relpath(scripts[name]))


class _Reached(BaseException):
    """Ends a script where it reads its command line."""


def parser_of(script: Path) -> GenkitParser:
    """
    The parser of a recipe, which is run up to the place where it reads its command line. Its errors are `ValueError`s.
    """
    if "GenkitParser" not in script.read_text(encoding="utf-8"):
        raise ValueError(f"'{script}' reads no options through GenkitParser, so a search can't set any.")

    def refuse(message: str) -> None:
        raise ValueError(message)

    def stop(parser: GenkitParser, args: list[str] | None = None) -> None:
        parser.error = refuse
        raise _Reached(parser)

    original, path, argv = GenkitParser.parse_args_into_dataclasses, list(sys.path), sys.argv
    GenkitParser.parse_args_into_dataclasses = stop
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except _Reached as reached:
        return reached.args[0]
    finally:
        GenkitParser.parse_args_into_dataclasses, sys.path[:], sys.argv = original, path, argv
    raise ValueError(f"'{script}' reads no options when it is run, so a search can't set any.")


def device_of(worker: int) -> dict[str, str]:
    """The environment that shows a worker one of several GPUs; empty where there are fewer."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": devices[worker % len(devices)]} if len(devices) > 1 else {}


def end(process: subprocess.Popen) -> None:
    """Ends a process and those that it started, unless it is over."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_log(folder: Path) -> Log:
    """What a run has logged so far."""
    path = folder / STATE_FILE
    return json.loads(path.read_text(encoding="utf-8"))["log_history"] if path.is_file() else []


def read_metrics(folder: Path) -> dict[str, float]:
    """All numbers that a run left: those of results.json, dotted where they lie deeper, and the last logged ones."""
    path = folder / RESULTS_FILE
    metrics: dict[str, float] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            metrics[prefix] = value

    if path.is_file():
        add("", json.loads(path.read_text(encoding="utf-8")))
    for entry in read_log(folder):
        add("", entry)
    return metrics


def last_error(output: str, status: int) -> str:
    """The line of a failed process's output that says why, else its last one, else its exit status."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"([\w.]+: )?([\w.]*(Error|Exception)\b|error:)", line)]
    own = [line for line in errors if not any(name in line for name in LAUNCHERS_ERRORS)]
    return (own or lines or [f"exit status {status}"])[-1]
