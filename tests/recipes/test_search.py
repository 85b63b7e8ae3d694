"""The recipe of a search as people run it: a real one of a real recipe, one that is stopped and gone on with, refusals."""

import json
import os
import runpy
import signal
import sys
import threading
import time

import optuna
import pytest
import yaml

from hf_genkit.arguments import PlainLoader
from hf_genkit.tuning.trial_process import parser_of

from ..tuning.fake_recipe import SOURCE
from .launching import REPOSITORY, launch


FINETUNE = REPOSITORY / "recipes" / "finetune.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search of two trials: its folder, its study and what it printed."""
    out = tmp_path_factory.mktemp("search") / "out"
    done = launch("search", "single", out, "--n_trials", "2")
    return out, optuna.load_study(study_name="search", storage=f"sqlite:///{out / 'study.db'}"), done.stdout


def test_each_trial_was_trained_with_the_values_that_the_study_tells(run):
    out, study, _ = run
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    for trial in study.trials:
        folder = out / "trials" / str(trial.number)
        trained = json.loads((folder / "run.json").read_text())
        assert trained["arguments"]["learning_rate"] == trial.params["learning_rate"]
        assert trained["model"]["hidden_size"] == trial.params["model_config.hidden_size"]
        log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        assert trial.value == [entry["eval_loss"] for entry in log if "eval_loss" in entry][-1]


def test_the_best_config_is_one_of_the_recipe(run):
    out, study, printed = run
    best = yaml.load((out / "best.yaml").read_text(), PlainLoader)
    assert best["learning_rate"] == study.best_params["learning_rate"]
    parser_of(FINETUNE).parse_args_into_dataclasses(["--config", str(out / "best.yaml")])
    assert f"accelerate launch recipes/finetune.py --config {out / 'best.yaml'}" in printed
    assert "2 trials: 2 finished." in printed


def search(monkeypatch, *words: object) -> None:
    script = REPOSITORY / "recipes" / "search.py"
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stopped_search_ends_its_trials_and_goes_on_with_those_that_are_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hf_genkit.tuning.trial_process.POLL_SECONDS", 0.02)
    (tmp_path / "fake.py").write_text(SOURCE)
    out = tmp_path / "out"
    space = {"rate": {"low": 0.1, "high": 0.9}}
    words = ["--recipe", tmp_path / "fake.py", "--space", json.dumps(space), "--options", '{"kind": "endless"}']
    words += [
        "--workers",
        2,
        "--n_trials",
        4,
        "--output_dir",
        out,
        "--config",
        REPOSITORY / "recipes/search/debug.yaml",
    ]
    words += ["--base_config", tmp_path / "base.yaml"]
    (tmp_path / "base.yaml").write_text("width: 2\n")
    files = [out / "trials" / str(number) / "trainer_state.json" for number in range(2)]

    def stop() -> None:
        while not all(file.is_file() for file in files):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(SystemExit, match="the same command with --resume goes on"):
        search(monkeypatch, *words)
    stopper.join()
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.with_name("pid").read_text()), 0)
    (tmp_path / "go_on").touch()
    search(monkeypatch, *words, "--resume")
    rates = [trial["values"]["rate"] for trial in json.loads((out / "trials.json").read_text())]
    assert len(rates) == len(set(rates)) == 4
    cut_short = [json.loads(file.with_name("words.json").read_text())[3] for file in files]
    assert {f"--rate={rate}" for rate in rates} > {*cut_short}
    assert "4 trials: 4 finished." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space", '{"learning_rte": {"low": 1e-4, "high": 1e-2}}'], "did you mean 'learning_rate'"),
        (["--space", '{"learning_rate": {"low": -1, "high": 1}}'], "finetune.py refuses learning_rate -1: `learning_rate` is -1"),
        (["--sampler", "grid"], "a grid needs a step or choices"),
        (["--resume"], "no search to go on with"),
        (["--recipe", "finetun"], "did you mean 'finetune'"),
        (["--options", '{"max_stepz": 1}'], "did you mean 'max_steps'"),
        (["--workerz", "2"], "did you mean '--workers'"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_sentence_before_any_trial(refusal, tmp_path, words, said):
    assert said in refusal("search", "--output_dir", tmp_path / "out", *words)
    assert list(tmp_path.iterdir()) == []
