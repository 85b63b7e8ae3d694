import pytest

from hf_genkit.hub import CardFacts, DatasetFacts, Result, render_model_card
from hf_genkit.report import Picture, Table, Text
from hf_genkit.report.card_reading import picture_of, read_card


def facts(**values) -> CardFacts:
    known = {
        "model_name": "tiny",
        "task": "image-classification",
        "auto_class": "AutoModelForImageClassification",
        "dataset": DatasetFacts("digits", split="test", samples=500),
        "results": [Result("accuracy", 0.792, name="Accuracy")],
        "comparison": [{"Model": "a | b", "Accuracy": 0.8}, {"Model": "student", "Accuracy": 0.75}],
        "base_model": "google/vit-base-patch16-224",
        "method": "It was trained.",
        "command": "accelerate launch recipes/distill.py\naccelerate launch more.py",
        "hyperparameters": {"alpha": 0.9, "feature_loss": {"mse": 1.0}},
        "hardware": "2 CPU cores, 95 seconds",
        "versions": {"hf-genkit": "0.1.0", "torch": "2.13.0"},
        "limits": ["It knows 10 classes only.", "No other data were tried."],
        "pictures": [("curves.png", "Loss (left), accuracy")],
    }
    return CardFacts(**known | values)


def test_a_card_of_ours_is_read_whole():
    title, command, sections = read_card(render_model_card(facts()))
    assert title == "tiny"
    assert command == "accelerate launch recipes/distill.py\naccelerate launch more.py"
    about, results, training, limits = sections
    assert [section.title for section in sections] == ["", "Results", "How it was trained", "Limits"]
    assert about.blocks[0].paragraphs[0].endswith("It starts from google/vit-base-patch16-224.")
    assert results.blocks == [
        Text(["Measured on digits, split test (500 samples)."]),
        Table("Scores", [{"Metric": "Accuracy", "Value": "0.792"}]),
        Table("Side by side", [{"Model": "a | b", "Accuracy": "0.8"}, {"Model": "student", "Accuracy": "0.75"}]),
        Picture("Loss (left), accuracy", "curves.png", pixelated=False),
    ]
    options = Table(
        "Options that differ from their defaults",
        [{"Option": "alpha", "Value": 0.9}, {"Option": "feature_loss", "Value": "{'mse': 1.0}"}],
    )
    assert options in training.blocks
    assert limits.blocks == [Text(["- It knows 10 classes only.", "- No other data were tried."])]


def test_a_card_of_somebody_else_keeps_its_texts():
    card = "Before.\n\n# Mine\n\nA **model** of [mine](https://example.com).\n\n## More\n\n1. one\n2. two\n\n```python\nx = 1\n\n# no heading\n```\n\n### Deep\n\ntext\nover lines\n"
    title, command, sections = read_card(card)
    assert (title, command) == ("Mine", None)
    assert [(section.title, section.blocks) for section in sections] == [
        ("", [Text(["Before."]), Text(["A **model** of mine."])]),
        ("More", [Text(["1. one\n2. two"])]),
        ("Deep", [Text(["text\nover lines"])]),
    ]


def test_an_empty_card_has_nothing():
    assert read_card("") == (None, None, [])


@pytest.mark.parametrize(
    ("path", "pixelated"), [("samples.png", True), ("false_alarms.png", True), ("curves.png", False)]
)
def test_drawings_are_not_enlarged_with_hard_edges(path, pixelated):
    assert picture_of(path).pixelated == pixelated
    assert picture_of("false_alarms.png").title == "False alarms"
