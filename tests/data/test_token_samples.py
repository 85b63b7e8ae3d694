import numpy as np
import pytest

from hf_genkit.data import set_chat_template, train_tokenizer
from hf_genkit.data.token_samples import chat_samples, completion_samples, masked_blocks, padding_id, text_blocks


CHAT = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi there"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "so long"},
]
PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
OLDER = "{% if m['role'] == 'assistant' and not loop.last %}old {% endif %}"
MARKED = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}!"
    "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{{ eos_token }}\n{% endfor %}"
)


@pytest.fixture(scope="module")
def shared_tokenizer():
    return train_tokenizer(["hello hi there bye so long user assistant a b c"] * 20, 320)


@pytest.fixture
def tokenizer(shared_tokenizer):
    yield shared_tokenizer
    shared_tokenizer.chat_template = None


@pytest.fixture(scope="module")
def masked_tokenizer():
    return train_tokenizer(["a b c"], 270, masked=True)


def counted_text(tokenizer, sample):
    ids, counted = sample
    return tokenizer.decode(ids[counted])


# ---- plain text -----------------------------------------------------------------------------------------------------


def test_blocks_hold_every_token_once_with_an_end_behind_each_text(tokenizer):
    texts = ["hello there", "", "so long bye hello", "a"]
    blocks = text_blocks(texts, tokenizer, 4)
    end = [tokenizer.eos_token_id]
    whole = [i for text in texts if text for i in tokenizer(text).input_ids + end]
    assert np.concatenate(blocks).tolist() == whole
    assert [len(block) for block in blocks[:-1]] == [4] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) < 4 or len(whole) % 4 == 0
    assert all(block.dtype == np.int32 for block in blocks)


def test_a_tokenizer_that_ends_texts_itself_gives_no_second_end_and_an_empty_text_none(masked_tokenizer):
    masked_tokenizer.eos_token = "[SEP]"
    (block,) = text_blocks(["a", "", "b"], masked_tokenizer, 100)
    assert masked_tokenizer.decode(block).split() == ["[CLS]a[SEP][CLS]b[SEP]"]
    masked_tokenizer.eos_token = None


def test_each_masked_block_is_within_cls_and_sep(masked_tokenizer):
    blocks = masked_blocks(["abc", "", "ab", "c"], masked_tokenizer, 5)
    assert [masked_tokenizer.decode(block) for block in blocks] == [
        "[CLS]abc[SEP]",
        "[CLS][SEP]ab[SEP]",
        "[CLS][SEP]c[SEP]",
    ]


def test_a_tokenizer_without_padding_token_pads_with_its_end_and_keeps_its_vocabulary(tokenizer):
    assert padding_id(tokenizer) == tokenizer.pad_token_id
    before, tokenizer.pad_token = tokenizer.pad_token, None
    size = len(tokenizer)
    assert padding_id(tokenizer) == tokenizer.eos_token_id
    assert (tokenizer.pad_token, len(tokenizer)) == (None, size)
    tokenizer.pad_token = before


def test_a_tokenizer_without_end_token_is_named(masked_tokenizer):
    with pytest.raises(ValueError, match="has no end token"):
        text_blocks(["a"], masked_tokenizer, 4)


# ---- prompts and completions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "completion", "text"),
    [
        ("hello", "hi there", "hello\nhi there"),
        ("hello ", "hi there", "hello hi there"),
        ("hello", " hi there", "hello hi there"),
        ("", "hi there", "hi there"),
    ],
)
def test_the_completion_and_an_end_count(tokenizer, prompt, completion, text):
    ((ids, counted),) = completion_samples([(prompt, completion)], tokenizer)
    assert tokenizer.decode(ids) == text + "<|endoftext|>"
    assert tokenizer.decode(ids[counted]).strip() == completion.strip() + "<|endoftext|>"


def test_a_token_that_begins_in_the_prompt_and_ends_in_the_completion_counts(tokenizer):
    ((ids, counted),) = completion_samples([("hello ", "there")], tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids[1:2].tolist()) == ["Ġthere"]
    assert counted.tolist() == [False, True, True]


def test_an_end_that_the_tokenizer_adds_counts_and_is_the_only_one(masked_tokenizer):
    masked_tokenizer.eos_token = "[SEP]"
    ((ids, counted),) = completion_samples([("ab", "c")], masked_tokenizer)
    masked_tokenizer.eos_token = None
    assert masked_tokenizer.decode(ids) == "[CLS]ab\nc[SEP]"
    assert masked_tokenizer.decode(ids[counted]) == "c[SEP]"


def test_an_empty_completion_is_an_end(tokenizer):
    ((ids, counted),) = completion_samples([("hello", "")], tokenizer)
    assert ids[counted].tolist() == [tokenizer.eos_token_id]


# ---- chats ----------------------------------------------------------------------------------------------------------


def test_only_the_assistants_turns_count_with_the_token_that_ends_them(tokenizer):
    tokenizer.chat_template = PLAIN
    ((ids, counted),) = chat_samples([CHAT], tokenizer)
    assert ids.tolist() == tokenizer.apply_chat_template(CHAT, return_dict=True)["input_ids"]
    assert tokenizer.decode(ids[counted]) == "hi there<|endoftext|>so long<|endoftext|>"


def test_the_whole_chat_counts_if_asked(tokenizer):
    tokenizer.chat_template = PLAIN
    ((ids, counted),) = chat_samples([CHAT], tokenizer, completion_only=False)
    assert counted.all()
    assert ids.tolist() == tokenizer.apply_chat_template(CHAT, return_dict=True)["input_ids"]


def test_the_templates_own_marks_decide(tokenizer):
    tokenizer.chat_template = MARKED
    (sample,) = chat_samples([CHAT], tokenizer)
    assert counted_text(tokenizer, sample) == "hi there!so long!"


def test_a_turn_without_end_token_counts_as_a_whole(tokenizer):
    tokenizer.chat_template = PLAIN.replace("{{ eos_token }}", "")
    (sample,) = chat_samples([CHAT], tokenizer)
    assert counted_text(tokenizer, sample) == "hi there\nso long\n"


def test_a_template_that_rewrites_earlier_turns_is_refused_and_its_chat_named(tokenizer):
    tokenizer.chat_template = PLAIN.replace("{{ m['content'] }}", OLDER + "{{ m['content'] }}")
    with pytest.raises(ValueError, match="start of chat 1 otherwise once turn 1"):
        list(chat_samples([CHAT[:2], CHAT], tokenizer))


def test_a_template_that_answers_otherwise_than_it_asks_is_refused(tokenizer):
    tokenizer.chat_template = PLAIN.replace("<assistant>", "<bot>")
    with pytest.raises(ValueError, match="start of chat 0 otherwise"):
        list(chat_samples([CHAT], tokenizer))


def test_a_chat_that_the_template_refuses_is_named(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
    with pytest.raises(ValueError, match="The chat template can't write chat 0: no system turn"):
        list(chat_samples([CHAT], tokenizer))


def test_chats_without_template_are_refused_and_a_file_gives_one(tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"no chat template .*--chat_template FILE"):
        list(chat_samples([CHAT], tokenizer))
    with pytest.raises(ValueError, match="There is no chat template 'nowhere'"):
        set_chat_template(tokenizer, "nowhere")
    (tmp_path / "chat.jinja").write_text(PLAIN)
    set_chat_template(tokenizer, str(tmp_path / "chat.jinja"))
    (sample,) = chat_samples([CHAT[:2]], tokenizer)
    assert counted_text(tokenizer, sample) == "hi there<|endoftext|>"
