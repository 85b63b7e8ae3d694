"""Adapters, masks, speech, quantized weights, F1 and teachers: each is measured as it was when the card was written."""

import re

import datasets
import numpy as np
import pytest
from huggingface_hub import HfApi
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
)

from hf_genkit.compress import quantize
from hf_genkit.hub import read_claims

from ..trainers.tiny_whisper import save_whisper
from .conftest import train


NO_CONFIG = ("--model_config", "null")


def test_an_adapter_is_measured_on_its_base_at_the_recorded_revision(push, check, classifier, tmp_path):
    base = push(classifier, "base")
    words = [*NO_CONFIG, "--model_name_or_path", base, "--peft", "lora", "--lora_rank", 2, "--num_train_epochs", 1]
    adapter = push(train("finetune", tmp_path / "adapter", *words), "adapter")
    status, shown = check(adapter)
    assert status == 0, shown
    at_home = train("finetune", tmp_path / "at-home", *words[:3], classifier, *words[4:])
    config = at_home / "adapter_config.json"
    config.write_text(config.read_text().replace(str(classifier), "me/gone"))
    status, sentence = check(at_home)
    assert status == 2
    assert "The base 'me/gone' of the adapter" in sentence
    assert "give it with --base_model" in sentence
    assert check(at_home, "--base_model", base)[0] == 0
    config.write_text(config.read_text().replace('"base_model_name_or_path": "me/gone",', ""))
    assert "doesn't name its base: give it with --base_model" in check(at_home)[1]


def test_masks_are_drawn_with_the_seed_of_the_run(check, corpus, tmp_path):
    config = '{"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
    out = train(
        "distill", tmp_path / "out", "--dataset_name", corpus, "--max_train_samples", 48, "--max_length", 16, "--vocab_size", 300,
        "--num_train_epochs", 1, "--teacher_config", config, "--student_config", config, "--teacher_epochs", 1, "--seeds", 0,
        "--baseline", "false", "--seed", 3, "--mask_probability", 0.3,
    )  # fmt: skip
    card = (out / "README.md").read_text()
    (claim,) = read_claims(card)
    assert claim.result.args == {"seed": 3}
    assert check(out, "--dataset_name", corpus, "--tolerance", "1e-3")[0] == 0
    (out / "README.md").write_text(card.replace("seed: 3\n", "seed: 4\n", 1))
    assert check(out, "--dataset_name", corpus, "--tolerance", "1e-3")[0] == 1


def test_speech_is_measured_by_word_errors(check, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rows = []
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.sin(np.arange(8000) * 2 * np.pi * (440 + 200 * number) / 16000) / 2, 16000)
        rows.append({"audio": str(path), "text": f"press {'one' if number % 2 else 'two'}"})
    clips = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    datasets.DatasetDict(train=clips, validation=clips, test=clips).save_to_disk(str(tmp_path / "clips"))
    model = save_whisper(tmp_path / "whisper")
    out = train(
        "finetune", tmp_path / "out", "--dataset_name", tmp_path / "clips", "--max_train_samples", 4, *NO_CONFIG,
        "--model_name_or_path", model, "--num_train_epochs", 1, "--learning_rate", "1e-3",
    )  # fmt: skip
    claims = read_claims((out / "README.md").read_text())
    assert [claim.result.metric for claim in claims] == ["wer", "perplexity", "accuracy"]
    status, shown = check(out, "--dataset_name", tmp_path / "clips")
    assert status == 0, shown
    assert re.search(r"Word error rate +(\S+) +\1 ", shown)
    soundfile.write(tmp_path / "0.wav", np.zeros(8000), 16000)
    datasets.DatasetDict(train=clips, validation=clips, test=clips).save_to_disk(str(tmp_path / "silent"))
    assert "their fingerprint is another one" in check(out, "--dataset_name", tmp_path / "silent")[1]


def test_quantized_weights_are_measured_as_they_are(check, classifier, tmp_path):
    small = tmp_path / "small"
    quantize(AutoModelForImageClassification.from_pretrained(classifier), "int8_weight_only").save_pretrained(small)
    AutoImageProcessor.from_pretrained(classifier).save_pretrained(small)
    (small / "README.md").write_text((classifier / "README.md").read_text())
    status, shown = check(small, "--tolerance", "0.02")
    assert status == 0, shown


