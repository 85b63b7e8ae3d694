import gradio
import pytest

from hf_genkit.demo import build_demo
from hf_genkit.demo.language import continue_text
from hf_genkit.demo.loading import load_demo_model

from .tiny_demos import function, labels, save_text_model


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return load_demo_model(str(save_text_model(tmp_path_factory.mktemp("writer"), "generation")))


def test_a_prompt_is_continued_the_same_for_the_same_seed(writer):
    text, per_token = continue_text(writer, "once upon", 8, 1.0, seed=3)
    assert text.startswith("once upon")
    assert len(text) > len("once upon")
    assert per_token > 0
    assert continue_text(writer, "once upon", 8, 1.0, seed=3)[0] == text
    assert continue_text(writer, "once upon", 8, 1.0, seed=4)[0] != text
    assert continue_text(writer, "once upon", 8, 0, seed=3)[0] == continue_text(writer, "once upon", 8, 0, seed=4)[0]


def test_a_message_is_written_by_the_chat_template(writer):
    template = "{% for m in messages %}to be {{ m.content }}{% endfor %}{% if add_generation_prompt %} or{% endif %}"
    writer.processor.chat_template = template
    answer, _ = continue_text(writer, "not", 6, 0, 0, as_message=True)
    writer.processor.chat_template = None
    whole, _ = continue_text(writer, "to be not or", 6, 0, 0)
    assert whole == f"to be not or{answer}"


def test_what_cannot_be_read_is_told(writer):
    with pytest.raises(ValueError, match="and 60 more are over the 64 that the model can read"):
        continue_text(writer, "once upon a time", 60, 0, 0)
    with pytest.raises(ValueError, match="The text is empty"):
        continue_text(writer, "", 5, 0, 0)


def test_both_models_write_and_messages_need_templates(writer, tmp_path):
    demo = build_demo(writer.name, str(save_text_model(tmp_path, "generation", seed=1)))
    ours, theirs, summary = function(demo, "generate")("once upon", 8, 0, 0)
    assert ours != theirs
    assert "ms a token" in summary
    assert not any("message" in label for label in labels(demo))


def test_a_gap_is_filled_with_the_likeliest_words(tmp_path):
    demo = build_demo(str(save_text_model(tmp_path, "gaps")))
    words, _ = function(demo, "fill")("once upon a [MASK]")
    assert len(words) == 5
    assert list(words.values()) == sorted(words.values(), reverse=True)
    with pytest.raises(gradio.Error, match=r"has 0 gaps, but it must have one \[MASK\]"):
        function(demo, "fill")("once upon a time")
    with pytest.raises(gradio.Error, match=r"its .* is cut off"):
        function(demo, "fill")("once upon a time " * 60 + "[MASK]")
