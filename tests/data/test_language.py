import logging

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value

from hf_genkit.data import LanguageData, TokenDataset, load_data, train_tokenizer


TURNS = [[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}]] * 2
TEXTS = ["hello there", "so long"]
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}" + (
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = train_tokenizer(["hello hi there so long"] * 10, 290)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def language(columns=None, **options):
    rows = Dataset.from_dict({"text": TEXTS} if columns is None else columns)
    return LanguageData(DatasetDict(train=rows, validation=rows), **options)


def learnt(data, tokenizer):
    return [tokenizer.decode(data[i]["labels"][data[i]["labels"] != -100]) for i in range(len(data))]


# ---- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "options", "form", "found"),
    [
        ({"text": TEXTS}, {}, "text", ["text"]),
        ({"body": TEXTS}, {}, "text", ["body"]),
        ({"a": TEXTS, "b": TEXTS}, {"text_column": "b"}, "text", ["b"]),
        ({"text": TEXTS, "dialogue": TURNS}, {}, "chat", ["dialogue"]),
        ({"text": TEXTS, "messages": TURNS}, {"text_column": "text"}, "text", ["text"]),
        ({"prompt": TEXTS, "completion": TEXTS}, {}, "prompt and completion", ["prompt", "completion"]),
        ({"id": TEXTS, "question": TEXTS, "answer": TEXTS}, {}, "prompt and completion", ["question", "answer"]),
        (
            {"output": TEXTS, "instruction": TEXTS, "input": ["", "x"]},
            {},
            "prompt and completion",
            ["instruction", "input", "output"],
        ),
        (
            {"q": TEXTS, "a": TEXTS, "messages": TURNS},
            {"prompt_column": "q", "completion_column": "a"},
            "prompt and completion",
            ["q", "a"],
        ),
    ],
)
def test_the_format_is_found_by_names_and_types(columns, options, form, found):
    data = language(columns, **options)
    assert (data.format, data.columns) == (form, found)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": TEXTS, "b": TEXTS}, {}, "several text columns"),
        ({"text": TEXTS}, {"text_column": "txt"}, "no text column 'txt'"),
        ({"text": TEXTS}, {"messages_column": "chats"}, "no chat column 'chats'"),
        ({"text": TEXTS}, {"messages_column": "text"}, "must hold lists of turns"),
        ({"n": [1, 2]}, {"text_column": "n"}, "'n' must hold text, but it holds"),
        ({"text": TEXTS}, {"prompt_column": "text"}, "must be given together"),
        ({"text": TEXTS, "n": [1, 2]}, {"prompt_column": "text", "completion_column": "n"}, "'n' must hold text"),
    ],
)
def test_columns_that_are_not_there_or_hold_something_else_are_named(columns, options, message):
    with pytest.raises(ValueError, match=message):
        language(columns, **options)


def test_streams_are_refused():
    rows = Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    with pytest.raises(ValueError, match="`streaming` must be off"):
        LanguageData({"train": rows})


def test_the_test_split_is_the_validation_split_where_there_is_none():
    data = language()
    assert data.test_split_name == "validation"
    assert data.test_split is data.evaluation_split is data.splits["validation"]
    data.splits["test"] = data.splits["train"]
    assert data.test_split is data.splits["test"]


# ---- inputs ---------------------------------------------------------------------------------------------------------


def test_plain_text_is_packed_and_every_token_counts(tokenizer):
    data = language()
    inputs = data.inputs(data.splits["train"], tokenizer, max_length=4)
    assert isinstance(inputs, TokenDataset)
    assert "".join(learnt(inputs, tokenizer)) == "hello there<|endoftext|>so long<|endoftext|>"
    assert np.diff(inputs.offsets).max() == 4
    assert inputs.pad_token_id == tokenizer.pad_token_id


def test_a_masked_model_gets_masked_blocks():
    tokenizer = train_tokenizer(TEXTS, 270, masked=True)
    data = language({"text": ["hello there " * 50]})
    inputs = data.inputs(data.splits["train"], tokenizer, max_length=16, masking=0.3, seed=2)
    inputs.set_epoch(0)
    ids = np.concatenate([inputs[index]["input_ids"] for index in range(len(inputs))])
    assert 0.15 < (ids == tokenizer.mask_token_id).mean() < 0.3
    assert inputs.masking.seed == 2
    assert not set(inputs.masking.ordinary_ids) & set(tokenizer.all_special_ids)
    assert len(inputs.masking.ordinary_ids) == len(tokenizer) - 4


def test_a_completion_counts_and_its_prompt_and_context_do_not(tokenizer):
    data = language({"instruction": ["hello", "hello"], "input": ["there", None], "output": ["so long", "hi"]})
    inputs = data.inputs(data.splits["train"], tokenizer, max_length=50)
    assert learnt(inputs, tokenizer) == ["so long<|endoftext|>", "hi<|endoftext|>"]
    assert tokenizer.decode(inputs[0]["input_ids"]) == "hello\nthere\nso long<|endoftext|>"
    assert tokenizer.decode(inputs[1]["input_ids"]) == "hello\nhi<|endoftext|>"
    everything = data.inputs(data.splits["train"], tokenizer, max_length=50, completion_only=False)
    assert learnt(everything, tokenizer)[1] == "hello\nhi<|endoftext|>"