def test_an_adapter_of_a_base_in_few_bits_is_measured_on_such_a_base(push, check, edited, tmp_path):
    pytest.importorskip("bitsandbytes")
    config = '{"model_type": "vit", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 4}'
    base = push(train("finetune", tmp_path / "base", "--model_config", config, "--num_train_epochs", 8), "wide")
    words = ("--model_name_or_path", base, "--peft", "qlora", "--num_train_epochs", 1)
    out = train("finetune", tmp_path / "adapter", *NO_CONFIG, *words)
    (claim,) = read_claims((out / "README.md").read_text())
    assert claim.result.args == {"bits": 4}
    adapter = push(out, "qlora")
    status, shown = check(adapter, "--tolerance", "0")
    assert status == 0, shown
    assert "`bits` is '5', but it must be one of 4, 8" in check(edited(out, "bits: 4", "bits: 5"))[1]


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    """A classifier that was pruned and exported."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("small") / "out"
    chain = ("prune:intermediate=0.5", "export:int8=dynamic")
    return train("compress", out, "--model_name_or_path", classifier, "--chain", *chain)


def test_the_last_form_of_a_chain_and_its_export_are_measured(push, check, hub, exported, edit_card):
    repo = push(exported, "small")
    status, shown = check(repo, "--tolerance", "0")
    assert status == 0, shown
    assert re.search(r"Accuracy .* agrees\nAccuracy of onnx/model.onnx .* agrees\n", shown)
    edit_card(repo, r"(value:) \S+(\n      name: Accuracy of onnx/model.onnx)", r"\1 0.99\2")
    status, shown = check(repo)
    assert status == 1
    assert shown.rstrip().endswith("Not as claimed: Accuracy of onnx/model.onnx.")
    HfApi().delete_file("onnx/model.onnx", repo_id=repo)
    status, shown = check(repo)
    assert status == 2
    assert "Every figure that was checked agrees." in shown
    assert "Accuracy of onnx/model.onnx: 'tester/small' has no onnx/model.onnx, which a figure" in shown


def test_files_that_are_broken_are_said_in_one_sentence(check, classifier, exported, edited, tmp_path):
    """Each library has its own exceptions for them."""
    wide = edited(classifier, '"hidden_size": 16', '"hidden_size": 32', "config.json")
    assert re.search("The weights of '.*' don't fit its configuration", check(wide)[1])
    for file in ("onnx", "model.safetensors"):
        folder = edited(exported, "", "", "README.md")
        (folder / file).unlink()
        (folder / "onnx").mkdir(exist_ok=True)
        (folder / file / "model.onnx" if file == "onnx" else folder / file).write_bytes(b"\x00" * 99)
        status, shown = check(folder)
        assert status == 2
        assert re.search("It can't be checked: .*(InvalidProtobuf|InvalidArgument|SafetensorError|Error)", shown)


def test_f1_is_measured_over_the_classes(check, classifier, tmp_path):
    for path in classifier.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    card = (classifier / "README.md").read_text().replace("type: accuracy", "type: f1")
    (tmp_path / "README.md").write_text(card.replace("args: {}", "args:\n        average: micro"))
    assert check(tmp_path)[0] == 0  # which is the accuracy
    (tmp_path / "README.md").write_text(card)
    assert check(tmp_path)[0] == 1


def test_the_score_of_a_teacher_of_the_hub_is_measured_too(push, check, hub, classifier, tmp_path):
    teacher = push(classifier, "teacher")
    out = train(
        "distill", tmp_path / "out", "--teacher_config", "null", "--teacher_epochs", 0, "--teacher_model_name_or_path", teacher,
        "--num_train_epochs", 1, "--baseline", "false", "--max_train_samples", 64, "--seeds", 0,
    )  # fmt: skip
    (claim,) = read_claims((out / "README.md").read_text())
    assert claim.result.args["teacher_revision"] == hub.commits(teacher)[0].id
    student = push(out, "student")
    status, shown = check(student)
    assert status == 0, shown
    assert re.search(r"Accuracy of the teacher tester/teacher +(\S+) +\1 ", shown)
    HfApi().delete_repo(teacher)
    status, shown = check(student)
    assert status == 2
    assert re.search(r"Accuracy .* agrees", shown)
    assert "It can't be checked: Accuracy of the teacher: The Hub has no model 'tester/teacher'" in shown


def test_other_classes_than_the_models_are_refused(check, classifier, tmp_path):
    for path in classifier.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"3": "3"', '"3": "three"'))
    status, sentence = check(tmp_path)
    assert status == 2
    assert "which the model doesn't know by these names" in sentence
