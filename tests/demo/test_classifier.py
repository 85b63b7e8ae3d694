import gradio
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from hf_genkit.data import image_processor_for
from hf_genkit.demo import build_demo
from hf_genkit.demo.classifier import picture_inputs
from hf_genkit.demo.loading import load_demo_model

from ..hub.tiny_models import LABELS, SIZES
from .tiny_demos import function, grey, labels, save_classifier, save_text_model


def test_probabilities_are_those_of_each_model(tmp_path):
    folders = [str(save_classifier(tmp_path / name, seed)) for seed, name in enumerate(("student", "teacher"))]
    *found, summary = function(build_demo(*folders), "classify")(grey(200))
    for folder, probabilities in zip(folders, found, strict=True):
        loaded = load_demo_model(folder)
        pixels = loaded.processor(grey(200), return_tensors="pt")
        expected = loaded.model(**pixels).logits[0].softmax(-1).tolist()
        assert list(probabilities) == ["no", "yes"]
        assert list(probabilities.values()) == pytest.approx(expected, abs=1e-5)
    best = [max(each, key=each.get) for each in found]
    assert f"Both say **{best[0]}**" in summary if len(set(best)) == 1 else "the teacher **" in summary


def test_student_and_teacher_each_read_a_picture_at_their_own_size(tmp_path):
    student, teacher = save_classifier(tmp_path / "student"), save_classifier(tmp_path / "teacher")
    config = ViTConfig(**SIZES, **LABELS, image_size=16, patch_size=4, num_channels=1)
    ViTForImageClassification(config).save_pretrained(teacher)
    image_processor_for(1, 16).save_pretrained(teacher)
    *found, _ = function(build_demo(str(student), str(teacher)), "classify")(grey(200, 90))
    assert [sum(each.values()) for each in found] == pytest.approx([1, 1])


def test_colour_becomes_grey_for_a_grey_model(tmp_path):
    loaded = load_demo_model(str(save_classifier(tmp_path)))
    assert picture_inputs(loaded, grey(200, 30).convert("RGBA"))["pixel_values"].shape == (1, 1, 8, 8)
    torch.testing.assert_close(
        picture_inputs(loaded, grey(200).convert("RGB")), picture_inputs(loaded, grey(200)), atol=0.01, rtol=0
    )


def test_texts_are_classified_alone_and_an_empty_one_is_told(tmp_path):
    demo = build_demo(str(save_text_model(tmp_path, "text")), title="Reviews", examples=["to be or not to be"])
    probabilities, summary = function(demo, "classify")("once upon a time " * 99)  # longer than the model reads
    assert sum(probabilities.values()) == pytest.approx(1)
    assert "Both" not in summary
    assert demo.title == "Reviews"
    assert not any(label.startswith("Teacher") for label in labels(demo))
    with pytest.raises(gradio.Error, match="The text is empty"):
        function(demo, "classify")("  ")


def test_words_are_marked_where_they_stand(tmp_path):
    folder = save_text_model(tmp_path / "student", "tokens")
    demo = build_demo(str(folder), str(save_text_model(tmp_path / "teacher", "tokens", seed=1)))
    text = "there was a small model"
    ours, theirs, summary = function(demo, "tag")(text)
    assert ours["text"] == theirs["text"] == text
    assert all(0 <= each["start"] < each["end"] <= len(text) for each in ours["entities"] + theirs["entities"])
    assert {each["entity"] for each in ours["entities"]} <= {"NAME", "PLACE"}
    assert "tokens. " in summary
