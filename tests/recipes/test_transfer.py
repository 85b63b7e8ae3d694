"""recipes/transfer.py as people run it: one debug run, what it leaves, and what it refuses."""

import json
import re
import runpy
import sys

import pytest
from transformers import AutoModelForImageClassification

from hf_genkit.hub import check_model_card, is_generated

from .launching import REPOSITORY, launch


RECIPE = REPOSITORY / "recipes" / "transfer.py"
DEBUG = REPOSITORY / "recipes" / "transfer" / "debug.yaml"
VARIANTS = ["first 1 frozen", "all frozen", "from scratch"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The finished debug run: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("transfer") / "out"
    return out, launch("transfer", "single", out).stdout


@pytest.fixture(scope="module")
def results(run):
    return json.loads((run[0] / "results.json").read_text())


def test_the_terminal_shows_a_line_for_each_run_and_the_table(run):
    out, printed = run
    for name in ("pre-training", *(f"{variant}, seed {seed}" for variant in VARIANTS for seed in (0, 1))):
        assert re.search(rf"^{name}: \d+ steps, \d+ s, evaluation accuracy [01]\.\d{{4}}$", printed, re.MULTILINE)
    rows = [line for line in printed.splitlines() if re.match(rf"({'|'.join(VARIANTS)}) {{2,}}\d", line)]
    assert [row.split("  ")[0] for row in rows] == VARIANTS
    assert all(re.search(r"\(2 seeds\) +[\d,]+ +\d\.\d\d MB +\d\.\d\d MB +\d+\.\d s", row) for row in rows)
    assert "minus from scratch:" in printed
    assert f"are in {out}." in printed
    assert "{'loss'" not in printed


def test_results_hold_every_seed_and_what_freezing_saves(results):
    models = results["models"]
    assert list(models) == VARIANTS
    assert results["seeds"] == [0, 1]
    assert results["labels"] == 60
    for model in models.values():
        assert len(model["values"]) == len(model["validation"]) == len(model["seconds"]) == 2
        assert all(0 <= accuracy <= 1 for accuracy in model["values"])
        cost = model["efficiency"]
        assert cost["optimizer_bytes"] == pytest.approx(8 * cost["trainable_parameters"], rel=0.2)
    costs = [models[name]["efficiency"] for name in VARIANTS]
    frozen, head, scratch = (cost["trainable_parameters"] for cost in costs)
    assert head < frozen < scratch
    assert costs[2]["frozen_parameters"] == 0
    assert len({cost["trainable_parameters"] + cost["frozen_parameters"] for cost in costs}) == 1


def test_the_best_variant_on_the_validation_split_is_written(run, results):
    validation = {name: sum(model["validation"]) for name, model in results["models"].items()}
    assert validation[results["best"]] == max(validation.values())
    model = AutoModelForImageClassification.from_pretrained(run[0])
    assert model.config.id2label == {i: str(i + 5) for i in range(5)}, "the classes it was not pre-trained on"
    assert (run[0] / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_backbone_is_saved_without_its_head(run):
    """Its head is for other classes, and as many: `from_pretrained` would take it over."""
    config = json.loads((run[0] / "runs" / "pretraining" / "backbone" / "config.json").read_text())
    assert config["architectures"] == ["ConvNextModel"]


def test_the_card_is_valid_and_its_snippet_runs_in_the_folder(run, monkeypatch, capsys):
    card = (run[0] / "README.md").read_text()
    check_model_card(card)
    assert is_generated(card)
    assert "accelerate launch recipes/transfer.py" in card
    assert "60 labelled samples" in card
    assert all(f"| {variant} |" in card for variant in VARIANTS)
    assert str(run[0].parent) not in card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(run[0])
    exec(snippet, {})
    assert capsys.readouterr().out.strip() in map(str, range(5, 10))


def test_the_folder_of_another_comparison(run, refusal):
    before = (run[0] / "model.safetensors").read_bytes()
    sentence = refusal("transfer", "--output_dir", run[0], "--labelled_samples", "50")
    assert "holds another run (labelled_samples 60 there, 50 here)" in sentence
    assert (run[0] / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--variants", "first"], "`variants` has 'first', but a variant is first:N, all, none or scratch."),
        (
            ["--variants", "first:3"],
            "`first` is 3, but ConvNextForImageClassification has 2 layers: 0 to 2, or 'all'.",
        ),
        (["--variants", "all", "all"], "`variants` is ['all', 'all'], but it must hold one or more different ones."),
        (["--seeds", "-1"], "`seeds` is [-1]"),
        (["--model_name_or_path", "x"], "exactly one of `model_name_or_path` and `model_config`; given: both."),
        (["--model_config", "null"], "exactly one of `model_name_or_path` and `model_config`; given: neither."),
        (["--pretraining_classes", "0", "ten"], "'ten' is not one of the classes 0, 1"),
        (["--pretraining_classes", *map(str, range(9))], "must hold at least two classes"),
        (["--pretraining_epochs", "0"], "`pretraining_epochs` is 0.0, but it must be above 0."),
        (["--scratch_learning_rate", "0"], "`scratch_learning_rate` is 0.0, but it must be above 0."),
        (["--labelled_samples", "5000"], "`labelled_samples` is 5000, but the training split has"),
        (["--push_to_hub"], "needs an access token"),
    ],
)
def test_bad_input(refusal, tmp_path, words, expected):
    assert expected in refusal("transfer", "--output_dir", tmp_path / "out", *words)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_result_is_pushed_in_one_commit(hub, tmp_path, monkeypatch):
    words = ["--push_to_hub", "--hub_model_id", "digits", "--hub_token", hub.write_token, "--max_steps", "2"]
    words += [
        "--seeds",
        "0",
        "--pretraining_epochs",
        "0.1",
        "--save_strategy",
        "no",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", [str(RECIPE), "--config", str(DEBUG), *words])
    runpy.run_path(str(RECIPE), run_name="__main__")
    files = hub.files("tester/digits")
    assert {"README.md", "config.json", "curves.png", "model.safetensors", "preprocessor_config.json"} <= set(files)
    assert len(hub.commits("tester/digits")) == 2, "the Hub's own initial commit, and ours"
    check_model_card(files["README.md"].decode())
