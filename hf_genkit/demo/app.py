"""The demo of any model: the page that suits its kind, and a server for it."""

import os

from PIL import Image, UnidentifiedImageError

from ..trainers.tasks import CTC, SPEECH, TEXT_TO_TEXT
from .classifier import classifier_page, token_page
from .diffusion import diffusion_page
from .gan import gan_page
from .language import gap_page, generation_page
from .loading import DIFFUSION, DemoModel, load_demo_model
from .page import CSS, HEAD, import_gradio
from .sides import check_pair
from .speech import speech_page
from .vae import vae_page


DRAWING = {
    DIFFUSION: lambda loaded, _, examples: diffusion_page(loaded, examples),
    "vae": lambda loaded, _, examples: vae_page(loaded, examples),
    "gan": lambda loaded, *_: gan_page(loaded),
}
ANSWERING = {
    "image-classification": classifier_page,
    "text-classification": classifier_page,
    "token-classification": token_page,
    "text-generation": generation_page,
    TEXT_TO_TEXT: generation_page,
    "fill-mask": gap_page,
    SPEECH: speech_page,
    CTC: speech_page,
}
PAGES = {**DRAWING, **ANSWERING}
TEXTS = ("text-classification", "token-classification", "text-generation", TEXT_TO_TEXT, "fill-mask")
CLIPS = (SPEECH, CTC)


def build_demo(
    model_name_or_path: str,
    teacher_model_name_or_path: str | None = None,
    *,
    title: str | None = None,
    examples: list[str] | None = None,
):
    """
    A Gradio app for a model: sliders and interpolation for a VAE, truncation and classes for a GAN, steps, scheduler,
    guidance and a brush for a diffusion model, the answers of a classifier, a language model or a model of speech. Only
    what the model has is there to be set, and each seed gives the same again.

    Args:
        model_name_or_path (`str`): Hub id or local folder.
        teacher_model_name_or_path (`str`, *optional*):
            A model for the same task, whose answers and times stand beside the model's.
        title (`str`, *optional*): Heading of the page; defaults to the model's name.
        examples (`list[str]`, *optional*): Files of pictures or clips, or texts, to choose from.

    Returns:
        `gradio.Blocks`: For [`launch_demo`].

    Raises:
        `ValueError`: There is no such model or no demo of its kind, or the teacher doesn't go with it.
        `ImportError`: gradio is not installed.

    Example:

    ```python
    >>> from hf_genkit.demo import build_demo, launch_demo

    >>> launch_demo(build_demo("outputs/ddpm-digits"))
    ```
    """
    gradio = import_gradio()
    loaded = load_demo_model(model_name_or_path)
    teacher = None
    if teacher_model_name_or_path is not None:
        teacher = load_demo_model(teacher_model_name_or_path)
        check_pair(loaded, teacher)
    _check_examples(loaded, examples or [])
    title = title or loaded.short_name
    with gradio.Blocks(title=title, analytics_enabled=False) as demo:
        gradio.Markdown(f"# {title}\n\n{_description(loaded, teacher)}", elem_classes="facts")
        PAGES[loaded.kind](loaded, teacher, examples or [])
    return demo


def _check_examples(loaded: DemoModel, examples: list[str]) -> None:
    """A `ValueError` for an example that the page couldn't offer."""
    if loaded.kind == "gan" and examples:
        raise ValueError(f"'{loaded.name}' draws from seeds, and takes no examples such as '{examples[0]}'.")
    if loaded.kind in TEXTS:
        return
    reads_prompts = loaded.kind == DIFFUSION and loaded.model.text_encoder is not None
    for example in examples:
        if not os.path.isfile(example):
            if reads_prompts and os.path.splitext(example)[1].lower() not in Image.registered_extensions():
                continue
            raise ValueError(f"The example '{example}' is no file, but '{loaded.name}' takes files.")
        if loaded.kind in CLIPS:
            continue
        try:
            Image.open(example).close()
        except UnidentifiedImageError as error:
            raise ValueError(f"The example '{example}' is no picture.") from error


def launch_demo(demo, **options):
    """
    Serves a demo, with nothing fetched from elsewhere: no fonts, no analytics.

    Args:
        demo (`gradio.Blocks`): From [`build_demo`].
        options: More arguments of `gradio.Blocks.launch`, such as `server_port` and `prevent_thread_lock`.

    Returns:
        What `gradio.Blocks.launch` returns: the app, and its local and its shared address.

    Raises:
        `OSError`: The port is in use, or can't be had.
    """
    gradio = import_gradio()
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    own = {"theme": theme, "css": CSS, "head": HEAD, "ssr_mode": False, "footer_links": [], "run_history": False}
    try:
        return demo.launch(**{**own, **options})
    except OSError as error:
        if options.get("server_port") is None:
            raise
        where = f"{options.get('server_name') or '127.0.0.1'}, port {options['server_port']}"
        raise OSError(
            f"The demo can't listen at {where}: choose another port, or none for the first free one from 7860 on."
        ) from error


def _description(loaded: DemoModel, teacher: DemoModel | None) -> str:
    described = loaded.description()
    return described if teacher is None else f"{described}\n\nIts teacher: {teacher.description()}"
