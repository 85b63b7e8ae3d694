"""The page of a diffusion model: drawing by class or from text, and what it does to given pictures."""

import os

import torch

from ..pipelines import SuperResolutionPipeline
from .diffusion_settings import Settings
from .gan import EACH_IN_TURN
from .loading import DemoModel
from .page import handle, import_gradio, picture_box
from .pictures import in_rows, shown
from .retouching import change_tab, enlarge_tab, repaint_tab


STAGES = 8
MOST = 32


def diffusion_page(loaded: DemoModel, examples: list[str]) -> None:
    """
    Adds the controls of a diffusion model to the page: those that this model has.

    Args:
        loaded ([`DemoModel`]): The pipeline.
        examples (`list[str]`): Files of pictures to choose from, and prompts for a model that reads them.
    """
    gradio, pipeline, known = import_gradio(), loaded.model, loaded.measured_with()
    prompts = [example for example in examples if not os.path.isfile(example)]
    examples = [example for example in examples if example not in prompts]
    settings = Settings(pipeline, prompts, known.get("caption_template"))
    with gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            settings.add()
        with gradio.Column(scale=2, min_width=300):
            if isinstance(pipeline, SuperResolutionPipeline):
                enlarge_tab(settings, examples, known.get("super_resolution_factor"))
                return
            with gradio.Tab("Draw"):
                _draw(settings)
            if pipeline.config.latents_of is None:
                with gradio.Tab("Repaint"):
                    repaint_tab(settings, examples)
            with gradio.Tab("Change"):
                change_tab(settings, examples)


def denoising_strip(states: list[torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    """Moments from noise to a picture, `[at most 8, C, H, W]`; states that are wider than 1 are brought to it."""
    chosen = torch.linspace(0, len(states) - 1, min(STAGES, len(states))).round().long().tolist()[:-1]
    stages = [states[index] / states[index].std().clamp(min=1) for index in chosen]
    return torch.cat([*stages, picture[None]]).clamp(-1, 1)


def _draw(settings: Settings) -> None:
    gradio = import_gradio()
    names, shows_steps = settings.names, settings.pipeline.vae is None

    def draw(count, *values, progress=gradio.Progress()):  # noqa: B008
        read = settings.read(values)
        noise = torch.randn(settings.pipeline.latent_shape, generator=torch.Generator().manual_seed(read["seed"]))
        states = [noise[None]]
        pictures = settings.run(settings.drawing_pipeline, read, count, progress=progress, on_state=states.append)
        grid = in_rows(pictures, list(names.values()) if names and read["chosen"] == EACH_IN_TURN else [])
        strip = denoising_strip(states, pictures[0])
        return [grid, shown(strip, columns=len(strip))] if shows_steps else [grid]

    first = len(names) if 0 < len(names) <= 10 else 8
    count = gradio.Slider(1, MOST, first, step=1, label="Pictures")
    button = gradio.Button("Draw", variant="primary")
    outputs = [picture_box("Pictures")]
    outputs += [picture_box("How the first one came out of noise")] if shows_steps else []
    handle([button.click], draw, [count, *settings.boxes], outputs, api_name="draw", show_progress_on=outputs[0])
