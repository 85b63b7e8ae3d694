"""A recipe's process: which words reach it, what it leaves, and that it is over when it should be."""

import json
import os
import sys
from pathlib import Path

import pytest

from hf_genkit.tuning import Recipe, check_single_process, recipe_script, trial_process

from .fake_recipe import fake_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return fake_recipe(tmp_path_factory.mktemp("recipe"), options={"width": 8, "model": {"depth": 2, "a": {"b": 1}}})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(trial_process, "POLL_SECONDS", 0.02)


def run(recipe, folder, watch=lambda log: None, **values):
    return recipe.run(values, folder, watch)


def words_of(folder: Path) -> list[str]:
    return json.loads((folder / "words.json").read_text())


def test_the_values_reach_the_process_and_win_over_the_shared_options(recipe, tmp_path):
    run(recipe, tmp_path / "0", rate=0.25, layers=[1, 2])
    shared = ["--width=8", '--model={"depth": 2, "a": {"b": 1}}']
    assert words_of(tmp_path / "0") == [*shared, "--rate=0.25", "--layers", "1", "2", f"--output_dir={tmp_path / '0'}"]
    run(recipe, tmp_path / "1", width=16)
    assert words_of(tmp_path / "1")[0] == "--width=16"


def test_a_dotted_name_changes_one_key_of_a_json_option_for_this_trial_alone(recipe):
    assert recipe.merged({"model.a.c": 5, "model.depth": 3})["model"] == {"depth": 3, "a": {"b": 1, "c": 5}}
    assert recipe.merged({})["model"] == {"depth": 2, "a": {"b": 1}}
    with pytest.raises(ValueError, match=r"'model\.depth\.x', but 'depth' is 2, which has no keys"):
        recipe.option_type("model.depth.x")


def test_a_trial_never_pushes(recipe, tmp_path):
    """Twenty trials of a config that pushes would overwrite the repository twenty times."""
    pushing = fake_recipe(tmp_path, options={"push_to_hub": True})
    assert "--push_to_hub=False" in pushing.words({}, "out")
    assert pushing.merged({})["push_to_hub"] is True


def test_the_last_logged_value_wins_over_results_json(recipe, tmp_path):
    metrics = run(recipe, tmp_path / "0", rate=0.25)
    assert metrics["eval_loss"] == 0.25
    assert metrics["size"] == 2.5
    assert metrics["parts.a.1"] == 2
    assert "best" not in metrics  # a boolean is no number


def test_a_failed_process_tells_the_line_that_says_why(recipe, tmp_path):
    with pytest.raises(trial_process.TrialFailed, match=r"^ValueError: rate 0\.25 broke it$"):
        run(recipe, tmp_path / "0", rate=0.25, kind="broken")
    assert "loading" in (tmp_path / "0.log").read_text()


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("a\nerror: `x` is 1.\n", "error: `x` is 1."),
        ("recipe.py: error: no such option.\n", "recipe.py: error: no such option."),
        (
            "torch.OutOfMemoryError: 2 GB\n  note\nsubprocess.CalledProcessError: Command\n",
            "torch.OutOfMemoryError: 2 GB",
        ),
        ("killed\n\n", "killed"),
        ("", "exit status -9"),
    ],
)
def test_the_launchers_own_error_hides_nothing(output, told):
    assert trial_process.last_error(output, -9) == told


def is_over(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_process_whose_watcher_gives_up_is_ended(recipe, tmp_path):
    """A pruned trial that trains on would keep the GPU from the next one."""
    seen = []

    def watch(log):
        seen.append(log)
        if log:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(recipe, tmp_path / "0", watch, kind="endless")
    assert {"eval_loss": 9.0, "step": 1} in seen[-1]
    assert is_over(int((tmp_path / "0" / "pid").read_text()))


def test_what_the_recipe_refuses_is_told_in_its_words(recipe):
    recipe.check({"rate": 1.0})
    with pytest.raises(
        ValueError, match=r"fake\.py refuses rate 1\.5: `rate` is 1\.5, but it must be at least 0 and at most 1"
    ):
        recipe.check({"rate": 1.5})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widht": 1}, "`options` has 'widht', which fake.py has no option for \\(did you mean 'width'"),
        ({"output_dir": "x"}, "`options` has 'output_dir', which the search sets itself"),
    ],
)
def test_unknown_and_reserved_options_are_refused(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        fake_recipe(tmp_path, options=options)


def test_the_base_config_is_part_of_every_run(tmp_path):
    (tmp_path / "base.yaml").write_text("rate: 0.125\nwidth: 2\n")
    recipe = fake_recipe(tmp_path, base_config=str(tmp_path / "base.yaml"), options={"width": 8})
    assert recipe.merged({}) == {"rate": 0.125, "width": 8}
    assert recipe.words({}, "out") == ["--config", str(tmp_path / "base.yaml"), "--width=8", "--output_dir=out"]
    with pytest.raises(ValueError, match=r"config file 'nowhere\.yaml' does not exist"):
        fake_recipe(tmp_path, base_config="nowhere.yaml")


def test_a_script_without_the_parser_is_not_run(tmp_path):
    (tmp_path / "train.py").write_text("raise AssertionError('it was run')")
    with pytest.raises(ValueError, match="reads no options through GenkitParser"):
        Recipe(tmp_path / "train.py")


def test_finding_the_parser_leaves_everything_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["search.py", "--output_dir=the-search's"]
    )  # the script must not read these words
    recipe = fake_recipe(tmp_path)
    assert sys.argv[1] == "--output_dir=the-search's"
    from hf_genkit import GenkitParser, VAETrainingConfig

    (config,) = GenkitParser(VAETrainingConfig).parse_args_into_dataclasses(["--output_dir", "x"])
    assert config.output_dir == "x"
    assert str(recipe.script.parent) not in sys.path


def test_an_unknown_recipe_is_refused_by_name(tmp_path):
    (tmp_path / "train_vae.py").touch()
    (tmp_path / "search.py").touch()
    assert recipe_script("train_vae", tmp_path).resolve() == (tmp_path / "train_vae.py").resolve()
    with pytest.raises(ValueError, match="`recipe` is 'train_vea', but it must be one of train_vae \\(did you mean"):
        recipe_script("train_vea", tmp_path)
    with pytest.raises(ValueError, match=r"'nowhere\.py', but there is no such file"):
        recipe_script("nowhere.py", tmp_path)


def test_workers_share_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [trial_process.device_of(worker)["CUDA_VISIBLE_DEVICES"] for worker in range(3)] == ["2", "5", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert trial_process.device_of(1) == {}


def test_several_processes_would_search_twice(monkeypatch):
    check_single_process()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="one process"):
        check_single_process()
