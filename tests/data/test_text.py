import os
import subprocess
import sys

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hf_genkit.data import TextCollator, build_text_dataset


LETTERS = {token: index for index, token in enumerate(["[PAD]", "[CLS]", "[SEP]", *"abcdefgh "])}
MOODS = ClassLabel(names=["bad", "good"])
LABEL2ID = {"bad": 0, "good": 1}


def letter_tokenizer(special=True, offset=0, **options):
    """One token a letter: a = 3 + offset, b = 4 + offset ..."""
    vocabulary = {token: index + (offset if index > 2 else 0) for token, index in LETTERS.items()}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[PAD]"))
    backend.pre_tokenizer = Split("", "isolated")
    if special:
        backend.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=names, **{"pad_token": "[PAD]"} | options
    )


def rows(text, labels=None, **columns):
    features = Features({"text": Value("string"), "label": MOODS} | {name: Value("string") for name in columns})
    labels = [0] * len(text) if labels is None else labels
    return Dataset.from_dict({"text": text, "label": labels} | columns, features=features)


def build(dataset, tokenizer=None, **options):
    options = {"text_column": "text", "label_column": "label", "label2id": LABEL2ID} | options
    return build_text_dataset(dataset, tokenizer or letter_tokenizer(), **options)


# ---- sentences ------------------------------------------------------------------------------------------------------


def test_rows_are_tokens_without_padding_and_labels():
    data = build(rows(["ab", "c"], [1, None]))
    assert data["input_ids"][:] == [[1, 3, 4, 2], [1, 5, 2]]
    assert data["attention_mask"][:] == [[1] * 4, [1] * 3]
    assert data["labels"][:] == [1, -100]
    assert set(data.column_names) == {"input_ids", "attention_mask", "token_type_ids", "labels"}


def test_labels_follow_the_given_order_of_classes():
    assert build(rows(["a", "a"], [0, 1]), label2id={"good": 0, "bad": 1})["labels"][:] == [1, 0]
    assert build(rows(["a"]), label_column=None)["labels"][:] == [-100]


def test_pairs_keep_their_token_types():
    data = build(rows(["ab"], other=["c"]), text_pair_column="other")
    assert data["input_ids"][0] == [1, 3, 4, 2, 5, 2]
    assert data["token_type_ids"][0] == [0, 0, 0, 0, 1, 1]


def test_long_texts_are_cut_at_the_smaller_of_both_limits():
    assert build(rows(["abcdefgh"]), max_length=5)["input_ids"][0] == [1, 3, 4, 5, 2]
    assert build(rows(["abcdefgh"]), letter_tokenizer(model_max_length=4))["input_ids"][0] == [1, 3, 4, 2]
    short = letter_tokenizer(model_max_length=4)
    assert build(rows(["abcdefgh"]), short, max_length=6)["input_ids"][0] == [1, 3, 4, 2]
    assert len(build(rows(["abcdefgh" * 100]))["input_ids"][0]) == 802


def test_an_empty_text_is_one_padding_token_that_the_model_sees():
    data = build(rows(["", "a"]), letter_tokenizer(special=False))
    assert data["input_ids"][:] == [[0], [3]]
    assert data["attention_mask"][:] == [[1], [1]]
    assert build(rows([""]))["input_ids"][:] == [[1, 2]]


@pytest.mark.parametrize("column", ["text", "other"])
def test_a_missing_text_is_named_by_its_index(column):
    texts = {"text": ["a"] * 1500, "other": ["b"] * 1500}
    texts[column][1234] = None
    with pytest.raises(ValueError, match=f"Text 1234 of the column '{column}' is missing"):
        build(rows(texts["text"], other=texts["other"]), text_pair_column="other")


def test_a_tokenizer_without_padding_token_is_refused_before_any_work():
    for make in (lambda t: build(rows(["a"]), t), TextCollator, lambda t: TextCollator(letter_tokenizer(), t)):
        with pytest.raises(ValueError, match="has no padding token: set `pad_token`"):
            make(letter_tokenizer(pad_token=None))


# ---- words ----------------------------------------------------------------------------------------------------------


def word_rows(words, labels):
    features = Features({"tokens": List(Value("string")), "tags": List(MOODS)})
    return Dataset.from_dict({"tokens": words, "tags": labels}, features=features)


def test_a_words_label_goes_to_its_first_token_only():
    data = build(word_rows([["ab", "c"], ["c", "ba"]], [[1, 0], [0, -1]]), text_column="tokens", label_column="tags")
    assert data["input_ids"][:] == [[1, 3, 4, 5, 2], [1, 5, 4, 3, 2]]
    assert data["labels"][:] == [[-100, 1, -100, 0, -100], [-100, 0, -100, -100, -100]]


