"""A data set of speech with its transcripts, for models such as Whisper."""

import io
import logging
import math
from functools import cache

import datasets
import numpy as np
import torch
from transformers import ProcessorMixin
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from .batch import Batch
from .columns import UNLABELLED, find_text_column, is_text, named_column, only_column
from .whole_splits import WholeSplits


logger = logging.getLogger(__name__)

TRANSCRIPT_NAMES = ("transcription", "transcript", "normalized_text")
DECODER_START = "<|startoftranscript|>"
LOUDEST = 2**15


class SpeechDataset(torch.utils.data.Dataset):
    """
    Clips as 16-bit samples in one flat array (115 MB an hour at 16 kHz), and their labels. A batch's features are
    computed when it is fetched, with one index; give the data set, or `Trainer`, a [`BatchCollator`].

    Args:
        samples (`np.ndarray`): All `N` clips, one after the other, `int16` at the extractor's rate, of shape `[S]`.
        offsets (`np.ndarray`): Where each clip begins, and at last `S`: of shape `[N + 1]`.
        labels (`list[np.ndarray]`): The token ids of each transcript, as the model is to put them out.
        feature_extractor (`SequenceFeatureExtractor`): Makes features of fixed length, as Whisper's.
    """

    def __init__(self, samples: np.ndarray, offsets: np.ndarray, labels: list[np.ndarray], feature_extractor):
        self.samples = samples
        self.offsets = offsets
        self.labels = labels
        self.feature_extractor = feature_extractor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: value[0] for name, value in self._fetch([range(len(self))[index]]).items()}

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        return [Batch(self._fetch(indices))]

    def _fetch(self, indices: list[int]) -> dict[str, torch.Tensor]:
        clips = [self.samples[self.offsets[i] : self.offsets[i + 1]].astype(np.float32) / LOUDEST for i in indices]
        rate = self.feature_extractor.sampling_rate
        features = self.feature_extractor(clips, sampling_rate=rate, return_tensors="pt")["input_features"]
        rows = [self.labels[index] for index in indices]
        labels = np.full((len(rows), max(map(len, rows))), UNLABELLED, dtype=np.int64)
        for target, row in zip(labels, rows, strict=True):
            target[: len(row)] = row
        return {"input_features": features, "labels": torch.from_numpy(labels)}


