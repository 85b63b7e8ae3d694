"""The study: every trial once, whatever stops it; pruning; what it refuses. Most trials are functions."""

import json
import threading
import time

import pytest

from hf_genkit.arguments import SearchArguments
from hf_genkit.tuning import Search, SearchSpace
from hf_genkit.tuning.trial_process import TrialFailed

from .fake_recipe import fake_recipe


SPACE = {"x": {"low": -1.0, "high": 1.0}, "kind": {"choices": ["a", "b"]}}
GRID = {"x": {"choices": [1, 2, 3]}, "kind": {"choices": ["a", "b"]}}


def search(folder, space=SPACE, **options) -> Search:
    defaults = {
        "recipe": "r",
        "objectives": ["value:minimize"],
        "n_trials": 6,
        "output_dir": str(folder),
        "pruner": "none",
    }
    return Search(SearchArguments(**{**defaults, "space": space, **options}), SearchSpace(space))


def square(values, folder, watch, worker):
    return {"value": values["x"] ** 2, "x": values["x"]}


def tried(found: Search) -> list[dict]:
    return [trial.params for trial in found.counted()]


class Killed(BaseException):
    """What a kill leaves: a study whose trial still counts as running."""


def killed_at(number: int):
    calls = []

    def run_trial(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise Killed
        return square(*arguments)

    return run_trial


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_a_killed_search_goes_on_as_if_nothing_had_been(tmp_path, sampler):
    """With one seed for all trials, a search that goes on would draw its first values again."""
    options = {"sampler": sampler, "n_trials": 12 if sampler == "tpe" else 6, "space": SPACE}
    if sampler == "grid":
        options["space"] = GRID
    whole = search(tmp_path / "whole", **options)
    whole.run(square)
    cut = search(tmp_path / "cut", **options)
    with pytest.raises(Killed):
        cut.run(killed_at(4))
    resumed = search(tmp_path / "cut", resume=True, **options)
    assert len(resumed.finished()) == 3
    resumed.run(square)
    if sampler == "grid":  # what was cut short comes last
        assert sorted(map(str, tried(resumed))) == sorted(map(str, tried(whole)))
    else:
        assert tried(resumed) == tried(whole)
        assert len({params["x"] for params in tried(whole)}) == options["n_trials"]
    assert len(resumed.finished()) == options["n_trials"]


def test_the_seed_decides_what_is_tried(tmp_path):
    found = [search(tmp_path / str(i), seed=seed, n_trials=2) for i, seed in enumerate([0, 0, 1])]
    for each in found:
        each.run(square)
    assert tried(found[0]) == tried(found[1]) != tried(found[2])


def test_more_trials_can_be_asked_for_later(tmp_path):
    search(tmp_path, n_trials=2).run(square)
    more = search(tmp_path, n_trials=5, resume=True)
    more.run(square)
    assert len(more.finished()) == 5


def test_a_grid_tries_every_point_once(tmp_path):
    found = search(tmp_path, GRID, sampler="grid", n_trials=None)
    found.run(square)
    assert sorted((p["x"], p["kind"]) for p in tried(found)) == [(x, kind) for x in (1, 2, 3) for kind in "ab"]


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_two_workers_share_the_trials(tmp_path, sampler, monkeypatch):
    at_once, folders, draw = threading.Barrier(2, timeout=20), [], Search._sampler

    def slowly(*arguments):  # both workers would take what is left for theirs
        time.sleep(0.05)
        return draw(*arguments)

    monkeypatch.setattr(Search, "_sampler", slowly)

    def run_trial(values, folder, watch, worker):
        folders.append((folder.name, worker))
        if int(folder.name) < 4:
            at_once.wait()
        return square(values, folder, watch, worker)

    found = search(tmp_path, GRID, sampler=sampler, workers=2, n_trials=5)
    found.run(run_trial)
    assert sorted(name for name, _ in folders) == ["0", "1", "2", "3", "4"]
    assert {worker for _, worker in folders} == {0, 1}
    assert len(found.finished()) == 5
    if sampler == "grid":
        assert len({tuple(p.values()) for p in tried(found)}) == 5


def test_a_bad_trial_is_pruned_by_its_evaluations(tmp_path):
    """The sixth trial is worse than the median of the first five; steps differ, evaluations don't."""
    watched = []

    def run_trial(values, folder, watch, worker):
        number = int(folder.name)
        log = []
        for evaluation in range(1, 5):
            log += [{"step": evaluation * (10 + number), "loss": 0.0}]
            log += [{"step": evaluation * (10 + number), "value": 5.0 if number == 5 else 1.0 / evaluation}]
            watched.append((number, evaluation))
            watch(log)
            watch(log)
        return {"value": log[-1]["value"]}

    found = search(tmp_path, n_trials=7, pruner="median")
    found.run(run_trial)
    assert [trial.state.name for trial in found.counted()] == [*["COMPLETE"] * 5, "PRUNED", "COMPLETE"]
    assert [evaluation for number, evaluation in watched if number == 5] == [1]
    assert found.counted()[0].intermediate_values == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3), 4: 0.25}
    assert len(found.finished()) == 6


