"""What all demos share: Gradio, their looks, and how an error reaches the person in front of the page."""

import functools
from collections.abc import Callable, Sequence


CSS = """
.pixelated canvas { image-rendering: pixelated; }
.pixelated img { object-fit: contain; width: 100%; }
.result .image-container { padding-top: 2rem; }
.gradio-container { max-width: 1200px !important; width: 100%; margin: 0 auto !important; }
.facts p { margin: 0 0 0.3em; }
@media (max-width: 480px) { .tab-container button { padding: 0 0.3em; font-size: 13px; } }
"""
# A picture that is enlarged keeps its hard edges, and one that is shown smaller than it is gets smooth ones.
HEAD = """<script>
document.addEventListener("load", ({target}) => {
  if (target.closest?.(".pixelated img")) {
    const enlarged = target.naturalWidth < target.clientWidth * devicePixelRatio;
    target.style.imageRendering = enlarged ? "pixelated" : "auto";
  }
}, true);
</script>"""
HIGHEST_SEED = 2**32 - 1


def import_gradio():
    """The gradio library, or an error that says how to install it."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError('A demo needs gradio: pip install "hf-genkit[demo]"') from error
    return gradio


def handle(triggers: Sequence, function: Callable, inputs: Sequence, outputs: Sequence, **options) -> None:
    """
    Calls a function when something happens on the page. One call runs at a time, since all of them share the model; a
    `ValueError` is shown as its sentence, and the page goes on.

    Args:
        triggers (sequence of events): Such as `[button.click]`.
        function (`Callable`): Takes the values of `inputs` and returns those of `outputs`.
        inputs, outputs (sequences of components): Gradio's.
        options: More arguments of `gradio.on`, such as `show_progress`.
    """
    gradio = import_gradio()

    @functools.wraps(function)
    def tell(*values):
        try:
            return function(*values)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    gradio.on(list(triggers), tell, inputs, outputs, concurrency_id="model", concurrency_limit=1, **options)


def seed_box(label: str = "Seed", value: int = 0):
    """A box for a seed."""
    return import_gradio().Number(value, label=label, precision=0, minimum=0, maximum=HIGHEST_SEED, min_width=100)


def check_seed(seed: int | None) -> int:
    """The seed of a box; a `ValueError` where the box is empty."""
    if seed is None:
        raise ValueError(f"The seed is empty, but it must be a whole number from 0 to {HIGHEST_SEED}.")
    return seed


def picture_box(label: str, value=None, *, upload: bool = False, **options):
    """A picture, as a result or to be uploaded, that is enlarged with hard edges."""
    gradio = import_gradio()
    own = {"sources": ["upload", "clipboard"], "height": 240} if upload else {"buttons": ["download", "fullscreen"]}
    options = {
        "type": "pil",
        "image_mode": None,
        "format": "png",
        "elem_classes": ["pixelated"] if upload else ["pixelated", "result"],
        **own,
        **options,
    }
    return gradio.Image(value, label=label, interactive=upload, **options)


def offer_examples(examples: Sequence, *inputs) -> None:
    """Values to choose from, if there are any: each fills one input, or as many of them as there are inputs."""
    gradio = import_gradio()
    rows = [list(examples[start : start + len(inputs)]) for start in range(0, len(examples), len(inputs))]
    rows = [row for row in rows if len(row) == len(inputs)]
    if rows:
        with gradio.Column(elem_classes="pixelated"):
            gradio.Examples(rows, list(inputs))
