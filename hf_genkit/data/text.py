"""Text -> token ids, and the collator that pads them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets.fingerprint import Hasher
from transformers import BatchEncoding, PreTrainedTokenizerBase

from .columns import UNLABELLED, AnyDataset, encode_labels, features_of, is_sequence


TEACHER = "teacher_"
LARGE_INTEGER = int(1e20)


def build_text_dataset(
    dataset: AnyDataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    text_column: str,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label2id: dict[str, int] | None = None,
    max_length: int | None = None,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> datasets.Dataset:
    """
    Tokenize a data set once, without padding, for [`TextCollator`]. Where the labels are lists the words are labelled
    (token classification): a word's label goes to its first token, -100 to its other tokens and to special tokens.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): The data; a stream is tokenized as it comes by.
        tokenizer (`PreTrainedTokenizerBase`): The student's tokenizer.
        text_column (`str`): Its strings, or lists of words for token classification.
        text_pair_column (`str`, *optional*): The second strings of tasks on pairs.
        label_column (`str`, *optional*): Its labels; without it every sample is unlabelled.
        label2id (`dict[str, int]`, *optional*): The index of each class, see [`label_maps`]; needed for labels.
        max_length (`int`, *optional*): The number of tokens to cut at. Defaults to what the tokenizer allows.
        teacher_tokenizer (`PreTrainedTokenizerBase`, *optional*):
            The teacher's tokenizer where it differs; its output goes to columns with the prefix `teacher_`.
        cache_dir (`str`, *optional*):
            Where the tokens of a data set on disk are stored, and found again by the next run. Defaults to a folder in
            the cache of `datasets`. Data in memory stay there.

    Returns:
        `datasets.Dataset`: The tokenizer's columns (`input_ids`, `attention_mask`, ...), the teacher's, and `labels`.

    Raises:
        `ValueError`: If a text is missing (its row is named), or a label is unknown, or words are labelled and the
            teacher has another tokenizer.
    """
    check_padding(tokenizer, teacher_tokenizer)
    features = features_of(dataset)
    tokenize = _Tokenize(
        tokenizer=tokenizer,
        teacher_tokenizer=teacher_tokenizer,
        text_columns=[column for column in (text_column, text_pair_column) if column is not None],
        are_words=is_sequence(features[text_column]),
        label_column=label_column,
        label_feature=features[label_column] if label_column is not None else None,
        label2id=label2id,
        max_length=max_length,
    )
    if tokenize.label_words and not tokenize.are_words:
        raise ValueError(f"The labels {label_column!r} are lists, so {text_column!r} must hold lists of words.")
    if tokenize.label_words and teacher_tokenizer is not None:
        raise ValueError("Token classification needs one tokenizer for teacher and student, since words are labelled.")
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.with_format(None).map(tokenize, with_indices=True, batched=True, remove_columns=list(features))
    fingerprint = Hasher.hash((dataset._fingerprint, tokenize))
    file = None
    if dataset.cache_files:
        folder = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_genkit")
        folder.mkdir(parents=True, exist_ok=True)
        file = str(folder / f"tokens-{fingerprint}.arrow")
    return dataset.with_format(None).map(
        tokenize,
        with_indices=True,
        batched=True,
        remove_columns=dataset.column_names,
        cache_file_name=file,
        new_fingerprint=fingerprint,
        desc="Tokenizing",
    )


class TextCollator:
    """
    Pads the rows of [`build_text_dataset`] to the longest of their batch, the teacher's columns on their own.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The student's tokenizer: its padding token and side are used.
        teacher_tokenizer (`PreTrainedTokenizerBase`, *optional*): The teacher's, for columns that start with `teacher_`.

    Raises:
        `ValueError`: If a tokenizer has no padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, teacher_tokenizer: PreTrainedTokenizerBase | None = None):
        check_padding(tokenizer, teacher_tokenizer)
        self.tokenizer = tokenizer
        self.teacher_tokenizer = teacher_tokenizer

    def __call__(self, features: list[dict]) -> dict[str, torch.Tensor]:
        """
        Args:
            features (`list[dict]`): `B` rows; each has the same columns, as lists, and `labels` as a number or a list.

        Returns:
            `dict[str, torch.Tensor]`: Each column as `int64` of shape `[B, L]`, and labels as `[B]` or, padded with
            -100, as `[B, L]`.
        """
        batch = {}
        for column in features[0]:
            rows = [feature[column] for feature in features]
            if column == "labels" and not isinstance(rows[0], list):
                batch[column] = torch.tensor(rows)
            elif column.startswith(TEACHER):
                batch[column] = _pad(rows, column.removeprefix(TEACHER), self.teacher_tokenizer)
            else:
                batch[column] = _pad(rows, column, self.tokenizer)
        return batch


