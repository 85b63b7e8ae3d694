"""What the README promises: its commands, its example, its tree and its table of losses."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertForSequenceClassification

from hf_genkit.arguments.compression_arguments import LINKS
from hf_genkit.losses import DISTILLATION_LOSSES
from hf_genkit.losses.diffusion import PREDICTIONS, WEIGHTINGS
from hf_genkit.losses.gan import GAN_LOSSES
from hf_genkit.pipelines import SAMPLERS
from hf_genkit.trainers.noise_levels import NOISE_SCHEDULES
from hf_genkit.trainers.soft_target_config import loss_knobs

from .trainers.tiny_diffusion import diffusion_trainer, unet
from .trainers.tiny_distillation import llama
from .trainers.tiny_finetuning import finetuning_model
from .trainers.tiny_generative import pictures


REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def block(language: str, *, containing: str = "") -> str:
    """The README's one code block in a language that holds some text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (found,) = [code for name, code in blocks if name == language and containing in code]
    return found.strip()


def test_ci_runs_the_readmes_test_command():
    command = block("bash", containing="pytest")
    assert "\n" not in command
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert f"({command})" in script
    assert command in (REPOSITORY / "CONTRIBUTING.md").read_text()


def test_ci_stops_where_the_install_fails(tmp_path):
    """In `a && b` a failing `a` does not end a script, whatever `set -e` says: pytest's absence would go unseen."""
    lines = (REPOSITORY / ".ci" / "run").read_text().replace('cd "$(dirname "$0")/.."', "").splitlines()
    script = "\n".join(line for line in lines if not line.startswith(("python3 -m venv", "source")))
    (tmp_path / "bin").mkdir()
    for name, status in (("pip", 1), ("pytest", 0), ("ruff", 0)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name}\nexit {status}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], env=path, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "pip\n")


def test_the_main_command_names_files_that_exist():
    install, launch = block("bash", containing="pip install -e . ").split(" && ")
    assert all((REPOSITORY / word).exists() for word in shlex.split(install) if word.endswith(".txt"))
    assert (REPOSITORY / shlex.split(launch)[-1]).is_file()


def test_the_example_of_distillation_runs(tmp_path, monkeypatch):
    """It needs what its introduction names: a tokenizer and tokenized data."""
    monkeypatch.chdir(tmp_path)
    sizes = {"vocab_size": 50, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    teacher = BertForSequenceClassification(BertConfig(**sizes, num_hidden_layers=6, max_position_embeddings=16))
    teacher.save_pretrained("teacher")
    rows = [
        {"input_ids": torch.full((4,), i), "attention_mask": torch.ones(4, dtype=torch.long), "labels": i % 2}
        for i in range(8)
    ]
    names = {"teacher_name": "teacher", "train": rows, "test": rows, "tokenizer": None}
    exec(block("python", containing="AutoModelForSequenceClassification"), names)
    trainer = names["trainer"]
    assert trainer.model.config.num_hidden_layers == 2
    assert trainer.state.global_step == 3
    assert {"eval_accuracy", "eval_ce_loss", "eval_kd_loss", "eval_teacher_agreement"} <= set(trainer.evaluate())


def test_the_example_of_a_distilled_language_model_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    llama(60, layers=3).save_pretrained("teacher")
    rows = [{"input_ids": torch.arange(5, 15), "labels": torch.arange(5, 15)} for _ in range(8)]
    names = {"language_model_name": "teacher", "blocks": rows}
    exec(block("python", containing="language_model_name").replace("max_steps=2000", "max_steps=2"), names)
    assert names["trainer"].fuses
    assert names["trainer"].loss_weights(evaluating=False) == {"kd_loss": 0.5, "ce_loss": 0.5, "cosine_loss": 1.0}


def test_the_example_of_a_vae_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"images": pictures()}
    exec(block("python", containing="VAEModel").replace("max_steps=3000", "max_steps=2"), names)
    assert names["pictures"].shape == (16, 1, 8, 8)


