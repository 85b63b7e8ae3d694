"""A model that is given for the wrong task: one sentence says what it is and which option it takes."""

from pathlib import Path

import pytest

from hf_genkit.compare.kinds import check_kinds

from ..trainers.tiny_whisper import save_whisper
from . import tiny
from .test_comparison import compare, refused  # noqa: F401
from .test_task_models import save_classifier, save_language_model


PICTURES, CLASSES, TEXTS, SPEECH = (
    "image-generation",
    "image-classification",
    "text-generation",
    "automatic-speech-recognition",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_classifier(folder / "classifier", 16)
    save_language_model(folder / "writer", 16)
    save_whisper(folder / "listener")
    tiny.vae().save_pretrained(folder / "vae")
    tiny.pipeline().save_pretrained(folder / "ddpm")
    tiny.save_vision_model(folder / "headless")
    (folder / "exported").mkdir()
    (folder / "exported" / "model.onnx").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("classifier", PICTURES, f"is a ViTForImageClassification for {CLASSES}, not for {PICTURES}: pass `--task {CLASSES}`"),
        ("writer", PICTURES, f"is a LlamaForCausalLM for {TEXTS}, not for {PICTURES}: pass `--task {TEXTS}`"),
        ("listener", PICTURES, f"is a WhisperForConditionalGeneration for {SPEECH}, not for {PICTURES}: pass `--task {SPEECH}`"),
        ("writer", CLASSES, f"is a LlamaForCausalLM for {TEXTS}, not for {CLASSES}: pass `--task {TEXTS}`"),
        ("vae", CLASSES, f"is a VAEModel, which makes pictures: leave out `--task {CLASSES}`"),
        ("ddpm", SPEECH, f"is a UnconditionalPipeline, which makes pictures: leave out `--task {SPEECH}`"),
        ("headless", PICTURES, "is a ViTModel, which makes no pictures: give VAEs, GANs and diffusion pipelines"),
        ("exported", PICTURES, "is an exported ONNX model: say with `--task` what it is for"),
        ("exported", SPEECH, "is an exported ONNX model, but only models of PyTorch write down speech"),
    ],
)  # fmt: skip
def test_the_wrong_task_is_told(models, name, task, expected):
    with pytest.raises(ValueError, match="is a") as refusal:
        check_kinds([str(models / name)], task)
    assert f"'{models / name}' {expected}" in str(refusal.value)


def test_the_right_task_and_what_loading_judges_pass(models):
    for names, task in {
        ("vae", "ddpm", "nothing-of-this-name"): PICTURES,
        ("classifier", "headless", "exported"): CLASSES,
        ("writer",): TEXTS,
        ("listener",): SPEECH,
    }.items():
        check_kinds([str(models / name) for name in names], task)


def test_the_recipe_says_so_before_it_reads_data(models, tmp_path, refused):  # noqa: F811
    words = ["--dataset_name", tmp_path / "none", "--output_dir", tmp_path / "out", "--models"]
    said = refused(*words, models / "classifier", models / "vae")
    assert f"pass `--task {CLASSES}` to compare it" in said
    said = refused(*words, models / "classifier", models / "vae", "--task", CLASSES)
    assert f"leave out `--task {CLASSES}` to compare it" in said
    assert not (tmp_path / "out").exists()
