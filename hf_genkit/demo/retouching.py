"""What a diffusion model does to given pictures: repaints what a brush covers, changes, and enlarges."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ..pipelines import ImageToImagePipeline, InpaintingPipeline, SuperResolutionPipeline
from ..trainers.diffusion_inputs import enlarge as enlarge_bicubically
from ..trainers.diffusion_inputs import reduce
from .diffusion_settings import Settings
from .gan import EACH_IN_TURN
from .page import handle, import_gradio, offer_examples, picture_box
from .pictures import LARGE, in_rows, read_picture, shown


RESULTS = 4
FACTORS = (2, 3, 4, 8)


@dataclass(frozen=True)
class Painted:
    """A picture and what a brush covered of it, as the model takes them."""

    pixels: torch.Tensor
    mask: torch.Tensor


def read_editor(value: dict | None, shape: torch.Size) -> Painted:
    """
    What a person painted.

    Args:
        value (`dict`, *optional*): Of a `gradio.ImageEditor`: "background" and "layers", as `PIL.Image.Image`.
        shape (`torch.Size`): Channels, height and width of the model's pictures.

    Returns:
        [`Painted`]: The picture `[1, C, H, W]` in [-1, 1], and the mask `[1, 1, H, W]`: 1 for each pixel that the brush
        touched.

    Raises:
        `ValueError`: There is no picture, or nothing is painted.
    """
    channels, *size = shape
    pixels = read_picture(None if value is None else value["background"], channels, tuple(size))
    touched = torch.zeros(1, 1, *size)
    for layer in value["layers"]:
        alpha = torch.from_numpy(np.asarray(layer.convert("RGBA"))[..., 3].copy())
        alpha = _cropped(alpha, size[1] / size[0])
        touched += functional.adaptive_max_pool2d((alpha > 127).float()[None, None], tuple(size))
    if not touched.any():
        raise ValueError("Nothing is painted: cover with the brush what is to be drawn anew.")
    return Painted(pixels, (touched > 0).float())


def _cropped(alpha: torch.Tensor, proportions: float) -> torch.Tensor:
    """The middle of a layer, as the picture below it is cropped to the model's proportions."""
    height, width = alpha.shape
    inner = (min(height, round(width / proportions)), min(width, round(height * proportions)))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    return alpha[top : top + inner[0], left : left + inner[1]]


def repaint_tab(settings: Settings, examples: list[str]) -> None:
    """Adds a brush: what it covers is drawn anew, by RePaint, and all else stays as it is."""
    gradio, shape = import_gradio(), settings.pipeline.image_shape

    def repaint(value, *values, progress=gradio.Progress()):  # noqa: B008
        read, painted = _any_class(settings.read(values)), read_editor(value, shape)
        images = [part.expand(RESULTS, -1, -1, -1) for part in (painted.pixels, painted.mask)]
        drawn = settings.run(InpaintingPipeline, read, RESULTS, *images, progress=progress)
        hidden = torch.where(painted.mask > 0, torch.zeros(()), painted.pixels)
        titles = ["what it saw", *(f"seed {read['seed'] + index}" for index in range(RESULTS))]
        return shown(torch.cat([hidden, drawn]), columns=RESULTS + 1, titles=titles)

    def take(*values, progress=gradio.Progress()):  # noqa: B008
        return unpainted(draw_one(settings, values, progress))

    def take_uploaded(value):
        # Whoever paints sees the pixels that the model draws, and the brush suits them. What is put into the editor here
        # counts as uploaded, too.
        uploaded = value["background"]
        picture = shown(read_picture(uploaded, shape[0], tuple(shape[1:])))
        is_read = uploaded.convert("RGB").tobytes() == picture.tobytes()
        return gradio.skip() if is_read else unpainted(picture)

    side = LARGE // max(shape[1:]) or 1
    canvas = (side * shape[2], side * shape[1])
    brush = gradio.Brush(default_size=max(16, side), colors=["#e4572e"], color_mode="fixed")
    editor = gradio.ImageEditor(
        label="Your picture", type="pil", format="png", image_mode="RGBA", brush=brush, layers=False,
        sources=["upload", "clipboard"], transforms=[], canvas_size=canvas, height=LARGE + 90, elem_classes="pixelated",
    )  # fmt: skip
    drawn = gradio.Button("Take a drawn picture")
    offer_examples(examples, editor)
    button = gradio.Button("Repaint", variant="primary")
    output = picture_box("Repainted")
    handle([drawn.click], take, settings.boxes, [editor], api_name="take_to_repaint")
    handle([editor.upload], take_uploaded, [editor], [editor], api_name="take_uploaded", show_progress="hidden")
    handle([button.click], repaint, [editor, *settings.boxes], [output], api_name="repaint")


