"""The page of a VAE or VQ-VAE: sliders of latents, new pictures, the way between two, and what it makes of a picture."""

import math

import torch
from transformers import PreTrainedModel

from ..models.vae.priors_vae import PRIORS, fitted_prior
from .loading import DemoModel
from .page import check_seed, handle, import_gradio, offer_examples, picture_box, seed_box
from .pictures import generators, in_rows, read_picture, shown


SLIDERS = 8
PROBES, STEP = 32, 2.0
FIRST_COUNT, MOST = 16, 64


def draw_latents(model: PreTrainedModel, count: int, seed: int | None) -> torch.Tensor:
    """Latents `[count, latent_dim]` from the prior that was fitted on the model's own, else from N(0, 1)."""
    prior = fitted_prior(model.config)
    each = generators(count, check_seed(seed))
    with torch.no_grad():
        return torch.cat([PRIORS[prior](model, 1, generator, 1.0) for generator in each])


@torch.no_grad()
def telling_latents(model: PreTrainedModel, count: int = SLIDERS) -> list[int]:
    """
    The latents that change pictures most: by how much the decoded picture moves (mean squared difference of pixels)
    when one of them goes from 2 below to 2 above where it was, on average over drawn pictures. One that the model has
    given up changes nothing.

    Args:
        model ([`~hf_genkit.VAEModel`]): The model.
        count (`int`, *optional*, defaults to 8): How many; fewer if the model has fewer.

    Returns:
        `list[int]`: Indices, the most telling first.
    """
    base = draw_latents(model, PROBES, 0)
    effects = []
    for index in range(model.config.latent_dim):
        step = torch.zeros_like(base)
        step[:, index] = STEP
        effects.append((model.decode(base + step) - model.decode(base - step)).square().mean())
    return torch.stack(effects).argsort(descending=True, stable=True)[:count].tolist()


def vae_page(loaded: DemoModel, examples: list[str]) -> None:
    """
    Adds the controls of a VAE to the page; a VQ-VAE, which has no prior, gets those for given pictures alone.

    Args:
        loaded ([`DemoModel`]): The model.
        examples (`list[str]`): Files of pictures to choose from; a VAE offers drawn ones by default.
    """
    model, has_prior = loaded.model, loaded.model.config.model_type == "genkit_vae"
    if has_prior:
        _latents_tab(model)
        _samples_tab(model)
        examples = examples or [shown(model.decode(latents[None])) for latents in draw_latents(model, 6, 100)]
    _between_tab(model, has_prior, examples)
    _picture_tab(model, has_prior, examples)


def _latents_tab(model: PreTrainedModel) -> None:
    gradio, indices = import_gradio(), telling_latents(model)
    # As wide as what is drawn: a fitted prior need not be N(0, 1).
    reach = max(3, math.ceil(draw_latents(model, 256, 0)[:, indices].abs().max().item()))

    @torch.no_grad()
    def decode(seed, *values):
        latents = draw_latents(model, 1, seed)
        latents[0, indices] = torch.tensor(values, dtype=latents.dtype, device=latents.device)
        return shown(model.decode(latents))

    def draw(seed):
        values = draw_latents(model, 1, seed)[0, indices].clamp(-reach, reach).tolist()
        return [decode(seed, *values), *(round(value, 2) for value in values)]

    first, *values = draw(0)
    with gradio.Tab("Latents"), gradio.Row():
        with gradio.Column(min_width=300):
            seed = seed_box()
            button = gradio.Button("Draw", variant="primary")
            picture = picture_box("Picture", first)
        with gradio.Column(min_width=260):
            label = "Latent {} of {}"
            sliders = [
                gradio.Slider(-reach, reach, value, step=0.01, label=label.format(index + 1, model.config.latent_dim))
                for index, value in zip(indices, values, strict=True)
            ]
            gradio.Markdown("These latents change the picture most, the strongest first.")
    handle([button.click, seed.submit], draw, [seed], [picture, *sliders], api_name="draw")
    moves = [slider.input for slider in sliders]
    options = {"show_progress": "hidden", "trigger_mode": "always_last", "api_name": "decode"}
    handle(moves, decode, [seed, *sliders], [picture], **options)


