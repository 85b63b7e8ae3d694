import io
import logging
import sys

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset, DatasetDict
from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from hf_genkit.data import SpeechData, normalise_transcript, train_tokenizer


soundfile = pytest.importorskip("soundfile")

TONE = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000) / 2  # 1 s at 16 kHz
END, START, NO_TIMES = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    letters = train_tokenizer(["press one or two"], 258)
    letters.add_special_tokens({"additional_special_tokens": [START, NO_TIMES]})
    letters.save_pretrained(folder)
    tokenizer = WhisperTokenizer.from_pretrained(folder, pad_token=END, eos_token=END, bos_token=END)
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=3), tokenizer)


def wav(samples=TONE, rate=16000, form="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return {"bytes": file.getvalue(), "path": None}


def speech(clips, texts=None, **options):
    columns = {"audio": clips, "text": texts or ["press one"] * len(clips)}
    rows = Dataset.from_dict(columns).cast_column("audio", Audio())
    return SpeechData(DatasetDict(train=rows, validation=rows), **options)


def inputs(clips, processor, texts=None, **options):
    data = speech(clips, texts)
    return data.inputs(data.splits["train"], processor, **options)


def batch(data, indices):
    (fetched,) = data.__getitems__(indices)
    return fetched.inputs


# ---- sound ----------------------------------------------------------------------------------------------------------


def test_features_are_the_extractors_own(processor):
    clips = [(tone * 2**15).astype(np.int16) for tone in (TONE, TONE[:9000] * np.linspace(0, 1, 9000))]
    data = inputs([wav(clip) for clip in clips], processor)
    floats = [clip.astype(np.float32) / 2**15 for clip in clips]
    wanted = processor.feature_extractor(floats, sampling_rate=16000, return_tensors="pt")["input_features"]
    found = batch(data, [1, 0])["input_features"]
    assert found.shape == (2, 80, 300)
    assert torch.equal(found, wanted[[1, 0]])
    assert torch.equal(data[1]["input_features"], wanted[1])


def test_16_bit_samples_are_stored_as_they_are(processor):
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, 5000).astype(np.int16)
    assert np.array_equal(inputs([wav(noise)], processor).samples, noise)


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_other_rates_are_resampled(processor, rate):
    tone = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate) / 2
    samples = inputs([wav(tone, rate)], processor).samples / 32768
    assert len(samples) == 16000
    assert np.abs(samples - TONE)[500:-500].max() < 0.01


def test_channels_are_mixed_and_loud_clips_do_not_wrap_around(processor):
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    assert np.abs(inputs([wav(stereo)], processor).samples / 32768 - TONE / 2).max() < 1e-3
    loud = inputs([wav(TONE * 4, subtype="FLOAT")], processor).samples
    assert (loud.min(), loud.max()) == (-(2**15), 2**15 - 1)
    assert (np.sign(loud) * np.sign(TONE)).min() >= 0


def test_paths_and_flac_are_read(processor, tmp_path):
    soundfile.write(tmp_path / "a.flac", TONE, 16000)
    rows = Dataset.from_dict({"file": [str(tmp_path / "a.flac")], "text": ["press"]})
    data = SpeechData(DatasetDict(train=rows), audio_column="file")
    assert data.text_column == "text"
    assert len(data.inputs(rows, processor).samples) == 16000
    (tmp_path / "a.flac").unlink()
    with pytest.raises(ValueError, match="Audio 0 of the column 'file' can't be read"):
        data.inputs(rows, processor)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"bytes": b"no sound", "path": None}, "Audio 1 of the column 'audio' can't be read"),
        (None, "Audio 1 of the column 'audio' is missing"),
        (wav(TONE[:0]), "Audio 1 of the column 'audio' has no samples"),
    ],
)
def test_a_clip_that_is_no_sound_is_named_by_its_row(processor, clip, message):
    with pytest.raises(ValueError, match=message):
        inputs([wav(), clip], processor)


def test_a_missing_soundfile_names_the_extra(processor, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    data = speech([wav(TONE[:100])])
    with pytest.raises(ImportError, match=r'pip install "hf-genkit\[audio\]"'):
        data.inputs(data.splits["train"], processor)


# ---- labels ---------------------------------------------------------------------------------------------------------


def test_the_decoder_reads_one_start_token_and_learns_the_end(processor):
    tokenizer = processor.tokenizer
    labels = batch(inputs([wav()] * 2, processor, ["two", "one two"]), [0, 1])["labels"]
    start, no_times, end = tokenizer.convert_tokens_to_ids([START, NO_TIMES, END])
    assert labels[1, 0] == no_times
    assert labels[1, -1] == end
    assert labels[0, -4:].tolist() == [-100] * 4
    assert labels[0, -5] == end
    read = shift_tokens_right(labels, end, start)
    assert (read == start).sum(1).tolist() == [1, 1]
    assert read[:, 0].tolist() == [start] * 2


def test_every_word_has_one_space_before_it_as_whisper_writes(processor):
    labels = batch(inputs([wav()] * 2, processor, [" one  two\n", ""]), [0, 1])["labels"]
    decoded = [processor.tokenizer.decode(row[row != -100], skip_special_tokens=True) for row in labels]
    assert decoded == [" one two", ""]


def test_long_clips_and_transcripts_are_left_out_and_counted(processor, caplog):
    clips, texts = [wav(), wav(np.tile(TONE, 4)), wav(TONE / 2), wav(np.tile(TONE, 3))], ["a", "b", "press " * 10, "d"]
    with caplog.at_level(logging.WARNING):
        data = inputs(clips, processor, texts, max_label_length=20)
    assert len(data) == 2
    assert "2 of 4 clips are left out: longer than 3 s or 20 tokens" in caplog.text
    assert np.diff(data.offsets).tolist() == [16000, 48000]
    assert processor.tokenizer.decode(data[1]["labels"], skip_special_tokens=True) == " d"
    with pytest.raises(ValueError, match="Every clip is longer than 3 s or 2 tokens"):
        inputs(clips, processor, texts, max_label_length=2)


def test_a_missing_transcript_is_named_by_its_row(processor):
    with pytest.raises(ValueError, match="Text 1 of the column 'text' is missing"):
        inputs([wav(TONE[:100])] * 2, processor, ["a", None])


# ---- columns --------------------------------------------------------------------------------------------------------


def test_columns_are_found_and_wrong_ones_named():
    rows = Dataset.from_dict({"id": ["x"], "clip": [wav()], "transcription": ["a"]}).cast_column("clip", Audio())
    splits = DatasetDict(train=rows)
    data = SpeechData(splits)
    assert (data.audio_column, data.text_column) == ("clip", "transcription")
    assert SpeechData(splits, text_column="id").text_column == "id"
    with pytest.raises(ValueError, match="no audio column 'sound'"):
        SpeechData(splits, audio_column="sound")
    with pytest.raises(ValueError, match="no audio column"):
        SpeechData(DatasetDict(train=rows.remove_columns("clip")))
    with pytest.raises(ValueError, match="neither audio nor its paths"):
        SpeechData(DatasetDict(train=rows.add_column("n", [1])), audio_column="n")


def test_transcripts_are_compared_without_what_is_not_heard():
    assert normalise_transcript("Please press TWO, it's  Mr. Smith!") == "please press 2 it is mister smith"
    assert normalise_transcript("Größe: 2!", english=False) == "größe 2"
