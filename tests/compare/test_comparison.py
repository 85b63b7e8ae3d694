"""Whole comparisons, as the recipe runs them: what they leave, what they don't repeat, and what they refuse."""

import json
import runpy
import sys
from pathlib import Path

import datasets
import pytest
import torch

from hf_genkit.compare.painters import load_painter
from hf_genkit.compare.training import FamilyTraining
from hf_genkit.hub import check_model_card
from hf_genkit.trainers import VAETrainer

from . import tiny


RECIPE = Path(__file__).parents[2] / "recipes" / "compare.py"
CONFIG = RECIPE.with_suffix("") / "debug.yaml"
ENCODED = []
NAMES = {"vae": "VAE", "gan": "GAN", "ddpm": "diffusion model"}


def compare(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(RECIPE), "--config", str(CONFIG), *map(str, words)])
    runpy.run_path(str(RECIPE), run_name="__main__")


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def extractor(tmp_path_factory) -> str:
    return tiny.save_vision_model(tmp_path_factory.mktemp("vision") / "tiny-vit")


@pytest.fixture(scope="module")
def done(tmp_path_factory, extractor) -> Path:
    """A finished comparison, which tests may add to but not change."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    encode = VAETrainer.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAETrainer, "encode", lambda self, data: ENCODED.append(encode(self, data)) or ENCODED[-1])
        compare(patch, "--output_dir", out, "--feature_extractor", extractor, "--seeds", "0")
    return out


@pytest.fixture
def words(extractor) -> list[str]:
    return ["--feature_extractor", extractor]


@pytest.fixture
def refused(monkeypatch, capsys):
    """What the recipe says when it ends, in one sentence, without having trained."""

    def refused(*given) -> str:
        with pytest.raises(SystemExit) as ended:
            compare(monkeypatch, *given)
        shown = capsys.readouterr()
        sentence = shown.err if ended.value.code == 2 else ended.value.code
        assert "seed" not in shown.out
        assert sentence.strip().count("\n") == 0
        return sentence

    return refused


def test_all_families_are_judged_alike(done):
    found = results(done)
    assert [run["name"] for run in found["runs"]] == list(NAMES.values())
    for run in found["runs"]:
        assert run["steps"] == 8
        assert all(set(found["floor"]) == set(point["scores"]) for point in run["points"])
        assert run["seconds"] > 0
        assert run["flops"] > 0
    assert [len(run["points"]) for run in found["runs"]] == [1, 1, 2]


def test_the_prior_of_a_vae_sees_every_image_and_not_whole_batches_alone(done):
    assert [len(means) for means, _ in ENCODED] == [320]


def test_each_family_leaves_a_model_that_loads_and_a_valid_card(done):
    for folder in NAMES:
        painter = load_painter(str(done / folder), "cpu")
        assert painter.shape == (1, 8, 8)
        card = (done / folder / "README.md").read_text()
        check_model_card(card)
        assert "accelerate launch recipes/compare.py" in card
        assert str(done.parent) not in card
    assert not [path for path in done.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_the_report_has_every_section_and_picture(done):
    page, text = (done / "report.html").read_text(), (done / "report.md").read_text()
    headings = [
        "Quality",
        "textbook",
        "Samples",
        "sampling time",
        "Training curves",
        "Stability",
        "Latent control",
        "Cost",
    ]
    assert all(heading in page and heading in text for heading in headings)
    for name in NAMES.values():
        slug = name.replace(" ", "_").lower()
        for file in (f"samples-{slug}.png", f"interpolation-{slug}.png"):
            assert (done / file).is_file()
            assert file in text


def test_a_finished_run_is_not_repeated_and_a_new_seed_is_added(done, monkeypatch, words):
    trained, run = [], FamilyTraining.run
    monkeypatch.setattr(
        FamilyTraining,
        "run",
        lambda self, key, seed, *rest: trained.append((key, seed)) or run(self, key, seed, *rest),
    )
    before = (done / "vae" / "model.safetensors").read_bytes()
    compare(monkeypatch, "--output_dir", done, *words, "--seeds", "0", "--families", "vae", "gan", "diffusion")
    assert trained == []
    compare(monkeypatch, "--output_dir", done, *words, "--seeds", "0", "1")
    assert trained == [("vae", 1), ("gan", 1), ("diffusion", 1)]
    assert (done / "vae" / "model.safetensors").read_bytes() == before
    assert [run["seed"] for run in results(done)["runs"]] == [0, 0, 0, 1, 1, 1]


def test_another_comparison_in_the_folder_is_refused(done, refused, words):
    before = (done / "results.json").read_bytes()
    said = refused("--output_dir", done, *words, "--budget", "10steps")
    assert "holds another run (budget 8steps there, 10steps here)" in said
    assert (done / "results.json").read_bytes() == before


def test_a_report_of_something_else_is_left_alone(tmp_path, refused, words):
    (tmp_path / "report.html").write_text("mine")
    assert "is not this comparison's: choose another output_dir" in refused("--output_dir", tmp_path, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("1e3flops", "one step of the VAE takes"),
        ("1steps", "its 2 phases of the GAN takes"),
        ("1e-7s", "one step of the VAE"),
    ],
)
def test_a_budget_too_small_for_one_step_is_refused_and_can_be_raised(tmp_path, refused, words, budget, expected):
    said = refused("--output_dir", tmp_path / "out", *words, "--budget", budget)
    assert f"`budget` is '{budget}', but {expected}" in said
    assert not (tmp_path / "out").exists()


def test_too_few_real_pictures_are_refused(tmp_path, refused, words):
    splits = {
        name: tiny.pictures(count).pixels[:, 0] for name, count in (("train", 40), ("validation", 8), ("test", 5))
    }
    features = datasets.Features({"image": datasets.Image()})
    rows = {name: datasets.Dataset.from_dict({"image": list(pixels)}, features) for name, pixels in splits.items()}
    datasets.DatasetDict(rows).save_to_disk(str(tmp_path / "data"))
    said = refused("--output_dir", tmp_path / "out", *words, "--dataset_name", tmp_path / "data")
    assert "There are 5 pictures to judge by, but precision and recall need more than 5" in said
    assert not (tmp_path / "out").exists()


def test_models_are_judged_by_name_without_training(done, tmp_path, monkeypatch, words):
    monkeypatch.setattr(FamilyTraining, "run", None)
    names = [done / "vae", done / "ddpm"]
    compare(monkeypatch, "--output_dir", tmp_path / "out", *words, "--models", *names, "--seeds", "0", "1")
    found = results(tmp_path / "out")
    assert [(run["name"], run["seed"]) for run in found["runs"]] == [("vae", 0), ("vae", 1), ("ddpm", 0), ("ddpm", 1)]
    trained = next(run for run in results(done)["runs"] if run["name"] == "diffusion model")
    assert found["runs"][2]["points"][0]["scores"] == trained["points"][0]["scores"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Nothing was trained here" in text
    assert str(tmp_path) not in text


def test_models_of_another_size_are_refused(done, tmp_path, refused, words):
    said = refused(
        "--output_dir", tmp_path / "out", *words, "--models", done / "vae", done / "gan", "--image_size", "16"
    )
    assert "'vae' draws pictures of 1 channels and 8 x 8 pixels, but the real ones have 1 and 16 x 16" in said
    assert not (tmp_path / "out").exists()


def test_a_run_whose_weights_become_no_numbers_is_told_and_not_judged(tmp_path, monkeypatch, words):
    train = VAETrainer.train

    def fail(self):
        train(self)
        next(self.model.parameters()).data.fill_(torch.nan)
        raise ValueError("Training has left weights that are not finite.")

    monkeypatch.setattr(VAETrainer, "train", lambda self: (train if self.args.max_steps == 12 else fail)(self))
    options = ["--families", "vae", "gan", "--seeds", "0", "--output_dir", tmp_path / "out"]
    compare(monkeypatch, *words, *options)
    assert [run["finite"] for run in results(tmp_path / "out")["runs"]] == [False, True]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Runs that ended without finite weights: VAE" in text
    assert not (tmp_path / "out" / "vae" / "model.safetensors").exists()