def _samples_tab(model: PreTrainedModel) -> None:
    gradio = import_gradio()

    @torch.no_grad()
    def sample(seed, count):
        return in_rows(model.decode(draw_latents(model, count, seed)))

    with gradio.Tab("Samples"):
        with gradio.Row():
            settings = [seed_box(), gradio.Slider(1, MOST, FIRST_COUNT, step=1, label="Pictures", min_width=220)]
        button = gradio.Button("Draw", variant="primary")
        pictures = picture_box("Samples", sample(0, FIRST_COUNT))
    handle([button.click], sample, settings, [pictures], api_name="sample")


def _between_tab(model: PreTrainedModel, has_prior: bool, examples: list) -> None:
    gradio, config = import_gradio(), model.config
    size = (config.image_size, config.image_size)

    @torch.no_grad()
    def between_pictures(first, second, steps):
        named = (("first picture", first), ("second picture", second))
        ends = [read_picture(image, config.num_channels, size, name).to(model.device) for name, image in named]
        return shown(model.interpolate(*ends, steps=steps)[0], columns=steps)

    @torch.no_grad()
    def between_seeds(first, second, steps):
        ends = [draw_latents(model, 1, seed) for seed in (first, second)]
        way = torch.lerp(*ends, torch.linspace(0, 1, steps, device=model.device)[:, None])
        return shown(model.decode(way), columns=steps)

    with gradio.Tab("Between two"):
        steps = gradio.Slider(3, 12, 8, step=1, label="Pictures on the way")
        if has_prior:
            with gradio.Row():
                seeds = [seed_box("First seed"), seed_box("Second seed", 1)]
            by_seed = gradio.Button("Between two seeds", variant="primary")
        first_strip = between_seeds(0, 1, 8) if has_prior else None
        strip = picture_box("From the first to the second", first_strip, render=has_prior)
        with gradio.Row():
            pictures = [picture_box(f"{which} picture", upload=True) for which in ("First", "Second")]
        by_picture = gradio.Button("Between two pictures", variant="secondary" if has_prior else "primary")
        offer_examples(examples, *pictures)
        if not has_prior:  # there is nothing to show yet
            strip.render()
    if has_prior:
        handle([by_seed.click], between_seeds, [*seeds, steps], [strip], api_name="between_seeds")
    handle([by_picture.click], between_pictures, [*pictures, steps], [strip], api_name="between_pictures")


def _picture_tab(model: PreTrainedModel, has_prior: bool, examples: list) -> None:
    gradio, config = import_gradio(), model.config

    @torch.no_grad()
    def reconstruct(image):
        pixels = read_picture(image, config.num_channels, (config.image_size, config.image_size)).to(model.device)
        restored = model.reconstruct(pixels)
        both = shown(torch.cat([pixels, restored]), columns=2, titles=["as it is read", "as it is decoded"])
        error = (restored - pixels).square().mean().item()
        return both, _verdict(model, pixels) if has_prior else f"Mean squared error: **{error:.4f}**"

    with gradio.Tab("Your picture"), gradio.Row():
        with gradio.Column(min_width=260):
            picture = picture_box("Your picture", upload=True)
            button = gradio.Button("Reconstruct", variant="primary")
            offer_examples(examples, picture)
        with gradio.Column(min_width=300):
            outputs = [picture_box("Reconstruction"), gradio.Markdown()]
    handle([button.click], reconstruct, [picture], outputs, api_name="reconstruct")


def _verdict(model: PreTrainedModel, pixels: torch.Tensor) -> str:
    kind, threshold = model.config.anomaly_kind or "reconstruction", model.config.anomaly_threshold
    score = model.anomaly_score(pixels, kind).item()
    sentence = f"Anomaly score ({kind.replace('_', ' ')}): **{score:.4g}**"
    if threshold is None:
        return f"{sentence}. Higher is more unusual; the model has no threshold."
    return f"{sentence}, {'above' if score > threshold else 'not above'} the threshold of {threshold:.4g}: " + (
        "**an anomaly**." if score > threshold else "**normal**."
    )
