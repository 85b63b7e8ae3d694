"""recipes/distill.py for language and speech, and by every method: what a run leaves, and what it refuses."""

import re

import datasets
import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSpeechSeq2Seq,
)

from hf_genkit.hub import check_model_card

from ..trainers.tiny_whisper import save_whisper
from .launching import results, run


SENTENCES = [f"The {a} {b} sees the {c} {d}." for a in ("old", "new") for b in ("cat", "dog", "cow") for c in ("red", "wet")
             for d in ("house", "tree", "road")] * 4  # fmt: skip
MODEL = '{"model_type": "%s", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}'
NO_DIGITS = ["--max_train_samples", 1000, "--student_config", "null", "--seeds", 0]
LANGUAGE = [
    *NO_DIGITS, "--max_length", 32, "--vocab_size", 300, "--teacher_epochs", 8, "--student_layers", 1, "--num_train_epochs", 2,
    "--per_device_train_batch_size", 4, "--teacher_learning_rate", 1e-2, "--save_strategy", "no",
]  # fmt: skip


@pytest.fixture
def corpus(tmp_path):
    rows = {"train": SENTENCES[:96], "validation": SENTENCES[96:120], "test": SENTENCES[120:]}
    splits = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in rows.items()}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "corpus"))
    return tmp_path / "corpus"


# ---- Language ----