def test_chats_are_written_with_the_template(tokenizer):
    data = language({"messages": TURNS})
    inputs = data.inputs(data.splits["train"], tokenizer, max_length=50)
    assert learnt(inputs, tokenizer) == ["hi there<|endoftext|>"] * 2
    everything = data.inputs(data.splits["train"], tokenizer, max_length=50, completion_only=False)
    assert learnt(everything, tokenizer)[0] == "<user>hello<|endoftext|><assistant>hi there<|endoftext|>"


@pytest.mark.parametrize("completion_only", [True, False])
def test_samples_whose_completion_is_cut_off_are_left_out_and_counted(tokenizer, caplog, completion_only):
    data = language({"prompt": ["hello " * 20, "hello"], "completion": ["so long", "hi there"]})
    with caplog.at_level(logging.WARNING):
        inputs = data.inputs(data.splits["train"], tokenizer, max_length=3, completion_only=completion_only)
    assert len(inputs) == 1
    assert len(inputs[0]["input_ids"]) == 3
    assert "1 of 2 samples are left out: within 3 tokens" in caplog.text
    with pytest.raises(ValueError, match="No sample has anything to learn within `max_length`, which is 3"):
        data.inputs(data.splits["train"].select([0]), tokenizer, max_length=3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b", None]}, "Text 2 of the column 'text' is missing"),
        ({"question": ["a", "b"], "answer": ["a", None]}, "Text 1 of the column 'answer' is missing"),
        ({"messages": [*TURNS, None]}, "Chat 2 of the column 'messages' is missing"),
        ({"messages": [*TURNS, []]}, "Chat 2 of the column 'messages' is missing"),
    ],
)
def test_what_is_missing_is_named_by_its_row(tokenizer, columns, message):
    data = language(columns)
    with pytest.raises(ValueError, match=message):
        data.inputs(data.splits["train"], tokenizer, max_length=9)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": TEXTS}, {"max_length": 1}, "`max_length` is 1, but it must be at least 2"),
        ({"text": TEXTS}, {"max_length": 2, "masking": 0.15}, "`max_length` is 2, but it must be at least 3"),
        ({"text": TEXTS}, {"max_length": 9, "masking": 0.15}, "no mask token"),
        ({"messages": TURNS}, {"max_length": 9, "masking": 0.15}, "`masking` needs plain text"),
        ({"text": ["", ""]}, {"max_length": 9}, "Every text of the column 'text' is empty"),
    ],
)
def test_what_can_not_be_made_is_said_in_one_sentence(tokenizer, columns, options, message):
    data = language(columns)
    with pytest.raises(ValueError, match=message):
        data.inputs(data.splits["train"], tokenizer, **options)


def test_rows_beyond_the_first_read_are_there_and_numbered(tokenizer, monkeypatch):
    monkeypatch.setattr("hf_genkit.data.language.READ_BATCH", 2)
    data = language({"text": ["a", "b", "c", "d", "e"]})
    inputs = data.inputs(data.splits["train"], tokenizer, max_length=100)
    assert learnt(inputs, tokenizer) == [f"{'<|endoftext|>'.join('abcde')}<|endoftext|>"]
    broken = language({"text": ["a", "b", "c", None]})
    with pytest.raises(ValueError, match="Text 3 "):
        broken.inputs(broken.splits["train"], tokenizer, max_length=100)


def test_the_texts_of_every_format_train_a_tokenizer():
    for columns, texts in [
        ({"text": TEXTS}, TEXTS),
        ({"question": ["a"], "answer": ["b"]}, ["a", "b"]),
        ({"messages": TURNS[:1]}, ["hello", "hi there"]),
    ]:
        data = language(columns)
        assert list(data.texts(data.splits["train"])) == texts


def test_a_text_file_becomes_tokens(tokenizer, tmp_path):
    (tmp_path / "play.txt").write_text("hello there\n\nso long\n" * 20)
    data = LanguageData(load_data(str(tmp_path / "play.txt")))
    train, validation = (data.inputs(data.splits[name], tokenizer, max_length=16) for name in ("train", "validation"))
    read = "".join(learnt(train, tokenizer)) + "".join(learnt(validation, tokenizer))
    assert read.replace("<|endoftext|>", "") == "hello there\n\nso long\n" * 20


def test_large_strings_are_text(tokenizer):
    rows = Dataset.from_dict({"text": TEXTS}, features=Features({"text": Value("large_string")}))
    assert LanguageData(DatasetDict(train=rows)).format == "text"


def test_a_teacher_of_another_tokenizer_reads_the_same_completions(tokenizer):
    other = train_tokenizer(["abcdefgh short"] * 4, 300)
    columns = {"prompt": ["hi", "you", "ab"], "completion": ["there", "all", "cd"]}
    data = language(columns)
    paired = data.inputs(data.splits["train"], tokenizer, max_length=12, teacher_tokenizer=other)
    (batch,) = paired.__getitems__([0, 2])
    for prefix, own in (("", tokenizer), ("teacher_", other)):
        labels = batch.inputs[f"{prefix}labels"]
        texts = [own.decode(row[row != -100], skip_special_tokens=True) for row in labels]
        assert [text.strip() for text in texts] == ["there", "cd"]
    assert paired[1].keys() == batch.inputs.keys()
    plain = language({"text": ["a b c d"]})
    with pytest.raises(ValueError, match="two tokenizers make different ones"):
        plain.inputs(plain.splits["train"], tokenizer, max_length=12, teacher_tokenizer=other)
