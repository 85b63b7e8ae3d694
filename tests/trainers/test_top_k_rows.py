"""Rows of a cache must give back ids exactly, and distributions that are none too large."""

import numpy as np
import pytest
import torch

from hf_genkit.losses.top_k import TopKTargets, top_k_divergence, top_k_targets
from hf_genkit.trainers.teacher_cache import TeacherCache
from hf_genkit.trainers.top_k_rows import pack_rows, row_bytes, unpack_rows


QWEN = 151_936


def test_64_of_the_tokens_of_qwen_take_272_bytes():
    assert row_bytes(64, QWEN) == 272
    assert pack_rows(np.zeros((3, 64), int), np.zeros((3, 64)), QWEN).shape == (3, 272)


@pytest.mark.parametrize(("k", "vocab_size"), [(1, 1), (1, 2), (3, 2), (5, 128), (5, 129), (7, 50_257), (64, QWEN)])
def test_ids_come_back_to_the_last_bit(k, vocab_size):
    random = np.random.default_rng(0)
    ids = random.integers(vocab_size, size=(50, k))
    ids[0], ids[1] = 0, vocab_size - 1
    log_probs = np.full((50, k), -np.log(4 * k))
    rows = pack_rows(ids, log_probs, vocab_size)
    assert rows.dtype == np.uint8
    assert rows.shape == (50, row_bytes(k, vocab_size))
    found, values = unpack_rows(rows, k, vocab_size)
    np.testing.assert_array_equal(found, ids)
    np.testing.assert_allclose(values, log_probs, rtol=2**-11)
    assert (found.dtype, values.dtype) == (np.int64, np.float32)


def test_a_row_does_not_depend_on_the_others():
    random = np.random.default_rng(0)
    ids, log_probs = random.integers(1000, size=(9, 5)), -random.random((9, 5)) - 3
    rows = pack_rows(ids, log_probs, 1000)
    np.testing.assert_array_equal(rows[4:5], pack_rows(ids[4:5], log_probs[4:5], 1000))
    np.testing.assert_array_equal(unpack_rows(rows[4:5], 5, 1000)[0], ids[4:5])


def test_no_rows_are_no_error():
    rows = pack_rows(np.zeros((0, 5), int), np.zeros((0, 5)), 1000)
    ids, log_probs = unpack_rows(rows, 5, 1000)
    assert ids.shape == log_probs.shape == (0, 5)


def test_rounding_lifts_no_distribution_above_one():
    random = np.random.default_rng(0)
    logits = 4 * random.standard_normal((2000, 16))
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))  # which add up to 1, so half are rounded up
    ids = np.tile(np.arange(16), (2000, 1))
    _, values = unpack_rows(pack_rows(ids, log_probs, 16), 16, 16)
    assert np.exp(log_probs.astype(np.float16).astype(float)).sum(1).max() > 1
    assert np.exp(values.astype(float)).sum(1).max() <= 1 + 1e-7
    np.testing.assert_allclose(values, log_probs, rtol=2**-10, atol=2e-3)


def test_impossible_classes_stay_finite():
    rows = pack_rows(np.array([[3, 1]]), np.array([[0.0, -np.inf]]), 5)
    np.testing.assert_array_equal(unpack_rows(rows, 2, 5)[1], [[0, -65504]])


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_divergence_through_the_cache_is_that_of_the_unrounded_teacher(scale, tmp_path):
    generator = torch.Generator().manual_seed(0)
    teacher = scale * torch.randn(40, QWEN, generator=generator)
    student = teacher + 0.5 * torch.randn(40, QWEN, generator=generator)
    targets = top_k_targets(teacher, 64, 2.0)
    rows = pack_rows(targets.ids.numpy(), targets.log_probs.numpy(), QWEN)
    cache = TeacherCache(tmp_path, "teacher", rows.shape[1], torch.uint8)
    keys = [bytes([i]) * 16 for i in range(4)]
    cache.store(keys, list(torch.from_numpy(rows).split(10)))
    again = TeacherCache(tmp_path, "teacher", rows.shape[1], torch.uint8).lookup(keys)
    kept = TopKTargets(*map(torch.from_numpy, unpack_rows(torch.cat(again).numpy(), 64, QWEN)))
    expected, found = (top_k_divergence(student, each, temperature=2.0) for each in (targets, kept))
    assert torch.equal(kept.ids, targets.ids)
    assert found.mean().item() == pytest.approx(expected.mean().item(), rel=2e-3)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-6)


def test_bad_input_is_refused_in_one_sentence():
    for ids in ([[0, 5]], [[-1, 2]]):
        with pytest.raises(ValueError, match="but the vocabulary has 5 classes"):
            pack_rows(np.array(ids), np.zeros((1, 2)), 5)
    with pytest.raises(ValueError, match="has 272 bytes, got 270"):
        unpack_rows(np.zeros((1, 270), np.uint8), 64, QWEN)
