"""Texts, completions and chats -> token ids, and which of them count for the loss."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import jinja2
import numpy as np
from transformers import PreTrainedTokenizerBase


Sample = tuple[np.ndarray, np.ndarray]  # ids (int32) and what counts (bool), both of shape [L]
Span = tuple[int, int]  # from this character to before that one

TEXTS_AT_ONCE = 1000
MARKS_ASSISTANT = re.compile(r"\{%-?\s*generation\s*-?%\}")


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What to pad with: the padding token or, where there is none, the end token. Neither counts or is attended to."""
    return end_id(tokenizer) if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end token. Raises `ValueError` if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise ValueError(f"The tokenizer {tokenizer.name_or_path!r} has no end token, which ends each text.")
    return tokenizer.eos_token_id


def text_blocks(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int) -> list[np.ndarray]:
    """All texts, each behind the tokenizer's start token if it uses one and before an end token, cut into blocks."""
    end = end_id(tokenizer)
    stream = []
    for ids in _encode(texts, tokenizer, add_special_tokens=True):
        stream.append(ids if ids[-1] == end else np.append(ids, np.int32(end)))
    return _cut(stream, length)


def masked_blocks(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, length: int) -> list[np.ndarray]:
    """All texts with [SEP] in between, cut into blocks of which each is within [CLS] and [SEP]."""
    first, last = np.int32([tokenizer.cls_token_id]), np.int32([tokenizer.sep_token_id])
    stream = [part for ids in _encode(texts, tokenizer, add_special_tokens=False) for part in (ids, last)]
    return [np.concatenate([first, block, last]) for block in _cut(stream[:-1], length - 2)]


def completion_samples(pairs: Iterable[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> Iterator[Sample]:
    """Prompts with their completions, a line break in between unless one brings white space, and an end token."""
    end = end_id(tokenizer)

    def joined() -> Iterator[tuple[str, list[Span]]]:
        for prompt, completion in pairs:
            if prompt and not prompt[-1].isspace() and not completion[:1].isspace():
                prompt += "\n"
            yield prompt + completion, [(len(prompt), len(prompt + completion))]

    for ids, counted in _mark(joined(), tokenizer, add_special_tokens=True):
        if not len(ids) or ids[-1] != end:
            ids, counted = np.append(ids, np.int32(end)), np.append(counted, False)
        counted[-1] = True
        yield ids, counted


def chat_samples(
    chats: Iterable[list[dict]], tokenizer: PreTrainedTokenizerBase, completion_only: bool = True
) -> Iterator[Sample]:
    """
    Chats as the tokenizer's chat template writes them.

    Args:
        chats (iterable of `list[dict]`): The turns of each, with a `role` and a `content`.
        tokenizer (`PreTrainedTokenizerBase`): With a chat template.
        completion_only (`bool`, *optional*, defaults to `True`):
            Whether the assistant's turns alone count. A template that marks them with `{% generation %}` says which tokens
            these are; else they are what a turn adds to the text that asks for it, up to the end token if it has one.

    Raises:
        `ValueError`: There is no chat template, or it fails, or it writes a turn otherwise once more turns follow.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            f"The tokenizer {tokenizer.name_or_path!r} has no chat template to write chats with: give one with "
            "`--chat_template FILE` (Jinja)."
        )
    if completion_only and MARKS_ASSISTANT.search(tokenizer.get_chat_template()):
        for row, chat in enumerate(chats):
            yield _marked_by_template(row, chat, tokenizer)
        return
    written = (_write(row, chat, tokenizer, completion_only) for row, chat in enumerate(chats))
    yield from _mark(written, tokenizer, add_special_tokens=False)


def set_chat_template(tokenizer: PreTrainedTokenizerBase, file: str) -> None:
    """Gives a tokenizer the chat template in a Jinja file. Raises `ValueError` if there is no such file."""
    if not Path(file).is_file():
        raise ValueError(f"There is no chat template {file!r}.")
    tokenizer.chat_template = Path(file).read_text(encoding="utf-8")


def _encode(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, add_special_tokens: bool
) -> Iterator[np.ndarray]:
    """The ids of each text that has some beside special tokens."""
    for batch in _batched(filter(None, texts)):
        encoded = tokenizer(batch, add_special_tokens=add_special_tokens, verbose=False)
        yield from (np.int32(ids) for ids in encoded["input_ids"] if ids)


def _mark(
    texts: Iterable[tuple[str, list[Span]]], tokenizer: PreTrainedTokenizerBase, add_special_tokens: bool
) -> Iterator[Sample]:
    """The ids of each text; those count that reach into one of its spans, even if they began before it."""
    for batch in _batched(texts):
        encoded = tokenizer(
            [text for text, _ in batch],
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            verbose=False,
        )
        for (_, spans), ids, places in zip(batch, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            starts, ends = np.array(places, dtype=np.int64).reshape(-1, 2).T
            counted = np.zeros(len(ids), dtype=bool)
            for first, last in spans:
                counted |= (starts < last) & (ends > first)
            yield np.int32(ids), counted


def _write(
    row: int, chat: list[dict], tokenizer: PreTrainedTokenizerBase, completion_only: bool
) -> tuple[str, list[Span]]:
    """A chat as text, and where the assistant's turns are in it; all of it if everything counts."""
    whole = _render(row, chat, tokenizer)
    if not completion_only:
        return whole, [(0, len(whole))]
    spans = []
    for number, turn in enumerate(chat):
        if turn["role"] == "assistant":
            before = _render(row, chat[:number], tokenizer, add_generation_prompt=True) if number else ""
            after = _render(row, chat[: number + 1], tokenizer)
            if not whole.startswith(after) or not after.startswith(before):
                raise ValueError(
                    f"The chat template writes the start of chat {row} otherwise once turn {number} and those behind it "
                    "follow, so what counts is unknown: mark it with {% generation %} in the template, or turn `completion_only` off."
                )
            end = whole.rfind(tokenizer.eos_token, len(before), len(after)) if tokenizer.eos_token else -1
            spans.append((len(before), len(after) if end < 0 else end + len(tokenizer.eos_token)))
    return whole, spans


def _render(row: int, chat: list[dict], tokenizer: PreTrainedTokenizerBase, **options):
    try:
        return tokenizer.apply_chat_template(chat, **{"tokenize": False} | options)
    except jinja2.TemplateError as error:
        raise ValueError(f"The chat template can't write chat {row}: {error}") from error


def _marked_by_template(row: int, chat: list[dict], tokenizer: PreTrainedTokenizerBase) -> Sample:
    options = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    written = _render(row, chat, tokenizer, **options)
    return np.int32(written["input_ids"]), np.array(written["assistant_masks"], dtype=bool)


def _cut(stream: list[np.ndarray], length: int) -> list[np.ndarray]:
    """Arrays as one, in blocks; the last may be shorter."""
    joined = np.concatenate(stream) if stream else np.int32([])
    return [joined[start : start + length] for start in range(0, len(joined), length)]


def _batched(items: Iterable) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, TEXTS_AT_ONCE)):
        yield batch
