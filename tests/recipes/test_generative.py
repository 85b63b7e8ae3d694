"""The recipes of VAEs, GANs and anomaly detection as people run them: what they leave, and what they refuse."""

import json
import re
import runpy
import sys

import datasets
import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel

from hf_genkit.hub import check_model_card, is_generated

from .launching import REPOSITORY, launch


RECIPES = ["train_vae", "train_gan", "train_ddpm", "detect_anomalies"]
PICTURES = {
    "train_vae": {"samples.png", "reconstructions.png", "interpolation.png", "curves.png"},
    "train_gan": {"samples.png", "interpolation.png", "stability.png"},
    "train_ddpm": {"samples.png", "noising.png", "denoising.png", "curves.png"},
    "detect_anomalies": {"scores.png", "false_alarms.png", "missed.png", "samples.png", "reconstructions.png"},
}


@pytest.fixture(scope="module", params=RECIPES)
def run(request, tmp_path_factory):
    """A finished debug run: the recipe's name, its folder, and what it printed."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    done = launch(request.param, "single", out)
    return request.param, out, done.stdout


def test_the_run_leaves_a_table_results_and_pictures(run):
    recipe, out, printed = run
    assert re.search(r"^Metric +Value", printed, re.MULTILINE)
    results = json.loads((out / "results.json").read_text())
    assert results["steps"] == 40
    expected = "AUROC" if recipe == "detect_anomalies" else "test_fd_digits_classifier"
    assert float(results["metrics"][expected]) >= 0
    for name in PICTURES[recipe]:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 60
    drawn = {path.name for path in (out / "pictures").iterdir()}
    assert {"step-000020-samples.png", "step-000040-samples.png"} <= drawn


def test_the_card_is_valid_and_its_snippet_runs_in_the_folder(run, monkeypatch, capsys):
    recipe, out, _ = run
    card = (out / "README.md").read_text()
    check_model_card(card)
    assert is_generated(card)
    assert f"accelerate launch recipes/{recipe}.py" in card
    assert str(out.parent) not in card
    assert all(f"]({name})" in card for name in PICTURES[recipe])
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(out)
    exec(snippet, {})
    assert ("tensor([" in capsys.readouterr().out) == (recipe == "detect_anomalies")
    with Image.open("picture.png") as picture:
        assert picture.size == (8, 8)


def test_the_model_loads_by_its_auto_class(run):
    recipe, out, _ = run
    if recipe == "train_ddpm":
        return  # a pipeline: its snippet has loaded it
    model = AutoModel.from_pretrained(out)
    assert model.config.image_size == 8
    if recipe == "detect_anomalies":
        pixels = np.stack([np.zeros((1, 8, 8)), np.indices((8, 8)).sum(0)[None] % 2 * 2 - 1]).astype("float32")
        import torch

        assert model.is_anomaly(torch.from_numpy(pixels)).tolist()[1] is True
    if recipe == "train_gan":
        alone = AutoModel.from_pretrained(out / "generator")
        assert alone.num_parameters() < model.num_parameters() / 2
        assert alone.generate(2).shape == (2, 1, 8, 8)


def test_no_pickle_is_left_anywhere(run):
    suffixes = {path.suffix for path in run[1].rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}


def test_another_run_in_the_same_folder_is_refused(run, refusal):
    recipe, out, _ = run
    weights = out / "model.safetensors"
    if recipe == "train_ddpm":
        weights = out / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    assert "holds another run" in refusal(recipe, "--output_dir", out, "--learning_rate", "0.5")
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("recipe", "words", "expected"),
    [
        ("train_vae", ["--model_config", '{"likelihood": "bernouli"}'], "Did you mean 'bernoulli'?"),
        ("train_vae", ["--model_config", '{"latent_dim": 0}'], "`latent_dim` is 0"),
        ("train_vae", ["--model_config", '{"latent": 3}'], "(did you mean 'latent_dim'?)"),
        ("train_vae", ["--model_config", '{"model_type": "vae"}'], "must be one of genkit_vae, genkit_vq_vae."),
        ("train_vae", ["--image_size", "9", "--model_config", '{"hidden_sizes": [8]}'], "`image_size` is 9"),
        ("train_vae", ["--feature_extractor", "./nowhere"], "nowhere"),
        (
            "train_vae",
            ["--model_config", '{"image_size": 16}'],
            "`model_config` sets image_size to 16, but the data have 8",
        ),
        ("train_vae", ["--model_config", '{"conditional": true}'], "'conditional'"),
        ("train_vae", ["--latent_prior", "mixture", "--mixture_components", "999"], "only 320 training images"),
        ("train_vae", ["--streaming", "true"], "`streaming` is true"),
        ("train_gan", ["--resume_from_checkpoint", "true"], "no whole checkpoint to resume from"),
        ("train_gan", ["--model_config", '{"num_labels": 10}'], 'set "conditional": true'),
        ("train_gan", ["--load_best_model_at_end", "true"], "set metric_for_best_model"),
        ("train_gan", ["--loss_type", "hinges"], "(did you mean 'hinge'?)"),
        ("train_gan", ["--model_config", '{"architecture": "dcgam"}'], "(did you mean 'dcgan'?)"),
        ("train_gan", ["--image_size", "9"], "`image_size` is 9"),
        ("train_gan", ["--push_to_hub"], "needs an access token"),
        ("detect_anomalies", ["--normal_classes", "ten"], "'ten' is not one of the classes 0, 1, 2"),
        ("detect_anomalies", ["--anomaly_dataset_name", "digits"], "given: both"),
        ("detect_anomalies", ["--anomaly_kind", "regrets"], "did you mean 'regret'?"),
        ("detect_anomalies", ["--target_fpr", "0.0001"], "needs at least 9999"),
        ("detect_anomalies", ["--binarize", "dynamic"], "`binarize` is 'dynamic'"),
        (
            "detect_anomalies",
            ["--anomaly_kind", "likelihood", "--model_config", '{"likelihood": "gaussian", "sigma": "optimal"}'],
            "use 'elbo'",
        ),
    ],
)
def test_bad_input(refusal, tmp_path, recipe, words, expected):
    assert expected in refusal(recipe, "--output_dir", tmp_path / "out", *words)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_images_without_labels_need_another_judge(refusal, tmp_path):
    rows = {"image": [np.full((8, 8), i, dtype=np.uint8) for i in range(40)]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "data"))
    words = ["--dataset_name", tmp_path / "data", "--output_dir", tmp_path / "out"]
    assert "has no labels to train one" in refusal("train_gan", *words)
    conditional = '{"architecture": "mlp", "conditional": true}'
    words += ["--feature_extractor", "none"]
    assert "has no label column" in refusal("train_gan", *words, "--model_config", conditional)


def test_images_of_many_sizes_without_a_likelihood_and_with_the_default_judge(tmp_path, monkeypatch, capsys):
    """The size that is asked for must reach the judge, and a model without a likelihood must not fail at the end."""
    rng = np.random.default_rng(0)
    sizes = [(8, 8), (9, 12), (16, 10)] * 20
    rows = {
        "image": [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes],
        "label": [row % 2 for row in range(60)],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "data"))
    script, debug = REPOSITORY / "recipes" / "train_vae.py", REPOSITORY / "recipes" / "train_vae" / "debug.yaml"
    config = '{"likelihood": "gaussian", "sigma": "optimal", "hidden_sizes": [8]}'
    words = [
        "--dataset_name",
        str(tmp_path / "data"),
        "--image_size",
        "8",
        "--max_steps",
        "2",
        "--model_config",
        config,
    ]
    words += ["--num_judged_pictures", "10", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(script), "--config", str(debug), *words])
    runpy.run_path(str(script), run_name="__main__")
    assert "FD (data classifier)" in capsys.readouterr().out
    assert AutoModel.from_pretrained(tmp_path / "out").config.num_channels == 3


def test_a_vq_vae_needs_no_judge_and_says_what_it_is(tmp_path, monkeypatch):
    script, debug = REPOSITORY / "recipes" / "train_vae.py", REPOSITORY / "recipes" / "train_vae" / "debug.yaml"
    config = '{"model_type": "genkit_vq_vae", "hidden_sizes": [8], "codebook_size": 16, "code_dim": 4}'
    words = ["--model_config", config, "--max_steps", "4", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(script), "--config", str(debug), *words])
    runpy.run_path(str(script), run_name="__main__")
    card = (tmp_path / "out" / "README.md").read_text()
    check_model_card(card)
    assert "nats" not in card
    assert "no prior to sample from" in card


def test_folders_without_classes_have_no_labels(refusal, tmp_path):
    """datasets' imagefolder makes a label column of nothing for them."""
    for split in ("train", "validation"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), number).save(tmp_path / "data" / split / f"{number}.png")
    words = ["--dataset_name", tmp_path / "data", "--output_dir", tmp_path / "out"]
    assert "has no labels to train one" in refusal("train_vae", *words)


@pytest.mark.parametrize("recipe", ["train_vae", "train_gan"])
def test_the_result_is_pushed_in_one_commit_with_code_and_pictures(hub, tmp_path, monkeypatch, recipe):
    words = ["--push_to_hub", "--hub_model_id", recipe.replace("_", "-"), "--hub_token", hub.write_token]
    words += ["--max_steps", "2", "--save_strategy", "no", "--feature_extractor", "none"]
    script, debug = REPOSITORY / "recipes" / f"{recipe}.py", REPOSITORY / "recipes" / recipe / "debug.yaml"
    arguments = [str(script), "--config", str(debug), "--output_dir", str(tmp_path / "out"), *words]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(script), run_name="__main__")
    name = f"tester/{recipe.replace('_', '-')}"
    files = hub.files(name)
    kind = recipe.removeprefix("train_")
    assert {"README.md", "config.json", "model.safetensors", "samples.png", f"modeling_{kind}.py"} <= set(files)
    assert len(hub.commits(name)) == 2, "the Hub's own initial commit, and ours"
    assert not any(hub.write_token.encode() in content for content in files.values())
    check_model_card(files["README.md"].decode())
    assert AutoModel.from_pretrained(name).config.image_size == 8