def test_the_examples_of_diffusion_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"images": pictures()}
    example = block("python", containing="UNet2DModel").replace("max_steps=2000", "max_steps=2")
    exec(example.replace("num_inference_steps=25", "num_inference_steps=2"), names)
    assert names["pictures"][0].size == (8, 8)

    trainer = diffusion_trainer(
        unet(num_class_embeds=5), "outputs/ddpm-digits", id2label=dict(enumerate("0123")), max_steps=1
    )
    trainer.save_model()
    images = {"image": Image.new("L", (8, 8), 50), "mask_image": Image.new("L", (8, 8), 255)}
    exec(block("python", containing="InpaintingPipeline").replace("seed=0", "seed=0, num_inference_steps=2"), images)
    assert images["mended"].size == (8, 8)


def test_the_example_of_an_adapter_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finetuning_model("llama").save_pretrained("base")
    rows = [{"input_ids": torch.arange(5, 15), "labels": torch.arange(5, 15)} for _ in range(8)]
    names = {"base_name": "base", "blocks": rows}
    exec(block("python", containing="load_adapter").replace("max_steps=100", "max_steps=2"), names)
    assert names["trainer"].state.global_step == 2
    assert type(names["plain"]).__name__ == "LlamaForCausalLM"


def test_the_example_of_compression_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(**sizes, num_hidden_layers=6, max_position_embeddings=16)).eval()
    batch = {"input_ids": torch.arange(2 * 8).view(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    names = {"model": model, "batch": batch}
    exec(block("python", containing="prune_structure"), names)
    assert names["small"].config.num_hidden_layers == 3
    assert names["logits"].shape == (2, 2)
    assert BertForSequenceClassification.from_pretrained("small-int8").config.quantization_config is not None


def test_the_example_of_the_analysis_says_that_the_discriminator_is_ahead(capsys):
    exec(block("python", containing="analyze_gan_stability"), {})
    assert "discriminator ahead" in capsys.readouterr().out


def test_the_table_of_gan_losses_is_complete():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", README, re.MULTILINE)
    assert rows == list(GAN_LOSSES)


def test_the_table_of_diffusion_names_every_prediction_schedule_and_sampler():
    rows = dict(re.findall(r"^\| `--(\w+)` \| (.+) \|$", README, re.MULTILINE))
    for option, known in (
        ("prediction_type", PREDICTIONS),
        ("noise_schedule", NOISE_SCHEDULES),
        ("weighting", WEIGHTINGS),
    ):
        assert set(known) <= set(re.findall(r"`(\w+)`", rows[option]))
    assert {name for kind in SAMPLERS.values() for name in kind} == set(re.findall(r"`([\w+]+)`", rows["sampler"])) - {
        "flow",
        "edm",
    }


def test_the_table_of_links_is_complete():
    rows = re.findall(r"^\| `(\w+):", README, re.MULTILINE)
    assert set(rows) | {"finetune"} == set(LINKS)


def test_the_table_of_losses_is_complete():
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.*)\|$", README, re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", knobs) for name, knobs in rows}
    assert documented == {name: loss_knobs(name) for name in DISTILLATION_LOSSES}


def test_every_recipe_and_yaml_is_named():
    for path in (*REPOSITORY.glob("recipes/*.py"), *REPOSITORY.glob("recipes/*/*.yaml")):
        assert path.name in README or path.stem in README, f"the README does not mention {path.name}"


def tree() -> list[str]:
    """The paths of the README's tree: a name's indentation says which folder it is in."""
    paths, folders = [], []
    for line in block("", containing="hf_genkit/\n").splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        paths.append("".join(folders))
    return paths


@pytest.mark.parametrize("path", tree())
def test_the_tree_shows_what_is_there(path):
    assert list(REPOSITORY.glob(path.rstrip("/"))), f"there is no {path}"


def test_the_tree_leaves_nothing_out():
    shown = {path.split("/")[0] for path in tree()} | {path.split("/")[1] for path in tree() if path.count("/") > 1}
    there = {path.parent.name for path in REPOSITORY.glob("hf_genkit/*/__init__.py")}
    there |= {"hf_genkit", "recipes", "model_cards", "benchmarks", "tests", "constraints.txt"}
    assert there <= shown


def test_the_benchmarks_have_a_place():
    assert README.count("<!-- benchmarks:start -->") == README.count("<!-- benchmarks:end -->") == 1