class SpeechData(WholeSplits):
    """
    Splits of a data set of speech, ready to become model inputs. Needs soundfile, the extra `audio`.

    Args:
        splits (`datasets.DatasetDict`): From [`load_data`].
        audio_column (`str`, *optional*): Clips of the type `datasets.Audio`, or paths; found by that type.
        text_column (`str`, *optional*):
            Transcripts. Without it `transcription`, `transcript` or `normalized_text`, or see [`find_text_column`].

    Raises:
        `ValueError`: There is no such column, or the data stream.
    """

    def __init__(
        self, splits: datasets.DatasetDict, *, audio_column: str | None = None, text_column: str | None = None
    ):
        super().__init__(splits)
        features = splits["train"].features
        if audio_column is None:
            clips = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
            audio_column = only_column(features, clips, "audio")
        feature = features[named_column(features, audio_column, "audio")]
        if not is_text(feature) and not isinstance(feature, datasets.Audio):
            raise ValueError(f"The column {audio_column!r} holds {feature}, neither audio nor its paths.")
        self.audio_column = audio_column
        named = text_column or next((name for name in TRANSCRIPT_NAMES if name in features), None)
        self.text_column = find_text_column(splits["train"].remove_columns(audio_column), named)

    def inputs(
        self, split: datasets.Dataset, processor: ProcessorMixin, *, max_label_length: int = 448
    ) -> SpeechDataset:
        """
        Model inputs of a split: `input_features` and `labels`. Clips are mixed to one channel and resampled to the rate
        of the processor. Transcripts are written as Whisper writes them, with one space before each word, the first too.
        Labels are their ids without `<|startoftranscript|>`, which the model itself puts in front of what its decoder
        reads; they end with the end token, which counts, and are padded with -100. For a multilingual Whisper call
        `processor.tokenizer.set_prefix_tokens(language=..., task=...)` before. Clips and transcripts that are too long are
        left out; a warning says how many.

        Args:
            split (`datasets.Dataset`): One of the splits or part of one.
            processor (`WhisperProcessor`): The model's; its feature extractor says how long a clip may be.
            max_label_length (`int`, *optional*, defaults to 448): The most tokens of a transcript.

        Raises:
            `ValueError`: A clip can't be read or a transcript is missing (the row is named), or all are too long.
            `ImportError`: soundfile is not installed.
        """
        extractor, tokenizer = processor.feature_extractor, processor.tokenizer
        rows = split.with_format(None).select_columns([self.audio_column, self.text_column])
        if isinstance(rows.features[self.audio_column], datasets.Audio):
            rows = rows.cast_column(self.audio_column, datasets.Audio(decode=False))
        start = tokenizer.convert_tokens_to_ids(DECODER_START)
        clips, labels = [], []
        for index, row in enumerate(rows):
            if row[self.text_column] is None:
                raise ValueError(f"Text {index} of the column {self.text_column!r} is missing.")
            clip = _read(row[self.audio_column], index, self.audio_column, extractor.sampling_rate)
            ids = tokenizer(" ".join(["", *row[self.text_column].split()])).input_ids
            ids = np.int32(ids[1:] if ids[0] == start else ids)
            if len(clip) <= extractor.n_samples and len(ids) <= max_label_length:
                clips.append(clip)
                labels.append(ids)
        most = f"{extractor.n_samples / extractor.sampling_rate:g} s or {max_label_length} tokens"
        if not clips:
            raise ValueError(f"Every clip is longer than {most}.")
        if len(clips) < len(rows):
            logger.warning(f"{len(rows) - len(clips)} of {len(rows)} clips are left out: longer than {most}.")
        offsets = np.cumsum([0, *map(len, clips)], dtype=np.int64)
        return SpeechDataset(np.concatenate(clips), offsets, labels, extractor)


def normalise_transcript(text: str, *, english: bool = True) -> str:
    """
    A transcript as word error rates compare it, without what isn't heard: lower case, no punctuation, and for English
    numbers as digits, contractions and abbreviations written out, as in
    [Whisper](https://huggingface.co/papers/2212.04356) but with spellings left as they are.

    Args:
        text (`str`): The transcript.
        english (`bool`, *optional*, defaults to `True`): Whether it is English.
    """
    return _normaliser(english)(text).strip()


@cache
def _normaliser(english: bool) -> EnglishTextNormalizer | BasicTextNormalizer:
    return EnglishTextNormalizer({}) if english else BasicTextNormalizer()


def _read(audio: dict | str | None, index: int, column: str, rate: int) -> np.ndarray:
    """A clip's 16-bit samples at this rate, mixed to one channel."""
    try:
        import soundfile
    except ImportError as error:
        raise ImportError('SpeechData needs soundfile: pip install "hf-genkit[audio]"') from error
    if audio is None:
        raise ValueError(f"Audio {index} of the column {column!r} is missing.")
    source = audio
    if isinstance(audio, dict):
        source = audio["path"] if audio["bytes"] is None else io.BytesIO(audio["bytes"])
    try:
        channels, own_rate = soundfile.read(source, always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"Audio {index} of the column {column!r} can't be read: {error}") from error
    if len(channels) == 0:
        raise ValueError(f"Audio {index} of the column {column!r} has no samples.")
    clip = channels.mean(axis=1)
    if own_rate != rate:
        from scipy.signal import resample_poly  # takes a second to import, which images and texts need not wait for

        shared = math.gcd(rate, own_rate)
        clip = resample_poly(clip, rate // shared, own_rate // shared)
    return np.clip(np.round(clip * LOUDEST), -LOUDEST, LOUDEST - 1).astype(np.int16)