def check_padding(*tokenizers: PreTrainedTokenizerBase | None):
    """Raises `ValueError` if one of the tokenizers has no padding token."""
    for tokenizer in tokenizers:
        if tokenizer is not None and tokenizer.pad_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} {tokenizer.name_or_path!r} has no padding token: set `pad_token`, for "
                "example to its `eos_token`, and the same `pad_token_id` in the model's config."
            )


def _pad(rows: list[list[int]], column: str, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    padding = {
        "input_ids": tokenizer.pad_token_id,
        "token_type_ids": tokenizer.pad_token_type_id,
        "labels": UNLABELLED,
    }
    length = max(len(row) for row in rows)
    padded = np.full((len(rows), length), padding.get(column, 0), dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        start = length - len(row) if tokenizer.padding_side == "left" else 0
        target[start : start + len(row)] = row
    return torch.from_numpy(padded)


@dataclass
class _Tokenize:
    """The function that `build_text_dataset` maps over batches of rows."""

    tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase | None
    text_columns: list[str]
    are_words: bool
    label_column: str | None
    label_feature: Any
    label2id: dict[str, int] | None
    max_length: int | None

    @property
    def label_words(self) -> bool:
        return is_sequence(self.label_feature)

    def __call__(self, rows: dict[str, list], indices: list[int]) -> dict[str, list]:
        texts = [rows[column] for column in self.text_columns]
        for column, values in zip(self.text_columns, texts, strict=True):
            for index, text in zip(indices, values, strict=True):
                if text is None:
                    raise ValueError(f"Text {index} of the column {column!r} is missing.")
        encoded = self._encode(self.tokenizer, texts)
        columns = dict(encoded)
        if self.teacher_tokenizer is not None:
            teacher = self._encode(self.teacher_tokenizer, texts)
            columns |= {TEACHER + key: value for key, value in teacher.items()}
        if self.label_words:
            words = [encoded.word_ids(row) for row in range(len(indices))]
            columns["labels"] = list(map(self._label_tokens, words, rows[self.label_column]))
        elif self.label_column is not None:
            columns["labels"] = encode_labels(rows[self.label_column], self.label_feature, self.label2id).tolist()
        else:
            columns["labels"] = [UNLABELLED] * len(indices)
        return columns

    def _encode(self, tokenizer: PreTrainedTokenizerBase, texts: list[list]) -> BatchEncoding:
        limit = min(self.max_length or LARGE_INTEGER, tokenizer.model_max_length)
        bounded = {"truncation": True, "max_length": limit} if limit < LARGE_INTEGER else {}
        encoded = tokenizer(*texts, is_split_into_words=self.are_words, **bounded)
        for row, ids in enumerate(encoded["input_ids"]):
            if not ids:  # an empty text, and a tokenizer without special tokens: models need one token
                for column, values in encoded.items():
                    values[row] = [{"input_ids": tokenizer.pad_token_id, "attention_mask": 1}.get(column, 0)]
        return encoded

    def _label_tokens(self, words: list[int | None], labels: list | None) -> list[int]:
        ids = encode_labels(labels or [], self.label_feature.feature, self.label2id)
        starts = [word is not None and word != before for before, word in zip([None, *words], words, strict=False)]
        if not len(ids):
            return [UNLABELLED] * max(len(words), 1)
        return [int(ids[word]) if start else UNLABELLED for word, start in zip(words, starts, strict=True)]
