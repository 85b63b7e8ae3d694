import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_genkit.data import BatchCollator, TokenDataset, TokenMasking


PAD, MASK = 0, 1
ROWS = [[5, 6, 7], [8], [9, 5, 6, 7, 8]]


def dataset(rows=ROWS, **options):
    return TokenDataset.from_sequences(rows, **{"pad_token_id": PAD} | options)


def batch(data, indices):
    (fetched,) = data.__getitems__(indices)
    return fetched.inputs


def many(probability=0.15, seed=0, **options):
    """40 sequences of 50 tokens, each with a special token (2) at both ends."""
    rows = [[2, *np.random.default_rng(row).integers(10, 100, 48), 2] for row in range(40)]
    return dataset(rows, masking=TokenMasking(MASK, np.arange(10, 100), probability, seed), **options)


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_is_padded_on_the_right_to_its_own_longest():
    inputs = batch(dataset(), [1, 0])
    assert inputs["input_ids"].tolist() == [[8, PAD, PAD], [5, 6, 7]]
    assert inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert inputs["labels"].tolist() == [[8, -100, -100], [5, 6, 7]]
    assert list(inputs) == ["input_ids", "attention_mask", "labels"]
    assert all(value.dtype == torch.int64 for value in inputs.values())


def test_the_last_sequence_is_padded_though_nothing_comes_behind_it():
    assert batch(dataset(ROWS[::-1]), [0, 2])["input_ids"][1].tolist() == [5, 6, 7, PAD, PAD]


def test_what_does_not_count_is_read_but_has_no_label():
    counted = [[False, True, True], [True], [False] * 4 + [True]]
    inputs = batch(dataset(counted=counted), [0, 2])
    assert inputs["labels"].tolist() == [[-100, 6, 7, -100, -100], [-100] * 4 + [8]]
    assert inputs["input_ids"][0].tolist() == [5, 6, 7, PAD, PAD]


def test_a_padding_token_that_also_ends_texts_still_counts_where_it_ends_one():
    assert batch(dataset(pad_token_id=7), [0, 2])["labels"].tolist() == [[5, 6, 7, -100, -100], [9, 5, 6, 7, 8]]


def test_batches_are_as_long_as_a_multiple():
    assert batch(dataset(pad_to_multiple_of=4), [0])["input_ids"].shape == (1, 4)
    assert batch(dataset(pad_to_multiple_of=4), [2])["input_ids"].shape == (1, 8)
    assert batch(dataset([[5] * 4], pad_to_multiple_of=4), [0])["input_ids"].shape == (1, 4)


def test_one_sample_is_unpadded():
    data = dataset(pad_to_multiple_of=8)
    assert data[-2]["input_ids"].tolist() == [8]
    assert [len(data[index]["labels"]) for index in range(len(data))] == [3, 1, 5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": np.arange(3)}, "must be int32 and bool"),
        ({"counted": np.ones(2, dtype=bool)}, r"one shape \[T\], got int32 \[3\] and bool \[2\]"),
        ({"offsets": np.array([0, 2])}, "must rise from 0 to 3"),
        ({"offsets": np.array([0, 1, 1, 3])}, "must rise"),
        ({"offsets": np.array([0])}, "must rise"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arguments, message):
    right = {"tokens": np.arange(3, dtype=np.int32), "offsets": np.array([0, 1, 3]), "pad_token_id": 0}
    with pytest.raises(ValueError, match=message):
        TokenDataset(**right | arguments)


# ---- masking --------------------------------------------------------------------------------------------------------


def test_15_percent_are_chosen_80_10_10_and_they_alone_have_labels():
    data, plain = many(), batch(dataset(many().tokens.reshape(40, 50)), list(range(40)))["input_ids"]
    ids, labels = [], []
    for epoch in range(30):
        data.set_epoch(epoch)
        inputs = batch(data, list(range(40)))
        ids.append(inputs["input_ids"])
        labels.append(inputs["labels"])
    ids, labels, plain = torch.stack(ids), torch.stack(labels), plain.expand(30, -1, -1)
    chosen = labels != -100
    assert chosen.sum() / (plain != 2).sum() == pytest.approx(0.15, abs=0.005)
    assert (labels[chosen] == plain[chosen]).all()
    assert (ids[~chosen] == plain[~chosen]).all()
    masked, kept = ids[chosen] == MASK, ids[chosen] == plain[chosen]
    assert masked.float().mean() == pytest.approx(0.8, abs=0.02)
    assert kept.float().mean() == pytest.approx(0.1 + 0.1 / 90, abs=0.015)
    replaced = ids[chosen][~masked & ~kept]
    assert len(replaced.unique()) == 90
    assert replaced.min() == 10


def test_special_tokens_and_padding_are_never_masked():
    data = dataset([[2, 10, 11, 2], [2, 12, 2]], masking=TokenMasking(MASK, np.arange(10, 100), 0.999))
    inputs = batch(data, [0, 1])
    assert inputs["labels"].tolist() == [[-100, 10, 11, -100], [-100, 12, -100, -100]]
    assert inputs["input_ids"][1, [0, 2, 3]].tolist() == [2, 2, PAD]


def test_masks_change_with_epoch_and_seed_and_not_with_the_batch():
    data = many()
    first = batch(data, [3, 7])["input_ids"]
    assert batch(data, [3, 7])["input_ids"].equal(first)
    assert batch(data, [7, 20, 3])["input_ids"][[2, 0]].equal(first)
    assert not batch(many(seed=1), [3, 7])["input_ids"].equal(first)
    data.set_epoch(1)
    assert not batch(data, [3, 7])["input_ids"].equal(first)
    data.set_epoch(0)
    torch.manual_seed(5)
    np.random.seed(5)
    assert batch(data, [3, 7])["input_ids"].equal(first)


def test_samples_with_equal_tokens_get_different_masks():
    data = dataset([[10] * 50] * 2, masking=TokenMasking(MASK, np.arange(10, 100)))
    first, second = batch(data, [0, 1])["labels"]
    assert not first.equal(second)


def test_running_workers_hear_of_a_new_epoch():
    data = many()
    loader = DataLoader(data, 40, num_workers=1, persistent_workers=True, collate_fn=BatchCollator(None))
    (first,) = loader
    data.set_epoch(3)
    (second,) = loader
    assert not first["input_ids"].equal(second["input_ids"])
    assert second["input_ids"].equal(batch(data, list(range(40)))["input_ids"])


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_share_that_hides_nothing_or_everything_is_refused(probability):
    with pytest.raises(ValueError, match=f"The share of masked tokens is {probability}"):
        TokenMasking(MASK, np.arange(10), probability)
