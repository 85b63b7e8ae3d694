"""Models of speech side by side: the same clips for all, errors of words and characters, and the time for a clip."""

import json

import datasets
import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from hf_genkit.compare import speech_models
from hf_genkit.compare.judged_models import JudgedSpeechModel
from hf_genkit.report.writing import read_report

from ..trainers.tiny_whisper import save_whisper
from .test_comparison import compare, refused  # noqa: F401


soundfile = pytest.importorskip("soundfile")

TASK = ["--task", "automatic-speech-recognition"]
SAID = ["press one", "press two", "press one", "press two"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number, text in enumerate(SAID):
        path = folder / f"{number}.wav"
        soundfile.write(path, np.sin(np.arange(8000) * (0.1 + 0.1 * number)) / 2, 16000)
        rows.append({"audio": str(path), "text": text})
    split = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    datasets.DatasetDict(train=split, validation=split, test=split).save_to_disk(str(folder / "data"))
    return folder / "data"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """
    Two models of speech, of which the second knows fewer tokens, hears half as many bands and has half of the bytes for each
    weight.
    """
    folder = tmp_path_factory.mktemp("models")
    save_whisper(folder / "teacher", 300)
    whole = AutoModelForSpeechSeq2Seq.from_pretrained(save_whisper(folder / "small"))
    config = WhisperConfig.from_pretrained(folder / "small", num_mel_bins=40)
    student = WhisperForConditionalGeneration(config).bfloat16()
    student.generation_config = whole.generation_config
    student.save_pretrained(folder / "student")
    processor = AutoProcessor.from_pretrained(folder / "small")
    processor.feature_extractor = WhisperFeatureExtractor(feature_size=40, chunk_length=1)
    processor.save_pretrained(folder / "student")
    return folder / "teacher", folder / "student"


@pytest.fixture
def heard(monkeypatch):
    """What models write down instead of what they would: the teacher all of it, the student half of each."""
    asked = []

    def write_down(model, tokenizer, features):
        asked.append(len(features))
        assert features.shape[1:] == (model.config.num_mel_bins, 100)
        texts = [f" {text.title()}." for text in SAID[: len(features)]]
        is_student = model.dtype == torch.bfloat16
        return [text.split()[0] if is_student else text for text in texts], 0.125 if is_student else 0.5

    monkeypatch.setattr(speech_models, "write_down", write_down)
    return asked


def test_models_of_speech_are_judged_by_words_characters_bytes_and_seconds(
    clips, models, heard, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    compare(monkeypatch, *TASK, "--dataset_name", clips, "--models", *models, "--output_dir", out)
    teacher, student = json.loads((out / "results.json").read_text())["models"]
    assert (teacher["parts"], student["parts"]) == ([0] * 4, [1] * 4)
    assert teacher["wholes"] == student["wholes"] == [2] * 4
    assert (student["wrong_characters"], student["characters"]) == ([4, 2] * 2, [9, 7] * 2)  # press 2
    assert teacher["size_bytes"] == (models[0] / "model.safetensors").stat().st_size
    (table,) = [block for block in read_report(out).sections[0].blocks if type(block).__name__ == "Table"]
    first, second = table.rows
    assert first["Word error rate"] == "0.0000 (0.0000 to 0.0000)"
    assert second["Minus teacher"] == "+0.5000 (+0.5000 to +0.5000)"
    assert (second["Character error rate"], second["Faster"], second["Smaller"]) == (
        "0.3750",
        "4.0 times",
        f"{teacher['size_bytes'] / student['size_bytes']:.1f} times",
    )
    assert (first["Real-time factor"], second["Real-time factor"]) == ("1", "0.25")  # clips of half a second
    assert (table.best["Word error rate"], table.best["Character error rate"]) == ("low", "low")
    summary = read_report(out).summary
    assert summary[0] == "'teacher' has the best word error rate, 0."
    assert "4.0 times as fast as 'teacher' with +0.5000 word error rate" in summary[1]
    assert "excludes no difference" in summary[1]
    assert heard.count(1) == 2 * 5 * 4, "clips are timed alone, in five rounds"


def test_models_write_down_clips_by_themselves(clips, models, tmp_path, monkeypatch):
    out = tmp_path / "out"
    compare(monkeypatch, *TASK, "--dataset_name", clips, "--models", *models, "--output_dir", out)
    found = json.loads((out / "results.json").read_text())["models"]
    assert all(sum(model["parts"]) > 0 and model["latency_ms"] > 0 for model in found)
    assert "Word error rate against size" in (out / "report.html").read_text()


def test_clips_of_another_rate_are_refused(clips, models, tmp_path, refused):  # noqa: F811
    other = save_whisper(tmp_path / "other")
    processor = AutoProcessor.from_pretrained(other)
    processor.feature_extractor = WhisperFeatureExtractor(chunk_length=1, sampling_rate=8000)
    processor.save_pretrained(other)
    words = [*TASK, "--dataset_name", clips, "--models", models[0], other, "--output_dir", tmp_path / "out"]
    assert "'other' hears clips at 8000 Hz, but" in refused(*words).replace(f"{tmp_path}/", "")
    assert not (tmp_path / "out").exists()


def test_transcripts_without_a_word_are_refused(clips, models, tmp_path, refused):  # noqa: F811
    silent = datasets.load_from_disk(str(clips)).map(lambda row: {"text": "[noise]"})
    silent.save_to_disk(str(tmp_path / "silent"))
    words = [*TASK, "--dataset_name", tmp_path / "silent", "--models", *models, "--output_dir", tmp_path / "out"]
    assert "The transcripts hold no word, so there is no word error rate." in refused(*words)


def test_the_real_time_factor_is_seconds_of_work_for_a_second_of_speech():
    one = JudgedSpeechModel("one", [1], [4], latency_ms=500.0, characters=[20], wrong_characters=[5], clip_seconds=2.0)
    assert one.real_time_factor == 0.25
    assert one.character_errors.mean == 0.25
