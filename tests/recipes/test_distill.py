"""recipes/distill.py as people run it: one debug run on one process and on two, and what it refuses."""

import json
import re
import runpy
import sys

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

from hf_genkit.hub import check_model_card, is_generated

from .launching import REPOSITORY, launch


RECIPE = REPOSITORY / "recipes" / "distill.py"
DEBUG = REPOSITORY / "recipes" / "distill" / "debug.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The finished debug run on one process: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("distill") / "one"
    done = launch("distill", "single", out)
    return out, done.stdout, done.stderr


# ---- What the run leaves behind ----


def test_the_terminal_shows_a_line_for_each_run_and_the_table(run):
    out, printed, errors = run
    for name in ("teacher", *(f"student, {kind}, seed {seed}" for kind in ("distilled", "alone") for seed in (0, 1))):
        assert re.search(rf"^{name}: \d+ steps, \d+ s, evaluation accuracy 0\.\d{{4}}$", printed, re.MULTILINE)
    rows = [
        line for line in printed.splitlines() if re.match(r"(teacher|student, alone|student, distilled) {2,}\d", line)
    ]
    assert len(rows) == 3
    assert all(re.search(r"\d\.\d{4} to \d\.\d{4} .* MB .* ms", row) for row in rows)
    assert "student, distilled minus student, alone:" in printed
    assert f"are in {out}." in printed
    assert "{'loss'" not in printed, "a line for each log floods the terminal"
    assert "Writing model shards" not in errors
    assert "pin_memory" not in errors


def test_results_hold_every_seed(run):
    results = json.loads((run[0] / "results.json").read_text())
    assert set(results["models"]) == {"teacher", "student, alone", "student, distilled"}
    assert results["seeds"] == {"student, alone": [0, 1], "student, distilled": [0, 1]}
    assert [len(model["values"]) for model in results["models"].values()] == [1, 2, 2]
    assert all(0 <= a <= 1 for model in results["models"].values() for a in model["values"])
    assert results["processes"] == 1


def test_the_card_is_valid_and_its_snippet_runs_in_the_folder(run, monkeypatch, capsys):
    card = (run[0] / "README.md").read_text()
    check_model_card(card)
    assert is_generated(card)
    assert "accelerate launch recipes/distill.py" in card
    assert str(run[0].parent) not in card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(run[0])
    exec(snippet, {})
    assert capsys.readouterr().out.strip() in map(str, range(10))


def test_the_student_loads_and_scores_what_the_results_say(run):
    out = run[0]
    model = AutoModelForImageClassification.from_pretrained(out)
    assert model.config.id2label == {i: str(i) for i in range(10)}
    results = json.loads((out / "results.json").read_text())
    assert model.num_parameters() == results["models"]["student, distilled"]["efficiency"]["parameters"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_no_pickle_is_left_anywhere(run):
    suffixes = {path.suffix for path in run[0].rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}


def test_two_processes_give_the_weights_of_one(run, tmp_path):
    """Slow (half a minute): two gloo processes, each with half of the batch. `accelerate launch --cpu` runs only one."""
    out = tmp_path / "two"
    done = launch("distill", "ddp", out, "--per_device_train_batch_size", "16")
    one, two = (json.loads((folder / "results.json").read_text()) for folder in (run[0], out))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert done.stdout.count("student, distilled minus student, alone:") == 1, "every process prints the table"
    for name, model in one["models"].items():
        assert two["models"][name]["values"] == pytest.approx(model["values"], abs=0.0041)
    one, two = (load_file(folder / "model.safetensors") for folder in (run[0], out))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-4


# ---- What it refuses, in one sentence, before it trains ----


def test_the_folder_of_another_run(run, refusal):
    before = (run[0] / "model.safetensors").read_bytes()
    sentence = refusal("distill", "--output_dir", run[0], "--alpha", "0.5", "--max_steps", "3")
    assert "holds another run (alpha 0.9 there, its default here)" in sentence
    assert (run[0] / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--alhpa", "0.5"], "unknown option '--alhpa' (did you mean '--alpha'?)"),
        (["--alpha", "2"], "`alpha` is 2.0, but it must be at least 0 and at most 1."),
        (["--temperature", "0"], "`temperature` is 0.0, but it must be above 0."),
        (["--dataset_name", "./nowhere"], "There is no file or folder './nowhere'."),
        (["--label_column", "digit"], "The data set has no label column 'digit'; its columns are ['image', 'label']."),
        (["--test_split", "exam"], "has no split 'exam'"),
        (["--push_to_hub"], "needs an access token"),
        (["--push_to_hub", "--hub_model_id", "not a name"], "The repository name 'not a name' is not valid"),
        (["--student_config", '{"model_type": "vit", "depth": 2}'], "`option of a 'vit' config` is 'depth'"),
        (["--augmentation", "twirl"], "twirl"),
    ],
)
def test_bad_input(refusal, tmp_path, words, expected):
    assert expected in refusal("distill", "--output_dir", tmp_path / "out", *words)
    assert not (tmp_path / "out" / "runs" / "teacher" / "run.json").exists()
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": "pixels", "size": "length"}, "The data set has no label column"),
        ({"number": "length", "label": "label"}, "The data set has no text column"),
    ],
)
def test_a_data_set_without_labels_or_inputs(refusal, tmp_path, columns, expected):
    values = {
        "pixels": [torch.zeros(8, 8, dtype=torch.uint8).numpy()] * 20,
        "length": list(range(20)),
        "label": [0, 1] * 10,
    }
    types = {
        "pixels": datasets.Image(),
        "length": datasets.Value("int64"),
        "label": datasets.ClassLabel(names=["a", "b"]),
    }
    features = datasets.Features({name: types[kind] for name, kind in columns.items()})
    rows = datasets.Dataset.from_dict({name: values[kind] for name, kind in columns.items()}, features=features)
    rows.save_to_disk(str(tmp_path / "data"))
    assert expected in refusal("distill", "--output_dir", tmp_path / "out", "--dataset_name", tmp_path / "data")


# ---- Sharing it ----


def test_the_result_is_pushed_in_one_commit(hub, tmp_path, monkeypatch):
    """An early push without the card, or a token in a file, would spoil it."""
    words = ["--push_to_hub", "--hub_model_id", "digits-student", "--hub_token", hub.write_token]
    words += ["--max_steps", "2", "--seeds", "0", "--save_strategy", "no", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(RECIPE), "--config", str(DEBUG), *words])
    runpy.run_path(str(RECIPE), run_name="__main__")
    files = hub.files("tester/digits-student")
    assert {"README.md", "config.json", "curves.png", "model.safetensors", "preprocessor_config.json"} <= set(files)
    assert len(hub.commits("tester/digits-student")) == 2, "the Hub's own initial commit, and ours"
    assert not any(hub.write_token.encode() in content for content in files.values())
    check_model_card(files["README.md"].decode())
