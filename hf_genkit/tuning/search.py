"""A hyperparameter search that can be stopped and gone on with: optuna's samplers and pruners over separate runs."""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ..arguments import SearchArguments, nearest
from .search_space import SearchSpace, optuna
from .trial_process import Log, TrialFailed


STUDY_FILE, TRIALS_FOLDER = "study.db", "trials"
DEFAULT_TRIALS = 20

RunTrial = Callable[[dict[str, Any], Path, Callable[[Log], None], int], dict[str, float]]


class MissingMetric(TrialFailed):
    """A run that ended well and has no value for an objective."""


class Stopped(Exception):
    """Another worker ended the search; what this one ran counts as never begun."""


class Search:
    """
    A search in a folder, which holds its study (SQLite) and a sub-folder for each trial.

    Trial i is drawn with a seed of its own, so a search that was stopped and gone on with tries the same values as one
    that was not (with one worker). A trial that a kill cut short is run again with its values and doesn't count.

    Args:
        args ([`~hf_genkit.arguments.SearchArguments`]): Objectives, sampler, pruner, trials, workers and folder.
        space ([`SearchSpace`]): What to try.
        identity (`Mapping[str, Any]`, *optional*): What else makes the search what it is, as JSON values.

    Raises:
        `ValueError`: The folder holds another search, or one that `args.resume` doesn't ask for, or it has none to go
            on with; or a grid has a range without a step.
        `ImportError`: optuna is not installed.
    """

    def __init__(self, args: SearchArguments, space: SearchSpace, identity: Mapping[str, Any] | None = None):
        self.args, self.space = args, space
        self.folder = Path(args.output_dir)
        self.points = space.grid(args.seed) if args.sampler == "grid" else []
        self.n_trials = args.n_trials or len(self.points) or DEFAULT_TRIALS
        if self.points:
            self.n_trials = min(self.n_trials, len(self.points))
        self.optuna = optuna()
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        self._lock = threading.Lock()
        self.study = self._open(
            json.loads(json.dumps({"space": args.space, "objectives": args.metrics, **(identity or {})}))
        )

    def _open(self, identity: dict):
        """The study of the folder, new or as it was left."""
        path = self.folder / STUDY_FILE
        if self.args.resume and not path.is_file():
            raise ValueError(f"There is no search to go on with in '{self.folder}'.")
        if not self.args.resume and (path.is_file() or (self.folder / TRIALS_FOLDER).exists()):
            raise ValueError(
                f"'{self.folder}' holds a search: pass --resume to go on with it, or choose another output_dir."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        study = self.optuna.create_study(
            storage=f"sqlite:///{path.absolute()}",
            study_name="search",
            pruner=self._pruner(),
            directions=list(self.args.metrics.values()),
            load_if_exists=True,
        )
        there = study.user_attrs.get("search", identity)
        for name in identity:
            if there.get(name) != identity[name]:
                raise ValueError(
                    f"'{self.folder}' holds another search ({name} {there.get(name)} there, {identity[name]} here): "
                    "choose another output_dir."
                )
        study.set_user_attr("search", identity)
        return study

    def notes(self) -> list[str]:
        """What should be known before the search begins."""
        notes = []
        if self.args.pruner != "none" and not self.prunes:
            notes.append("Pruning is off: it goes by a single objective.")
        for name in self.args.metrics:
            if name.startswith("test_"):
                notes.append(f"'{name}' is chosen on, so of the best trial it is no test any more: it is too good.")
        return notes

    @property
    def prunes(self) -> bool:
        """Whether a bad trial is ended early."""
        return self.args.pruner != "none" and len(self.args.metrics) == 1

    def _pruner(self):
        pruners = self.optuna.pruners
        if not self.prunes:
            return pruners.NopPruner()
        return pruners.MedianPruner() if self.args.pruner == "median" else pruners.HyperbandPruner()

    def _sampler(self, index: int):
        """What draws the values of the trial with this index."""
        seed = int(np.random.SeedSequence([self.args.seed, index]).generate_state(1)[0])
        samplers = self.optuna.samplers
        kinds = {"tpe": samplers.TPESampler, "gp": samplers.GPSampler}
        return kinds.get(self.args.sampler, samplers.RandomSampler)(seed=seed)

    def counted(self) -> list:
        """The trials that were begun, those aside that a kill cut short."""
        states = self.optuna.trial.TrialState
        trials = self.study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if trial.state != states.WAITING]
        return [trial for trial in begun if trial.state != states.FAIL or "error" in trial.user_attrs]

    def finished(self) -> list:
        """The trials that came to a value."""
        return self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.COMPLETE,))

    def best(self) -> list:
        """The best trial; with several objectives those that none beats in all of them, sorted by the first one."""
        trials = self.study.best_trials
        sign = 1 if self.args.objectives[0].endswith(":minimize") else -1
        return sorted(trials, key=lambda trial: (sign * trial.values[0], trial.number))

    def run(self, run_trial: RunTrial) -> None:
        """
        Runs the trials that are still missing.

        Args:
            run_trial (`Callable`):
                Is given a trial's values, its folder, a function that watches its log and the number of the worker,
                and returns the trial's metrics, such as [`Recipe.run`] does. It calls the function with the log so
                far whenever there may be more of it, and lets through what that raises.

        Raises:
            `ValueError`: No trial came to a value, the objective is no metric of the trials, or another search is
                running in the folder.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                self._take_up()
                self._run_workers(run_trial)
        except Timeout as error:
            raise ValueError(f"Another search is running in '{self.folder}'.") from error
        if not self.finished():
            last = self.counted()[-1]
            log = self.folder / TRIALS_FOLDER / f"{last.number}.log"
            raise ValueError(
                f"All {len(self.counted())} trials failed; the last one ({log}): {last.user_attrs['error']}"
            )

    def _take_up(self) -> None:
        """Puts what a kill cut short back into the queue, and all points of a grid."""
        states = self.optuna.trial.TrialState
        for trial in self.study.get_trials(states=(states.RUNNING,)):
            self.study.tell(trial.number, state=states.FAIL)
            self.study.enqueue_trial(trial.params)
        for point in self.points:
            self.study.enqueue_trial(point, skip_if_exists=True)

    def _run_workers(self, run_trial: RunTrial) -> None:
        stop = threading.Event()

        def work(worker: int) -> None:
            while not stop.is_set():
                with self._lock:
                    index = len(self.counted())
                    if index >= self.n_trials:
                        return
                    self.study.sampler = self._sampler(index)
                    trial = self.study.ask(self.space.distributions)
                self._run_one(trial, run_trial, stop, worker)

        with ThreadPoolExecutor(self.args.workers) as pool:
            try:
                for worker in as_completed([pool.submit(work, number) for number in range(self.args.workers)]):
                    worker.result()
            finally:
                stop.set()

    def _run_one(self, trial, run_trial: RunTrial, stop: threading.Event, worker: int) -> None:
        start, reported = time.time(), 0
        objective = next(iter(self.args.metrics))

        def watch(log: Log) -> None:
            nonlocal reported
            if stop.is_set():
                raise Stopped
            values = [entry[objective] for entry in log if objective in entry] if self.prunes else []
            for value in values[reported:]:
                reported += 1
                with self._lock:
                    trial.report(value, reported)  # the number of the evaluation: steps differ with the batch size
                    if trial.should_prune():
                        raise self.optuna.TrialPruned

        states = self.optuna.trial.TrialState
        values, metrics, state, failure = None, {}, states.COMPLETE, None
        try:
            folder = self.folder / TRIALS_FOLDER / str(trial.number)
            metrics = run_trial(self.space.values(trial.params), folder, watch, worker)
            values = self._values_of(metrics)
        except Stopped:
            return
        except self.optuna.TrialPruned:
            state = states.PRUNED
        except TrialFailed as error:
            state, failure = states.FAIL, error
        with self._lock:
            trial.set_user_attr("seconds", round(time.time() - start, 1))
            trial.set_user_attr("metrics", metrics)
            if failure is not None:
                trial.set_user_attr("error", str(failure))
            self.study.tell(trial, values, state=state)
            self._print(trial.number)
            if isinstance(failure, MissingMetric) and not self.finished():
                raise ValueError(str(failure))  # no other trial will have it either

    def _values_of(self, metrics: dict[str, float]) -> list[float]:
        for name in self.args.metrics:
            if name not in metrics:
                known = sorted(metrics)
                found = ", ".join(known) or "nothing"
                raise MissingMetric(f"The run left no '{name}'{nearest(name, known)}, only {found}.")
            if not math.isfinite(metrics[name]):
                raise TrialFailed(f"'{name}' is {metrics[name]}.")
        return [metrics[name] for name in self.args.metrics]

    def _print(self, number: int) -> None:
        trial = self.study.get_trials(deepcopy=False)[number]
        found = dict(zip(self.args.metrics, trial.values or (), strict=False))
        outcome = describe(found) if found else trial.user_attrs.get("error", "pruned")
        print(f"trial {number}: {outcome} ({describe(trial.params)}), {trial.user_attrs['seconds']:.0f} s", flush=True)


def short(value: Any) -> str:
    """A value as people read it: four digits of a fraction, all of a large whole number."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def describe(values: Mapping[str, Any]) -> str:
    """Names and values as one phrase."""
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())