def test_half_of_a_language_models_layers_is_distilled_and_compared_by_perplexity(
    corpus, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    run(
        monkeypatch,
        "distill",
        *LANGUAGE,
        "--dataset_name",
        corpus,
        "--teacher_config",
        MODEL % "llama",
        "--output_dir",
        out,
    )
    found = results(out)["models"]
    assert set(found) == {"teacher", "student, alone", "student, distilled"}
    assert found["teacher"]["values"][0] < 100, "no better than guessing among the 300 tokens"
    assert AutoModelForCausalLM.from_pretrained(out).config.num_hidden_layers == 1
    shown = capsys.readouterr().out
    assert re.search(r"^Model +Perplexity ", shown, re.MULTILINE)
    assert "perplexity, where less is better (one seed, so no interval)" in shown
    card = (out / "README.md").read_text()
    check_model_card(card)
    assert "type: perplexity" in card
    assert "It writes what is likely after a text" in card


def test_a_masked_language_model_is_distilled_with_its_hidden_states(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ["--dataset_name", corpus, "--teacher_config", MODEL % "bert", "--feature_loss", '{"cosine": 1}']
    run(monkeypatch, "distill", *LANGUAGE, *words, "--output_dir", out, "--baseline", "false")
    assert results(out)["models"]["student, distilled"]["metric"]["key"] == "perplexity"
    assert AutoModelForMaskedLM.from_pretrained(out).config.num_hidden_layers == 1
    assert "1 times the 'cosine' loss of hidden states" in (out / "README.md").read_text()


def test_labels_of_language_can_not_be_left_out(corpus, tmp_path, refusal):
    words = [*LANGUAGE, "--dataset_name", corpus, "--teacher_config", MODEL % "llama", "--labelled_samples", 5]
    sentence = refusal("distill", *words, "--output_dir", tmp_path / "out")
    assert "`labelled_samples` is 5, but text-generation has no labels to leave out" in sentence


# ---- Speech ----


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A tiny Whisper with the bytes of English as its vocabulary."""
    return save_whisper(tmp_path_factory.mktemp("whisper"), decoder_layers=2)


@pytest.fixture
def clips(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    words = ["press one", "press two"]
    for name, count in {"train": 8, "validation": 4, "test": 4}.items():
        rows = []
        for number in range(count):
            tone = np.sin(np.arange(8000) * 2 * np.pi * (440 + 200 * (number % 2)) / 16000) / 2
            path = tmp_path / f"{name}-{number}.wav"
            soundfile.write(path, tone, 16000)
            rows.append({"audio": str(path), "text": words[number % 2]})
        data = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
        data.save_to_disk(str(tmp_path / "clips" / name))
    (tmp_path / "clips" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    return tmp_path / "clips"


def test_a_whisper_with_fewer_decoder_layers_is_compared_by_word_errors(clips, whisper, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = [
        *NO_DIGITS, "--dataset_name", clips, "--also_test_on", clips, "--teacher_config", "null", "--teacher_epochs", 0,
        "--teacher_model_name_or_path", whisper, "--student_layers", 1, "--freeze_encoder", "true", "--num_train_epochs", 1,
        "--per_device_train_batch_size", 4, "--per_device_eval_batch_size", 3, "--save_strategy", "no",
    ]  # fmt: skip
    run(monkeypatch, "distill", *words, "--output_dir", out)
    found = results(out)["models"]
    for model in found.values():
        assert model["elsewhere"]["clips"] == pytest.approx(model["values"])
        assert model["values"] == [pytest.approx(sum(model["parts"]) / sum(model["wholes"]))]
        assert model["wholes"] == [2, 2, 2, 2]
        assert model["seconds_per_clip"] > 0
    shown = capsys.readouterr().out
    assert re.search(r"^Model +Word error rate +95 % interval +On clips ", shown, re.MULTILINE)
    assert "over 4 paired samples of one seed" in shown
    student = AutoModelForSpeechSeq2Seq.from_pretrained(out)
    assert (student.config.encoder_layers, student.config.decoder_layers) == (1, 1)
    teacher = AutoModelForSpeechSeq2Seq.from_pretrained(whisper)
    assert all(
        torch.equal(value, student.get_encoder().state_dict()[name])
        for name, value in teacher.get_encoder().state_dict().items()
    ), "a frozen encoder moved"
    check_model_card((out / "README.md").read_text())


def test_a_model_without_an_encoder_has_none_to_freeze(tmp_path, refusal):
    sentence = refusal("distill", "--freeze_encoder", "true", "--output_dir", tmp_path / "out")
    assert "`freeze_encoder` is true, but ViTForImageClassification has no encoder" in sentence


# ---- Methods ----


def test_peers_are_each_compared_with_themselves_alone(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, "distill", "--output_dir", out, config="debug_online")
    names = [f"peer {number}, {kind}" for number in (0, 1) for kind in ("alone", "distilled")]
    found = results(out)["models"]
    assert list(found) == names
    assert found[names[0]]["efficiency"]["parameters"] != found[names[2]]["efficiency"]["parameters"]
    shown = capsys.readouterr().out
    for number in (0, 1):
        assert f"peer {number}, distilled minus peer {number}, alone:" in shown
        AutoModelForImageClassification.from_pretrained(out / f"peer_{number}")
    check_model_card((out / "README.md").read_text())


@pytest.mark.parametrize(
    "words",
    [
        ["--self_teacher", "ema"],
        ["--self_teacher", "born_again", "--generations", 2],
        ["--self_teacher", "deep_supervision", "--exits", 0],
        ["--self_teacher", "adapter_off", "--lora_rank", 2],
    ],
    ids=lambda words: words[1],
)
def test_a_student_that_teaches_itself_has_no_other_teacher(words, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(monkeypatch, "distill", *words, "--output_dir", out, config="debug_self")
    found = results(out)["models"]
    assert list(found) == ["student, alone", "student, distilled"]
    assert not any(model["agreement"] for model in found.values())
    check_model_card((out / "README.md").read_text())


def test_a_discriminator_counts_neither_as_steps_nor_as_parameters(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, "distill", "--output_dir", out, config="debug_adversarial")
    found = results(out)["models"]
    alone, distilled = (found[f"student, {kind}"]["efficiency"]["parameters"] for kind in ("alone", "distilled"))
    assert alone == distilled
    shown = capsys.readouterr().out
    steps = {
        kind: int(re.search(rf"student, {kind}, seed 0: (\d+) steps", shown)[1]) for kind in ("alone", "distilled")
    }
    assert steps["distilled"] == 2 * steps["alone"]


def test_several_teachers_are_trained_and_shown_each(tmp_path, monkeypatch):
    out = tmp_path / "out"
    small = '{"model_type": "convnext", "patch_size": 2, "num_stages": 2, "depths": [1, 1], "hidden_sizes": [%d, 16]}'
    run(monkeypatch, "distill", "--teacher_config", small % 4, small % 8, "--seeds", 0, "--output_dir", out)
    found = results(out)["models"]
    assert list(found) == ["teacher 0", "teacher 1", "student, alone", "student, distilled"]
    assert found["teacher 0"]["values"] != found["teacher 1"]["values"]
    assert "Accuracy of teacher 1" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--method", "onlin"], "`method` is 'onlin', but it must be one of offline, online, self, adversarial"),
        (["--method", "online"], "unknown key 'teacher_config'"),
        (["--also_test_on", "./nowhere"], "There is no file or folder './nowhere'."),
        (["--task", "text-generation"], "no text column"),
    ],
)
def test_bad_input(refusal, tmp_path, words, expected):
    assert expected in refusal("distill", "--output_dir", tmp_path / "out", *words)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("method", "shown", "hidden"),
    [
        ("offline", "--teacher_top_k", "--self_teacher"),
        ("online", "Peers to start from", "--teacher_model_name_or_path"),
        ("self", "--self_teacher", "--teacher_model_name_or_path"),
        ("adversarial", "--discriminator_on", "--self_teacher"),
    ],
)
def test_help_shows_what_applies_to_a_method(method, shown, hidden, monkeypatch, capsys):
    with pytest.raises(SystemExit) as done:
        run(monkeypatch, "distill", "--help", config="debug" if method == "offline" else f"debug_{method}")
    assert done.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert shown in text
    assert hidden not in text
