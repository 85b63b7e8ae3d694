import pytest
from transformers import AutoTokenizer

from hf_genkit.data import train_tokenizer


TEXTS = ["to be or not to be", "that is the question"] * 20


def test_every_text_comes_back_even_of_characters_that_the_corpus_lacks():
    tokenizer = train_tokenizer(TEXTS, 300)
    for text in ("to be", "Ünïcode 中文 🙂", "a  b\n\n c , d"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_corpus_makes_the_merges():
    tokenizer = train_tokenizer(TEXTS, 300)
    assert len(tokenizer) <= 300
    assert len(tokenizer("to be or not to be").input_ids) < 12
    assert len(tokenizer("zx qv jk").input_ids) == 8


def test_a_causal_tokenizer_puts_nothing_around_a_text_and_pads_with_its_own_token():
    tokenizer = train_tokenizer(TEXTS, 300)
    assert tokenizer("").input_ids == []
    assert tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert tokenizer.mask_token_id is None


def test_a_masked_tokenizer_puts_cls_and_sep_around_a_text():
    tokenizer = train_tokenizer(TEXTS, 300, masked=True)
    ids = tokenizer("to be").input_ids
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "to be"
    special = [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id]
    assert sorted(special) == [0, 1, 2, 3]


@pytest.mark.parametrize("masked", [False, True])
def test_it_is_loaded_as_it_was_saved(masked, tmp_path):
    tokenizer = train_tokenizer(TEXTS, 300, masked=masked)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("To be?").input_ids == tokenizer("To be?").input_ids
    assert loaded.special_tokens_map == tokenizer.special_tokens_map


@pytest.mark.parametrize(("masked", "smallest"), [(False, 258), (True, 260)])
def test_a_vocabulary_without_room_for_all_bytes_is_refused(masked, smallest):
    assert len(train_tokenizer(TEXTS, smallest, masked=masked)) == smallest
    with pytest.raises(ValueError, match=f"is {smallest - 1}, but it must be at least {smallest}"):
        train_tokenizer(TEXTS, smallest - 1, masked=masked)
