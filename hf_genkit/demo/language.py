"""The pages of language models, alone or beside their teacher: both continue a text, answer it, or fill its gap."""

import time
from functools import partial

import torch

from .classifier import text_inputs
from .loading import DemoModel
from .page import check_seed, handle, import_gradio, offer_examples, seed_box
from .sides import sides, timed, told_times


TOP = 5
FIRST_PROMPT = "Once upon a time"


def generation_page(student: DemoModel, teacher: DemoModel | None, examples: list[str]) -> None:
    """
    Adds a prompt and what each model makes of it.

    Args:
        student ([`DemoModel`]): For text generation, or from text to text.
        teacher ([`DemoModel`], *optional*): For the same, with a tokenizer of its own.
        examples (`list[str]`): Prompts to choose from.
    """
    gradio, models = import_gradio(), sides(student, teacher)
    chats = student.kind == "text-generation" and all(each.processor.chat_template for each in models.values())

    def generate(prompt, length, temperature, seed, as_message=False):
        check_seed(seed)
        texts, milliseconds = [], []
        for each in models.values():
            text, per_token = continue_text(each, prompt, length, temperature, seed, as_message)
            texts.append(text)
            milliseconds.append(per_token)
        return [*texts, told_times(milliseconds, "a token")]

    with gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            prompt = gradio.Textbox(examples[0] if examples else FIRST_PROMPT, label="Prompt", lines=4)
            settings = [prompt, gradio.Slider(1, 256, 48, step=1, label="Longest answer, in tokens")]
            settings.append(
                gradio.Slider(0, 2, 0, step=0.05, label="Temperature", info="0 always takes the likeliest token.")
            )
            settings.append(seed_box())
            settings += [gradio.Checkbox(label="As a message, which it answers")] if chats else []
            button = gradio.Button("Continue", variant="primary")
            offer_examples(examples, prompt)
        with gradio.Column(scale=2, min_width=300):
            summary = gradio.Markdown(elem_id="summary")
            with gradio.Row():
                outputs = [gradio.Textbox(label=name, lines=10, min_width=240) for name in models]
    handle([button.click], generate, settings, [*outputs, summary], api_name="generate")


def continue_text(
    loaded: DemoModel, prompt: str | None, length: int, temperature: float, seed: int, as_message: bool = False
) -> tuple[str, float]:
    """
    What a language model writes, and the milliseconds that it takes for each token.

    Args:
        loaded ([`DemoModel`]): The model.
        prompt (`str`): What it continues; a model from text to text reads it, and begins anew.
        length (`int`): Most new tokens.
        temperature (`float`): 0 takes the likeliest token each time.
        seed (`int`): Draws the tokens otherwise.
        as_message (`bool`, *optional*, defaults to `False`): Whether to answer it by the chat template.

    Raises:
        `ValueError`: The prompt is empty, or leaves no room for an answer.
    """
    model, tokenizer = loaded.model, loaded.processor
    inputs = text_inputs(loaded, prompt)
    if as_message:
        message = [{"role": "user", "content": prompt}]
        options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        inputs = dict(tokenizer.apply_chat_template(message, **options).to(model.device))
    before = inputs["input_ids"].shape[1] if loaded.kind == "text-generation" else 1
    most = getattr(model.config, "max_position_embeddings", None)  # which models without positions lack
    if loaded.kind == "text-generation" and most is not None and before + length > most:
        raise ValueError(
            f"The prompt has {before} tokens, and {length} more are over the {most} that the model can read."
        )
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    torch.manual_seed(seed)
    start = time.perf_counter()
    with torch.inference_mode():
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        written = model.generate(**inputs, max_new_tokens=length, pad_token_id=pad, **sampling)[0, before:]
    milliseconds = 1000 * (time.perf_counter() - start)
    text = tokenizer.decode(written, skip_special_tokens=True)
    goes_on = loaded.kind == "text-generation" and not as_message
    return (prompt + text if goes_on else text), milliseconds / max(1, len(written))


def gap_page(student: DemoModel, teacher: DemoModel | None, examples: list[str]) -> None:
    """
    Adds a text with a gap, and the words with which each model fills it.

    Args:
        student ([`DemoModel`]): A masked language model.
        teacher ([`DemoModel`], *optional*): Another one; each text has the student's mask, which becomes the teacher's.
        examples (`list[str]`): Texts to choose from.
    """
    gradio, models = import_gradio(), sides(student, teacher)
    mask = student.processor.mask_token

    def fill(text):
        if (text or "").count(mask) != 1:
            raise ValueError(f"The text has {(text or '').count(mask)} gaps, but it must have one {mask}.")
        inputs = [text_inputs(each, text.replace(mask, each.processor.mask_token)) for each in models.values()]
        outputs, milliseconds = timed(
            [partial(each.model, **own) for each, own in zip(models.values(), inputs, strict=True)]
        )
        answers = []
        for each, own, output in zip(models.values(), inputs, outputs, strict=True):
            gaps = (own["input_ids"][0] == each.processor.mask_token_id).nonzero()
            if len(gaps) == 0:
                raise ValueError(f"The text is too long: its {mask} is cut off.")
            likely = output.logits[0, gaps[0, 0]].float().softmax(-1).topk(TOP)
            words = [each.processor.decode([index]).strip() for index in likely.indices.tolist()]
            answers.append(dict(zip(words, likely.values.tolist(), strict=True)))
        return [*answers, told_times(milliseconds)]

    with gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            text = gradio.Textbox(
                examples[0] if examples else f"This is {mask}.", label=f"Text with a {mask}", lines=3
            )
            button = gradio.Button("Fill", variant="primary")
            offer_examples(examples, text)
        with gradio.Column(scale=2, min_width=300):
            summary = gradio.Markdown(elem_id="summary")
            with gradio.Row():
                outputs = [gradio.Label(label=name, min_width=240) for name in models]
    handle([button.click], fill, [text], [*outputs, summary], api_name="fill")
