"""
A teacher's likeliest classes as rows of bytes: the ids in as few bits as the vocabulary needs, then 16-bit floats.

A row of k classes out of V takes `ceil(k * bits / 8) + 2 * k` bytes, where bits is what V - 1 needs: 272 for the 64
likeliest of 151,936.
"""

import numpy as np


def row_bytes(k: int, vocab_size: int) -> int:
    """Bytes of a row of `k` classes out of `vocab_size`."""
    return -(-k * _bits(vocab_size) // 8) + 2 * k


def pack_rows(ids: np.ndarray, log_probs: np.ndarray, vocab_size: int) -> np.ndarray:
    """
    Rows for a cache.

    A log-probability is kept as float16, which is finer than bfloat16 and reaches down to -65,504; what is lower stays
    there.

    Args:
        ids (`np.ndarray` of shape `[N, k]`): Integers of at least 0 and below `vocab_size`.
        log_probs (`np.ndarray` of shape `[N, k]`): Their log-probabilities, in nats.
        vocab_size (`int`): Number of classes.

    Returns:
        `np.ndarray` of shape `[N, row_bytes(k, vocab_size)]`: uint8.

    Raises:
        `ValueError`: An id is outside the vocabulary.
    """
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError(f"The ids go from {ids.min()} to {ids.max()}, but the vocabulary has {vocab_size} classes.")
    width = _bits(vocab_size)
    bits = (ids.astype(np.uint32)[..., None] >> np.arange(width, dtype=np.uint32) & 1).astype(np.uint8)
    packed = np.packbits(bits.reshape(len(ids), ids.shape[1] * width), axis=1, bitorder="little")
    halves = log_probs.clip(np.finfo(np.float16).min, 0).astype("<f2")
    return np.concatenate([packed, np.ascontiguousarray(halves).view(np.uint8)], axis=1)


def unpack_rows(rows: np.ndarray, k: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """
    What [`pack_rows`] packed.

    Args:
        rows (`np.ndarray` of shape `[N, row_bytes(k, vocab_size)]`): uint8.
        k (`int`): Classes a row.
        vocab_size (`int`): Number of classes.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: ids `[N, k]` as int64, and log-probabilities `[N, k]` as float32. Where rounding
        lifted a row's probabilities above 1 in sum, they are divided by it, so that the tail is never negative.

    Raises:
        `ValueError`: The rows have another length.
    """
    if rows.shape[1] != row_bytes(k, vocab_size):
        raise ValueError(
            f"A row of {k} out of {vocab_size} classes has {row_bytes(k, vocab_size)} bytes, got {rows.shape[1]}."
        )
    width = _bits(vocab_size)
    packed, halves = rows[:, : -2 * k], np.ascontiguousarray(rows[:, -2 * k :]).view("<f2")
    bits = np.unpackbits(packed, axis=1, count=k * width, bitorder="little").reshape(len(rows), k, width)
    ids = bits @ (1 << np.arange(width, dtype=np.int64))
    log_probs = halves.astype(np.float64)
    excess = np.log(np.exp(log_probs).sum(axis=1, keepdims=True)).clip(min=0)
    return ids, (log_probs - excess).astype(np.float32)


def _bits(vocab_size: int) -> int:
    return max(1, (vocab_size - 1).bit_length())
