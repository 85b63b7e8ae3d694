"""The fast path for language models: token ids in one flat array, padded a batch at a time."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .augmentation import random_bits
from .batch import Batch
from .columns import UNLABELLED


@dataclass(frozen=True)
class TokenMasking:
    """
    Hides tokens for a masked language model to guess, as in [BERT](https://huggingface.co/papers/1810.04805): of the
    chosen tokens 80 % become the mask, 10 % another token at random, and 10 % stay. Every draw is a function of (seed,
    epoch, index, position), whatever the batch, process or resumed run.

    Args:
        mask_token_id (`int`): The mask.
        ordinary_ids (`np.ndarray`):
            The ids that may be hidden, and by which others are replaced at random: all but those of special tokens,
            which include padding.
        probability (`float`, *optional*, defaults to 0.15): The share of tokens to choose.
        seed (`int`, *optional*, defaults to 0): The seed of the run.

    Raises:
        `ValueError`: `probability` is not above 0 and below 1.
    """

    mask_token_id: int
    ordinary_ids: np.ndarray
    probability: float = 0.15
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.probability < 1:
            raise ValueError(f"The share of masked tokens is {self.probability}, but it must be above 0 and below 1.")

    @classmethod
    def from_tokenizer(
        cls, tokenizer: PreTrainedTokenizerBase, probability: float = 0.15, seed: int = 0
    ) -> "TokenMasking":
        """The masking of a tokenizer; its special tokens are never hidden. Raises `ValueError` if it has no mask token."""
        if tokenizer.mask_token_id is None:
            raise ValueError(f"The tokenizer {tokenizer.name_or_path!r} has no mask token, so nothing can be masked.")
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        return cls(tokenizer.mask_token_id, ordinary, probability, seed)

    def __call__(self, ids: np.ndarray, *, epoch: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Args:
            ids (`np.ndarray`): Token ids of shape `[B, L]`; not changed.
            epoch (`int`): The epoch, from 0.
            indices (`np.ndarray`): The positions of the samples in their data set, of shape `[B]`.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: The ids with some hidden, and which were chosen: `bool` of shape `[B, L]`.
        """
        first_draws = 3 * np.arange(ids.shape[1])
        chance, kind, other = (
            random_bits(self.seed, epoch, indices[:, None], first_draws + number) for number in range(3)
        )
        chosen = _uniform(chance) < self.probability
        chosen &= np.isin(ids, self.ordinary_ids)
        hidden = np.where(chosen & (_uniform(kind) < 0.8), self.mask_token_id, ids)
        random_ids = self.ordinary_ids[other % np.uint64(len(self.ordinary_ids))]
        return np.where(chosen & (_uniform(kind) >= 0.9), random_ids, hidden), chosen


def _uniform(bits: np.ndarray) -> np.ndarray:
    """Random words as numbers from 0 up to, not including, 1."""
    return (bits >> np.uint64(11)) * 2.0**-53


class TokenDataset(torch.utils.data.Dataset):
    """
    Sequences of token ids of any lengths in flat arrays. A `DataLoader` fetches a whole batch with one index, padded on
    the right to its longest sequence; give it, or `Trainer`, a [`BatchCollator`].

    Labels are the ids themselves, not shifted, where a token counts for the loss, else -100.

    Args:
        tokens (`np.ndarray`): The ids of all `N` sequences, one after the other, `int32` of shape `[T]`.
        offsets (`np.ndarray`): Where each sequence begins, and at last `T`: `int64` of shape `[N + 1]`.
        counted (`np.ndarray`, *optional*):
            Which tokens count for the loss, `bool` of shape `[T]`. Without it all do. Masking ignores it.
        pad_token_id (`int`): Fills shorter sequences up; attention mask 0, label -100.
        pad_to_multiple_of (`int`, *optional*, defaults to 1): Batches are this long or a multiple of it.
        masking ([`TokenMasking`], *optional*):
            Hides tokens of each batch that is fetched; these alone count for the loss. They differ from epoch to epoch
            where [`~TokenDataset.set_epoch`] is called, as trainers do for training data, and stay the same elsewhere.

    Raises:
        `ValueError`: The types or shapes differ from the above, or there is no sequence.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        offsets: np.ndarray,
        counted: np.ndarray | None = None,
        *,
        pad_token_id: int,
        pad_to_multiple_of: int = 1,
        masking: TokenMasking | None = None,
    ):
        counted = np.ones(len(tokens), dtype=bool) if counted is None else counted
        if tokens.dtype != np.int32 or counted.dtype != bool or tokens.shape != counted.shape or tokens.ndim != 1:
            raise ValueError(
                f"tokens and counted must be int32 and bool of one shape [T], got {tokens.dtype} {list(tokens.shape)} "
                f"and {counted.dtype} {list(counted.shape)}."
            )
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 1).any():
            raise ValueError(
                f"offsets must rise from 0 to {len(tokens)}, the number of tokens, for 1 sequence or more."
            )
        if pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of is {pad_to_multiple_of}, but it must be at least 1.")
        self.tokens = tokens
        self.offsets = offsets
        self.counted = counted
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of
        self.masking = masking
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @classmethod
    def from_sequences(
        cls, sequences: Iterable[np.ndarray], counted: Iterable[np.ndarray] | None = None, **options
    ) -> "TokenDataset":
        """A data set of these sequences of ids, at least one, and of what counts in each; options as above."""
        rows = [np.asarray(row, dtype=np.int32) for row in sequences]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        flat = None if counted is None else np.concatenate([np.asarray(row, dtype=bool) for row in counted])
        return cls(np.concatenate(rows), offsets, flat, **options)

    def set_epoch(self, epoch: int):
        """Choose the draws of the masking, also in worker processes that run already; see [`ArrayImageDataset`]."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        inputs = self._fetch(np.array([range(len(self))[index]]))
        length = int(inputs["attention_mask"].sum())
        return {name: value[0, :length] for name, value in inputs.items()}

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        return [Batch(self._fetch(np.asarray(indices)))]

    def _fetch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        starts, lengths = self.offsets[indices], self.offsets[indices + 1] - self.offsets[indices]
        width = -(-lengths.max() // self.pad_to_multiple_of) * self.pad_to_multiple_of
        columns = np.arange(width)
        attended = columns < lengths[:, None]
        places = np.minimum(starts[:, None] + columns, len(self.tokens) - 1)
        ids = np.where(attended, self.tokens[places], self.pad_token_id).astype(np.int64)
        counted = attended & self.counted[places]
        labels = ids
        if self.masking is not None:
            ids, counted = self.masking(ids, epoch=int(self._epoch), indices=indices)
        labels = np.where(counted, labels, UNLABELLED)
        arrays = {"input_ids": ids, "attention_mask": attended.astype(np.int64), "labels": labels}
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


class PairedTokenDataset(torch.utils.data.Dataset):
    """
    The same samples in the tokens of two tokenizers, for a teacher that reads other tokens than its student.

    Batches hold what the student's data set gives, and with the prefix `teacher_` what the teacher's gives.

    Args:
        student ([`TokenDataset`]): The samples in the student's tokens.
        teacher ([`TokenDataset`]): The same in the teacher's.

    Raises:
        `ValueError`: They have different numbers of samples.
    """

    def __init__(self, student: TokenDataset, teacher: TokenDataset):
        if len(student) != len(teacher):
            raise ValueError(f"The student's data have {len(student)} samples and the teacher's {len(teacher)}.")
        self.student, self.teacher = student, teacher

    def __len__(self) -> int:
        return len(self.student)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.student[index] | {f"teacher_{name}": value for name, value in self.teacher[index].items()}

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        (own,), (theirs,) = self.student.__getitems__(indices), self.teacher.__getitems__(indices)
        return [Batch(own.inputs | {f"teacher_{name}": value for name, value in theirs.inputs.items()})]
