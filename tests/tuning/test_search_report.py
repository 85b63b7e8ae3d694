"""What a search leaves: a config that runs with the best values, all trials, a table and a picture."""

import json

import pytest
import yaml
from PIL import Image

from hf_genkit.arguments import PlainLoader, SearchArguments
from hf_genkit.tuning import Search, SearchSpace, write_report
from hf_genkit.tuning.search import describe
from hf_genkit.tuning.trial_process import TrialFailed

from .fake_recipe import fake_recipe


SPACE = {
    "rate": {"low": 1e-7, "high": 1.0, "log": True},
    "width": {"low": 1, "high": 9},
    "layers": {"choices": [[0, 1], [2]]},
    "model.depth": {"choices": [1, 2]},
}
SHARED = {"kind": "off", "model": {"depth": 1, "name": "a: b"}}


def finished(folder, objectives, n_trials=4):
    """A search whose second trial failed, and its recipe."""
    folder.mkdir()
    (folder / "base.yaml").write_text("push_to_hub: true\nwidth: 3\n")
    recipe = fake_recipe(folder, base_config=str(folder / "base.yaml"), options=SHARED)
    args = SearchArguments(
        recipe="fake", space=SPACE, objectives=objectives, n_trials=n_trials, output_dir=str(folder / "out")
    )
    search = Search(args, SearchSpace(SPACE, recipe))

    def run_trial(values, trial_folder, watch, worker):
        if trial_folder.name == "1":
            raise TrialFailed("it broke.")
        return {"eval_loss": values["rate"], "size": -float(values["width"]), "nothing": float("nan")}

    search.run(run_trial)
    return search, recipe


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    search, recipe = finished(tmp_path_factory.mktemp("report") / "one", ["eval_loss:minimize"], n_trials=12)
    write_report(search, recipe, "accelerate launch recipes/search.py --seed 0")
    return search, recipe


def read(path) -> dict:
    return yaml.load(path.read_text(), PlainLoader)


def test_the_best_config_holds_the_best_values_and_what_all_trials_shared(one):
    search, recipe = one
    best = search.folder / "best.yaml"
    trial = min(search.finished(), key=lambda trial: trial.value)
    values = search.space.values(trial.params)
    assert read(best) == {
        "push_to_hub": True,
        "kind": "off",
        "width": values["width"],
        "rate": values["rate"],
        "layers": values["layers"],
        "model": {"depth": values["model.depth"], "name": "a: b"},
        "output_dir": str(search.folder / "best"),
    }
    (config,) = recipe.parser.parse_args_into_dataclasses(["--config", str(best)])
    assert (config.rate, config.width, config.kind, config.layers) == (
        trial.value,
        values["width"],
        "off",
        values["layers"],
    )


def test_its_header_is_the_command_and_the_result(one):
    search, recipe = one
    header = (search.folder / "best.yaml").read_text().split("push_to_hub")[0]
    trial = min(search.finished(), key=lambda trial: trial.value)
    assert f"# The best of 12 trials: eval_loss {trial.value:.4g} in trial {trial.number}." in header
    assert f"#     accelerate launch {recipe.script} --config {search.folder / 'best.yaml'}\n" in header
    assert "# Found by: accelerate launch recipes/search.py --seed 0\n" in header


def test_all_trials_are_told_as_json(one):
    search, _ = one
    trials = json.loads((search.folder / "trials.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [trial["number"] for trial in trials] == list(range(12))
    assert trials[1]["state"] == "fail"
    assert trials[1]["error"] == "it broke."
    assert trials[0]["values"]["layers"] in ([0, 1], [2])
    assert trials[0]["objectives"] == {"eval_loss": trials[0]["values"]["rate"]}


def test_the_table_begins_with_the_best(one, capsys):
    search, recipe = one
    write_report(search, recipe, "command")
    lines = capsys.readouterr().out.strip().splitlines()
    best = min(search.finished(), key=lambda trial: trial.value)
    assert lines[0].split() == ["Trial", "eval_loss", "rate", "width", "layers", "model.depth", "Seconds"]
    assert lines[2].split()[:2] == [str(best.number), f"{best.value:.4g}"]
    assert "12 trials: 11 finished, 1 failed." in lines


def test_large_whole_numbers_are_written_out():
    assert describe({"parameters": 102345.0, "rate": 0.000123456, "kind": "a", "huge": 1e5 + 0.5}) == (
        "parameters 102345, rate 0.0001235, kind a, huge 1e+05"
    )


def test_the_picture_has_a_panel_for_each_option(one):
    search, _ = one
    with Image.open(search.folder / "search.png") as picture:
        assert picture.size == (4 * 4 * 150, 2 * 3.4 * 150)


def test_the_importance_is_that_of_the_option_that_decides(one):
    from hf_genkit.tuning.search_report import importances

    search, _ = one
    shares = importances(search)
    assert max(shares, key=shares.get) == "rate"
    assert sum(shares.values()) == pytest.approx(1)


def test_a_front_has_a_config_for_each_of_its_trials(tmp_path):
    search, recipe = finished(tmp_path / "two", ["eval_loss:minimize", "size:maximize"], n_trials=6)
    (search.folder / "front").mkdir()
    (search.folder / "front" / "99.yaml").touch()  # left by an earlier report
    write_report(search, recipe, "command")
    front = search.best()
    assert {path.stem for path in (search.folder / "front").iterdir()} == {f"trial-{trial.number}" for trial in front}
    assert (
        read(search.folder / "best.yaml")["rate"] == front[0].values[0] == min(t.values[0] for t in search.finished())
    )
    for trial in front:
        path = search.folder / "front" / f"trial-{trial.number}.yaml"
        assert read(path)["output_dir"] == str(search.folder / f"trial-{trial.number}")
        assert path.read_text().startswith("# Of the Pareto front of 6 trials: eval_loss ")
    assert (search.folder / "search.png").stat().st_size > 1000
