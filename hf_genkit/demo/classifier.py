"""The pages of classifiers of pictures, texts and words, alone or beside their teacher."""

from functools import partial

import torch

from ..data import prepare_pixels
from ..data.decoding import to_array
from ..trainers.inputs import argument_names
from .loading import DemoModel
from .page import handle, import_gradio, offer_examples, picture_box
from .sides import sides, timed, told_times


TOP = 5
FIRST_TEXT = "This is an example."


def classifier_page(student: DemoModel, teacher: DemoModel | None, examples: list[str]) -> None:
    """
    Adds an input, a button, and the classes that each model finds likely.

    Args:
        student ([`DemoModel`]): For image or text classification.
        teacher ([`DemoModel`], *optional*): For the same classes.
        examples (`list[str]`): Files of pictures, or texts, to choose from.
    """
    gradio, models = import_gradio(), sides(student, teacher)
    of_pictures = student.kind == "image-classification"
    names = list(student.model.config.id2label.values())

    def classify(value):
        read = picture_inputs if of_pictures else text_inputs
        outputs, milliseconds = timed([partial(each.model, **read(each, value)) for each in models.values()])
        probabilities = [output.logits[0].float().softmax(-1).tolist() for output in outputs]
        labels = [dict(zip(names, each, strict=True)) for each in probabilities]
        best = [max(each, key=each.get) for each in labels]
        agreement = f"{_agree(best)} " if len(best) == 2 else ""
        return [*labels, agreement + told_times(milliseconds)]

    with gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            if of_pictures:
                value = picture_box("Picture", examples[0] if examples else None, upload=True)
            else:
                value = gradio.Textbox(examples[0] if examples else FIRST_TEXT, label="Text", lines=4)
            button = gradio.Button("Classify", variant="primary")
            offer_examples(examples, value)
        with gradio.Column(scale=2, min_width=300):
            summary = gradio.Markdown(elem_id="summary")
            with gradio.Row():
                outputs = [gradio.Label(label=name, num_top_classes=TOP, min_width=240) for name in models]
    handle([button.click], classify, [value], [*outputs, summary], api_name="classify")


def token_page(student: DemoModel, teacher: DemoModel | None, examples: list[str]) -> None:
    """As [`classifier_page`], for the classes of the words of a text."""
    gradio, models = import_gradio(), sides(student, teacher)

    def tag(text):
        outputs, milliseconds = timed([partial(each.model, **text_inputs(each, text)) for each in models.values()])
        marked, found = [], []
        for each, output in zip(models.values(), outputs, strict=True):
            names = [each.model.config.id2label[index] for index in output.logits[0].argmax(-1).tolist()]
            spans = each.processor(text, truncation=True, return_offsets_mapping=True)["offset_mapping"]
            entities = [
                {"entity": name, "start": start, "end": end}
                for name, (start, end) in zip(names, spans, strict=True)
                if name != "O" and end > start
            ]
            marked.append({"text": text, "entities": entities})
            found.append(names)
        agreement = ""
        if len(found) == 2 and len(found[0]) == len(found[1]):
            same = sum(ours == theirs for ours, theirs in zip(*found, strict=True))
            agreement = f"Both say the same of {same} of {len(found[0])} tokens. "
        return [*marked, agreement + told_times(milliseconds)]

    text = gradio.Textbox(examples[0] if examples else FIRST_TEXT, label="Text", lines=3)
    button = gradio.Button("Mark", variant="primary")
    offer_examples(examples, text)
    summary = gradio.Markdown(elem_id="summary")
    outputs = [gradio.HighlightedText(label=name, combine_adjacent=True) for name in models]
    handle([button.click], tag, [text], [*outputs, summary], api_name="tag")


def picture_inputs(loaded: DemoModel, image) -> dict[str, torch.Tensor]:
    """A picture as a model takes it."""
    if image is None:
        raise ValueError("There is no picture: upload one.")
    pixels = torch.from_numpy(to_array(image, 3).copy())[None]
    return {"pixel_values": prepare_pixels(pixels, loaded.processor).to(loaded.model.device)}


def text_inputs(loaded: DemoModel, text: str | None) -> dict[str, torch.Tensor]:
    """A text as a model takes it, cut to the longest that its tokenizer allows."""
    if not text or not text.strip():
        raise ValueError("The text is empty: write something.")
    inputs = loaded.processor(text, truncation=True, return_tensors="pt").to(loaded.model.device)
    known = argument_names(loaded.model.forward)
    return {name: value for name, value in inputs.items() if name in known}


def _agree(best: list[str]) -> str:
    if best[0] == best[1]:
        return f"Both say **{best[0]}**."
    return f"The student says **{best[0]}**, the teacher **{best[1]}**."
