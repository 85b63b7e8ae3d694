"""A data set for language models: plain text, prompts with completions, or chats."""

import logging
from collections.abc import Iterator

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from .columns import find_text_column, is_sequence, is_text, named_column
from .token_samples import Sample, chat_samples, completion_samples, masked_blocks, padding_id, text_blocks
from .tokens import PairedTokenDataset, TokenDataset, TokenMasking
from .whole_splits import WholeSplits


logger = logging.getLogger(__name__)

READ_BATCH = 1000
CONTEXT = "input"  # what an Alpaca instruction is about; may be empty
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
)


class LanguageData(WholeSplits):
    """
    Splits of a data set of text whose format is known, ready to become token ids.

    Of columns that are not named, the first of these is taken: a column of chats, found by its type; `prompt` and
    `completion` or `response`, `question` and `answer`, or `instruction` (with `input` where that is) and `output` or
    `response`; the column of text, see [`find_text_column`].

    Args:
        splits (`datasets.DatasetDict`): From [`load_data`].
        text_column (`str`, *optional*): Plain text.
        prompt_column, completion_column (`str`, *optional*): Prompts and what is to follow them; both or none.
        messages_column (`str`, *optional*): Chats: lists of turns, each with a `role` and a `content`.

    Attributes:
        format (`str`): "chat", "prompt and completion" or "text".
        columns (`list[str]`): What is read: the chats; the prompt, its context and the completion; or the text.

    Raises:
        `ValueError`: There is no such column, or it holds something else, or the data stream.
    """

    def __init__(
        self,
        splits: datasets.DatasetDict,
        *,
        text_column: str | None = None,
        prompt_column: str | None = None,
        completion_column: str | None = None,
        messages_column: str | None = None,
    ):
        super().__init__(splits)
        train = splits["train"]
        features = train.features
        pair = (prompt_column, completion_column)
        if (prompt_column is None) != (completion_column is None):
            raise ValueError("`prompt_column` and `completion_column` must be given together.")
        if messages_column is None and text_column is None and prompt_column is None:
            messages_column = next((name for name, feature in features.items() if _holds_chats(feature)), None)
            known = [pair for pair in PAIRS if all(name in features and is_text(features[name]) for name in pair)]
            pair = known[0] if known else pair
        if messages_column is not None:
            self.format, self.columns = "chat", [named_column(features, messages_column, "chat")]
        elif pair != (None, None):
            self.format, self.columns = (
                "prompt and completion",
                [named_column(features, name, "text") for name in pair],
            )
            if pair[0] == "instruction" and CONTEXT in features:
                self.columns.insert(1, CONTEXT)
        else:
            self.format, self.columns = "text", [find_text_column(train, text_column)]
        is_right, wanted = (is_text, "text")
        if self.format == "chat":
            is_right, wanted = _holds_chats, "lists of turns with a `role` and a `content`"
        for name in self.columns:
            if not is_right(features[name]):
                raise ValueError(f"The column {name!r} must hold {wanted}, but it holds {features[name]}.")

    def texts(self, split: datasets.Dataset) -> Iterator[str]:
        """Every piece of text of a split, for [`train_tokenizer`]."""
        for row in self._rows(split):
            if self.format == "chat":
                yield from (turn["content"] or "" for turn in row[0])
            else:
                yield from row

    def inputs(
        self,
        split: datasets.Dataset,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        completion_only: bool = True,
        masking: float | None = None,
        seed: int = 0,
        teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> TokenDataset | PairedTokenDataset:
        """
        Token ids of a split. A tokenizer without padding token pads with its end token, which then doesn't count.

        - Plain text: the texts, each with an end token behind it, are joined and cut into blocks of `max_length` tokens.
          The last block is shorter and is kept, so that every token is seen, in training and in evaluation. With
          `masking` there is [SEP] between the texts, and each block is [CLS] ... [SEP].
        - Prompt and completion: a line break is put in between unless one of them brings white space. The completion
          and an end token behind it count.
        - Chat: written with the tokenizer's chat template; the assistant's turns count.

        Args:
            split (`datasets.Dataset`): One of the splits or part of one.
            tokenizer (`PreTrainedTokenizerBase`): The model's.
            max_length (`int`):
                The most tokens of a sequence. A longer completion or chat is cut, and left out if nothing that counts
                remains; a warning says how many are.
            completion_only (`bool`, *optional*, defaults to `True`): Whether prompts and the user's turns don't count.
            masking (`float`, *optional*):
                The share of tokens that a masked language model must guess, such as 0.15; for plain text only.
            seed (`int`, *optional*, defaults to 0): The seed of the masking.
            teacher_tokenizer (`PreTrainedTokenizerBase`, *optional*):
                Another tokenizer, whose tokens of the same completions or chats a teacher reads, see
                [`PairedTokenDataset`].

        Raises:
            `ValueError`: A text is missing (its row is named); nothing that counts remains; the tokenizer lacks a token
                or the chat template that is needed; the template fails; or an option is out of range.
        """
        shortest = 2 if masking is None else 3
        if max_length < shortest:
            raise ValueError(f"`max_length` is {max_length}, but it must be at least {shortest}.")
        if masking is not None and self.format != "text":
            raise ValueError(f"`masking` needs plain text, but the data are of the format {self.format}.")
        options = {"pad_token_id": padding_id(tokenizer)}
        if self.format == "text":
            if teacher_tokenizer is not None:
                raise ValueError(
                    "Plain text is cut into blocks, of which two tokenizers make different ones: pair completions."
                )
            rows = self._rows(split)
            texts = (text for (text,) in rows)
            if masking is None:
                blocks = text_blocks(texts, tokenizer, max_length)
            else:
                options["masking"] = TokenMasking.from_tokenizer(tokenizer, masking, seed)
                blocks = masked_blocks(texts, tokenizer, max_length)
            if not blocks:
                raise ValueError(f"Every text of the column {self.columns[0]!r} is empty.")
            return TokenDataset.from_sequences(blocks, **options)
        samples = self._samples(split, tokenizer, max_length, completion_only)
        theirs = samples
        if teacher_tokenizer is not None:
            theirs = self._samples(split, teacher_tokenizer, max_length, completion_only)
        kept = [pair for pair in zip(samples, theirs, strict=True) if all(counted.any() for _, counted in pair)]
        if not kept:
            raise ValueError(f"No sample has anything to learn within `max_length`, which is {max_length} tokens.")
        if len(kept) < len(samples):
            logger.warning(
                f"{len(samples) - len(kept)} of {len(samples)} samples are left out: within {max_length} tokens they have "
                "nothing to learn."
            )
        own, paired = zip(*kept, strict=True)
        dataset = TokenDataset.from_sequences(*zip(*own, strict=True), **options)
        if teacher_tokenizer is None:
            return dataset
        options = {"pad_token_id": padding_id(teacher_tokenizer)}
        return PairedTokenDataset(dataset, TokenDataset.from_sequences(*zip(*paired, strict=True), **options))

    def _samples(
        self, split: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, completion_only: bool
    ) -> list[Sample]:
        """Ids and what counts of them, cut to a length, for each completion or chat; what is left may count nowhere."""
        rows = self._rows(split)
        if self.format == "chat":
            samples = chat_samples((chat for (chat,) in rows), tokenizer, completion_only)
        else:
            pairs = (("\n".join(filter(None, prompt)), completion) for *prompt, completion in rows)
            samples = completion_samples(pairs, tokenizer)
        cut = ((ids[:max_length], counted[:max_length]) for ids, counted in samples)
        return [
            (ids, np.ones_like(counted) if counted.any() and not completion_only else counted) for ids, counted in cut
        ]

    def _rows(self, split: datasets.Dataset) -> Iterator[tuple]:
        """The values of each row, which must be there, the context excepted."""
        for start in range(0, len(split), READ_BATCH):
            batch = split.with_format(None)[start : start + READ_BATCH]
            for index, row in enumerate(zip(*(batch[name] for name in self.columns), strict=True), start):
                for name, value in zip(self.columns, row, strict=True):
                    if (value is None and name != CONTEXT) or value == []:
                        kind = "Chat" if self.format == "chat" else "Text"
                        raise ValueError(f"{kind} {index} of the column {name!r} is missing.")
                yield tuple(value or "" for value in row)


def _holds_chats(feature) -> bool:
    turn = feature.feature if is_sequence(feature) else None
    return isinstance(turn, dict) and {"role", "content"} <= set(turn)