def test_several_objectives_give_a_front_and_no_pruning(tmp_path):
    found = search(tmp_path, objectives=["value:minimize", "x:maximize"], pruner="median", n_trials=8)
    assert found.notes() == ["Pruning is off: it goes by a single objective."]

    def run_trial(*arguments):
        arguments[2]([{"value": 1.0}])
        return square(*arguments)

    found.run(run_trial)
    front = found.best()
    assert [trial.values[0] for trial in front] == sorted(trial.values[0] for trial in front)
    for trial in found.finished():
        beaten = any(best.values[0] <= trial.values[0] and best.values[1] >= trial.values[1] for best in front)
        assert beaten
    assert search(tmp_path / "one", pruner="median").notes() == []


def test_choosing_by_the_test_split_is_told(tmp_path):
    (note,) = search(tmp_path, objectives=["test_accuracy:maximize"]).notes()
    assert "no test any more" in note


def test_a_failed_trial_is_kept_and_the_search_goes_on(tmp_path, capsys):
    def run_trial(values, folder, watch, worker):
        if folder.name == "1":
            raise TrialFailed("out of memory.")
        return {"value": float("nan")} if folder.name == "2" else square(values, folder, watch, worker)

    found = search(tmp_path)
    found.run(run_trial)
    assert [trial.state.name for trial in found.counted()][:4] == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert [trial.user_attrs.get("error") for trial in found.counted()][1:3] == ["out of memory.", "'value' is nan."]
    assert len(found.counted()) == 6
    assert "trial 1: out of memory. (x" in capsys.readouterr().out


def test_a_search_whose_trials_all_fail_says_so(tmp_path):
    def run_trial(values, folder, watch, worker):
        raise TrialFailed(f"trial {folder.name} broke.")

    with pytest.raises(ValueError, match=r"^All 6 trials failed; the last one \(.*5\.log\): trial 5 broke\.$"):
        search(tmp_path).run(run_trial)


def test_a_metric_that_no_run_has_ends_the_search_at_the_first_trial(tmp_path):
    runs = []

    def run_trial(*arguments):
        runs.append(arguments)
        return square(*arguments)

    with pytest.raises(ValueError, match=r"^The run left no 'vaule' \(did you mean 'value'\?\), only value, x\.$"):
        search(tmp_path, objectives=["vaule:minimize"]).run(run_trial)
    assert len(runs) == 1


def test_a_folder_is_never_mixed_up(tmp_path):
    with pytest.raises(ValueError, match="no search to go on with"):
        search(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    search(tmp_path / "a").run(square)
    with pytest.raises(ValueError, match="holds a search: pass --resume"):
        search(tmp_path / "a")
    other = {**SPACE, "x": {"low": -2.0, "high": 1.0}}
    with pytest.raises(ValueError, match=r"holds another search \(space .*-1\.0.* there, .*-2\.0.* here\)"):
        search(tmp_path / "a", other, resume=True)


def test_two_searches_in_one_folder_are_refused(tmp_path):
    """The second one would take the first one's running trials for leftovers of a kill."""

    def run_trial(*arguments):
        with pytest.raises(ValueError, match="Another search is running"):
            search(tmp_path, resume=True).run(square)
        return square(*arguments)

    search(tmp_path, n_trials=1).run(run_trial)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objectives": ["value"]}, "must be name:minimize or name:maximize"),
        ({"objectives": ["value:up"]}, "must be one of minimize, maximize"),
        ({"objectives": ["value:minimize", "value:maximize"]}, "different metrics"),
        ({"objectives": []}, "one or more different metrics"),
        ({"sampler": "tpee"}, r"did you mean 'tpe'"),
        ({"pruner": "mean"}, "one of median, hyperband, none"),
        ({"n_trials": 0}, "`n_trials` is 0, but it must be at least 1"),
        ({"workers": 0}, "`workers` is 0"),
        ({"space": "{x"}, "must be a JSON object"),
        ({"space": {}}, "`space` is missing"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, said):
    arguments = {"recipe": "r", "space": SPACE, "objectives": ["value:minimize"], **options}
    with pytest.raises(ValueError, match=said):
        SearchArguments(**arguments)


def test_a_gaussian_process_finds_the_minimum(tmp_path):
    found = search(tmp_path, {"x": {"low": -1.0, "high": 1.0}}, sampler="gp", n_trials=12)
    found.run(square)
    assert found.best()[0].value < 0.01
    assert min(trial.value for trial in found.finished()[10:]) < 0.01


def test_processes_of_a_recipe_end_to_end(tmp_path, monkeypatch):
    """Two workers, a pruned trial and the values: what the study says was tried is what each process was given."""
    monkeypatch.setattr("hf_genkit.tuning.trial_process.POLL_SECONDS", 0.02)
    space = {"rate": {"low": 0.0, "high": 1.0}, "width": {"choices": [2, 4]}}
    recipe = fake_recipe(tmp_path)
    args = SearchArguments(recipe="fake", space=space, n_trials=5, workers=2, output_dir=str(tmp_path / "out"))
    found = Search(args, SearchSpace(space, recipe))
    found.run(recipe.run)
    for trial in found.finished():
        words = json.loads((tmp_path / "out" / "trials" / str(trial.number) / "words.json").read_text())
        given = {f"--{name}={value}" for name, value in trial.params.items()}
        assert given <= {*words}
        assert trial.value == pytest.approx(trial.params["rate"])
    assert len(found.finished()) == 5