def unpainted(picture: Image.Image) -> dict:
    """A picture as a `gradio.ImageEditor` takes it, with nothing painted on it."""
    return {"background": picture, "layers": [], "composite": picture}


def change_tab(settings: Settings, examples: list[str]) -> None:
    """Adds a picture to begin with, of which a share of the steps makes others, by SDEdit."""
    gradio = import_gradio()
    channels, *size = settings.pipeline.image_shape

    def change(image, strength, *values, progress=gradio.Progress()):  # noqa: B008
        read, pixels = settings.read(values), read_picture(image, channels, tuple(size))
        names = list(settings.names.values())
        by_class = 0 < len(names) <= 10 and read["chosen"] == EACH_IN_TURN
        count = len(names) if by_class else RESULTS
        images = pixels.expand(count, -1, -1, -1)
        drawn = settings.run(ImageToImagePipeline, read, count, images, progress=progress, strength=strength)
        return in_rows(drawn, names if by_class else [])

    def take(*values, progress=gradio.Progress()):  # noqa: B008
        return draw_one(settings, values, progress)

    image = picture_box("Your picture", upload=True)
    drawn = gradio.Button("Take a drawn picture")
    offer_examples(examples, image)
    strength = gradio.Slider(0.05, 1, 0.5, step=0.05, label="Strength", info="How much of it is drawn anew.")
    button = gradio.Button("Change", variant="primary")
    output = picture_box("Pictures like yours")
    handle([drawn.click], take, settings.boxes, [image], api_name="take_to_change")
    handle([button.click], change, [image, strength, *settings.boxes], [output], api_name="change")


def enlarge_tab(settings: Settings, examples: list[str], trained: int | None) -> None:
    """Adds a picture to make small, and to enlarge by the model and bicubically; `trained` is the model's factor."""
    gradio = import_gradio()
    channels, *size = settings.pipeline.image_shape
    factors = [factor for factor in FACTORS if not any(side % factor for side in size)]

    def enlarge(image, factor, *values, progress=gradio.Progress()):  # noqa: B008
        read, pixels = settings.read(values), read_picture(image, channels, tuple(size))
        small = reduce(pixels, factor)
        drawn = settings.run(SuperResolutionPipeline, read, 1, small, progress=progress)
        nearest = functional.interpolate(small, size=tuple(size))
        titles = ["given", "bicubic", "enlarged", "as it was"]
        return shown(torch.cat([nearest, enlarge_bicubically(small, size), drawn, pixels]), columns=4, titles=titles)

    image = picture_box("Your picture", upload=True)
    offer_examples(examples, image)
    info = "Your picture is made smaller by this factor, and enlarged again. "
    known = (
        f"The model was trained on {trained}." if trained in factors else "A model does best what it was trained on."
    )
    factor = gradio.Radio(
        factors, value=trained if trained in factors else factors[0], label="Factor", info=info + known
    )
    button = gradio.Button("Enlarge", variant="primary")
    output = picture_box("Enlarged")
    handle([button.click], enlarge, [image, factor, *settings.boxes], [output], api_name="enlarge")


def draw_one(settings: Settings, values: tuple, progress) -> Image.Image:
    """One drawn picture, enlarged, to start from; where classes take turns the seed says whose turn it is."""
    read = settings.read(values)
    if read.get("chosen") == EACH_IN_TURN:
        read["chosen"] = read["seed"] % len(settings.names)
    return shown(settings.run(settings.drawing_pipeline, read, 1, progress=progress))


def _any_class(read: dict) -> dict:
    """The settings for one picture, of which the model makes what it likes where classes take turns."""
    return {**read, "chosen": None} if read.get("chosen") == EACH_IN_TURN else read