def test_labels_of_words_that_are_cut_off_vanish_and_missing_ones_are_ignored():
    data = build(
        word_rows([["ab", "c", "d"], ["a"], []], [[1, 0, 1], None, []]),
        text_column="tokens",
        label_column="tags",
        max_length=5,
    )
    assert data["labels"][:] == [[-100, 1, -100, 0, -100], [-100] * 3, [-100] * 2]
    empty = build(word_rows([[]], [[]]), letter_tokenizer(special=False), text_column="tokens", label_column="tags")
    assert empty[0] == {"input_ids": [0], "token_type_ids": [0], "attention_mask": [1], "labels": [-100]}


def test_labelled_words_need_words_and_one_tokenizer():
    words = word_rows([["a"]], [[1]])
    with pytest.raises(ValueError, match="Token classification needs one tokenizer"):
        build(words, text_column="tokens", label_column="tags", teacher_tokenizer=letter_tokenizer())
    text = words.add_column("text", ["a"])
    with pytest.raises(ValueError, match="The labels 'tags' are lists, so 'text' must hold lists of words"):
        build(text, label_column="tags")


# ---- teacher and padding --------------------------------------------------------------------------------------------


def test_the_teacher_gets_its_own_tokens_and_padding():
    student, teacher = letter_tokenizer(), letter_tokenizer(special=False, offset=10, padding_side="left")
    data = build(rows(["ab", "c"], [1, 0]), student, teacher_tokenizer=teacher, max_length=3)
    assert data["teacher_input_ids"][:] == [[13, 14], [15]]
    batch = TextCollator(student, teacher)([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[1, 3, 2], [1, 5, 2]]
    assert batch["teacher_input_ids"].tolist() == [[13, 14], [0, 15]]
    assert batch["teacher_attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert batch["labels"].tolist() == [1, 0]


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_equals_the_tokenizers_own(side):
    tokenizer = letter_tokenizer(padding_side=side)
    tokenizer._pad_token_type_id = 7
    data = build(rows(["ab", "", "abcde"]), tokenizer)
    ours = TextCollator(tokenizer)(list(data))
    theirs = tokenizer.pad(list(data.remove_columns("labels")), return_tensors="pt")
    assert set(theirs) | {"labels"} == set(ours)
    for name, values in theirs.items():
        assert torch.equal(ours[name], values)
        assert ours[name].dtype == torch.int64


def test_labels_of_words_are_padded_on_the_side_of_the_tokens_and_ignored():
    dataset = word_rows([["ab"], ["c", "d", "e"]], [[1], [0, 1, 0]])
    data = build(dataset, text_column="tokens", label_column="tags")
    right = TextCollator(letter_tokenizer())(list(data))["labels"]
    left = TextCollator(letter_tokenizer(padding_side="left"))(list(data))["labels"]
    assert right.tolist() == [[-100, 1, -100, -100, -100], [-100, 0, 1, 0, -100]]
    assert left.tolist() == [[-100, -100, 1, -100, -100], [-100, 0, 1, 0, -100]]


# ---- storage --------------------------------------------------------------------------------------------------------


SECOND_RUN = """
import sys
from datasets import load_from_disk
from tests.data.test_text import build, letter_tokenizer
tokenizer = letter_tokenizer()
if sys.argv[3] == "used":
    tokenizer(["abc"], truncation=True, max_length=2, padding=True)
print(build(load_from_disk(sys.argv[1]), tokenizer, cache_dir=sys.argv[2])._fingerprint)
"""


def test_tokens_are_stored_outside_the_data_and_found_by_the_next_run(tmp_path):
    rows(["ab", "c"] * 20).save_to_disk(tmp_path / "data")
    before = sorted((tmp_path / "data").iterdir())
    first = build(load_from_disk(tmp_path / "data"), cache_dir=tmp_path / "cache")
    again = subprocess.run(
        [sys.executable, "-c", SECOND_RUN, str(tmp_path / "data"), str(tmp_path / "cache"), "used"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )
    assert again.stdout.strip() == first._fingerprint
    assert sorted((tmp_path / "data").iterdir()) == before
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_options_are_stored_apart(tmp_path):
    rows(["abc", "c"] * 20).save_to_disk(tmp_path / "data")
    data = load_from_disk(tmp_path / "data")
    whole = build(data, cache_dir=tmp_path / "cache")
    cut = build(data, cache_dir=tmp_path / "cache", max_length=3)
    other = build(data, letter_tokenizer(offset=10), cache_dir=tmp_path / "cache")
    swapped = build(data, cache_dir=tmp_path / "cache", label2id={"good": 0, "bad": 1})
    assert whole["input_ids"][0] == [1, 3, 4, 5, 2]
    assert cut["input_ids"][0] == [1, 3, 2]
    assert other["input_ids"][0] == [1, 13, 14, 15, 2]
    assert swapped["labels"][0] == 1
