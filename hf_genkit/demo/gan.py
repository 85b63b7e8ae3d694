"""The page of a GAN: seeds, truncation, classes, and the way from one picture to another."""

import torch

from .loading import DemoModel
from .page import check_seed, handle, import_gradio, picture_box, seed_box
from .pictures import generators, in_rows, shown


EACH_IN_TURN = -1
FIRST_COUNT, MOST = 20, 64


def class_box(names: dict[int, str]):
    """A choice of classes, by their names; -1 is each in turn."""
    choices = [("each in turn", EACH_IN_TURN), *((name, index) for index, name in names.items())]
    return import_gradio().Dropdown(choices, value=EACH_IN_TURN, label="Class", min_width=120)


def labels_for(chosen: int | None, count: int, classes: int) -> list[int] | None:
    """The class of each picture; `None` for a model without classes."""
    if not classes:
        return None
    return [index % classes for index in range(count)] if chosen == EACH_IN_TURN else [chosen] * count


def gan_page(loaded: DemoModel) -> None:
    """
    Adds the controls of a GAN to the page.

    Args:
        loaded ([`DemoModel`]): A `GANModel` or its generator alone.
    """
    gradio, model = import_gradio(), loaded.model
    names = model.config.id2label if model.config.num_labels else {}

    def latents(count: int, seed: int | None) -> torch.Tensor:
        each = generators(count, check_seed(seed))
        return torch.cat([torch.randn(1, model.config.latent_dim, generator=generator) for generator in each])

    def draw(seed, count, truncation, chosen=None):
        labels = labels_for(chosen, count, len(names))
        pictures = model.generate(latents=latents(count, seed), labels=labels, truncation=truncation)
        return in_rows(pictures, list(names.values()) if chosen == EACH_IN_TURN else [])

    def interpolate(first, second, steps, mode, chosen=None):
        ends = [latents(1, seed) for seed in (first, second)]
        label = [max(chosen, 0)] if names else None
        return shown(model.interpolate(*ends, steps, mode=mode, labels=label)[0], columns=steps)

    with gradio.Tab("Draw"), gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            settings = [seed_box(), gradio.Slider(1, MOST, FIRST_COUNT, step=1, label="Pictures")]
            settings.append(
                gradio.Slider(
                    0.05, 1, 1, step=0.05, label="Truncation", info="Less gives more typical and less varied pictures."
                )
            )
            settings += [class_box(names)] if names else []
            button = gradio.Button("Draw", variant="primary")
        with gradio.Column(scale=2, min_width=300):
            picture = picture_box("Pictures", draw(0, FIRST_COUNT, 1, *([EACH_IN_TURN] if names else [])))
    handle([button.click], draw, settings, [picture], api_name="draw")

    with gradio.Tab("Between two"):
        with gradio.Row():
            ends = [seed_box("First seed"), seed_box("Second seed", 1)]
            ends.append(gradio.Slider(3, 12, 8, step=1, label="Pictures", min_width=220))
            ends.append(gradio.Dropdown(["slerp", "linear"], value="slerp", label="Interpolation", min_width=120))
            if names:
                choices = [(name, index) for index, name in names.items()]
                ends.append(gradio.Dropdown(choices, value=0, label="Class", min_width=120))
        button = gradio.Button("Interpolate", variant="primary")
        strip = picture_box("From the first to the second", interpolate(0, 1, 8, "slerp", *([0] if names else [])))
    handle([button.click], interpolate, ends, [strip], api_name="interpolate")
