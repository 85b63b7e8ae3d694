"""Any model that makes pictures, as a function from noise to pictures: what comparisons draw, time and walk through."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import diffusers
import torch
from torch import nn

from ..evaluation.drawing import load_generative_model
from ..models.gan.generation_gan import slerp
from ..models.vae.priors_vae import PRIORS, fitted_prior
from ..pipelines import ClassConditionalPipeline, UnconditionalPipeline, make_sampler


class Painter:
    """
    What a comparison asks of a model that makes pictures.

    Args:
        name (`str`): What it is called.
        model: The model.

    Attributes:
        family (`str`): "VAE", "GAN" or "diffusion".
        shape (`tuple[int, int, int]`): Channels, height and width of its pictures.
        classes (`int`): How many classes it draws by; pictures take turns. 0 for none.
        network (`nn.Module`): What sampling needs.
    """

    family: str
    classes = 0

    def __init__(self, name: str, model):
        self.name, self.model = name, model

    @property
    def device(self) -> torch.device:
        """Where it draws."""
        return next(self.network.parameters()).device

    def noise(self, count: int, seed: int) -> torch.Tensor:
        """What `count` pictures are drawn from."""
        raise NotImplementedError

    def paint(self, noise: torch.Tensor, labels: torch.Tensor | None = None, steps: int = 1) -> torch.Tensor:
        """Pictures in [-1, 1], `[N, C, H, W]`; `steps` is read by diffusion models alone."""
        raise NotImplementedError

    def between(self, a: torch.Tensor, b: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Noise on the way from `a` to `b`, both `[N, ...]`: `[N, len(weights), ...]`."""
        path = slerp(a.flatten(1)[:, None], b.flatten(1)[:, None], weights.to(a.device)[None, :, None])
        return path.unflatten(2, a.shape[1:])

    def labels(self, positions: torch.Tensor) -> torch.Tensor | None:
        """The classes of pictures, which take turns."""
        return (positions % self.classes).to(self.device) if self.classes else None


class VAEPainter(Painter):
    """The decoder of a VAE, with latents from the prior that was fitted on it, or the normal one."""

    family = "VAE"

    def __init__(self, name: str, model):
        super().__init__(name, model)
        config = model.config
        self.prior = fitted_prior(config)
        self.shape = (config.num_channels, config.image_size, config.image_size)
        self.network = model.decoder

    def noise(self, count: int, seed: int) -> torch.Tensor:
        return PRIORS[self.prior](self.model, count, torch.Generator().manual_seed(seed), 1.0)

    def paint(self, noise: torch.Tensor, labels: torch.Tensor | None = None, steps: int = 1) -> torch.Tensor:
        return self.model.decode(noise)

    def between(self, a: torch.Tensor, b: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.lerp(a[:, None], b[:, None], weights.to(a.device)[None, :, None])


class GANPainter(Painter):
    """The generator of a GAN, of its moving average where there is one."""

    family = "GAN"

    def __init__(self, name: str, model):
        super().__init__(name, model)
        config = model.config
        self.shape = (config.num_channels, config.image_size, config.image_size)
        self.network, self.classes = model.generator, config.num_labels

    def noise(self, count: int, seed: int) -> torch.Tensor:
        return torch.randn(count, self.model.config.latent_dim, generator=torch.Generator().manual_seed(seed)).to(
            self.device
        )

    def paint(self, noise: torch.Tensor, labels: torch.Tensor | None = None, steps: int = 1) -> torch.Tensor:
        return self.model.generate(latents=noise, labels=labels, batch_size=max(1, len(noise)))


class DiffusionPainter(Painter):
    """A diffusion or flow model without guidance, by DDIM or Euler: the picture follows from the first noise alone."""

    family = "diffusion"

    def __init__(self, name: str, pipeline: UnconditionalPipeline | ClassConditionalPipeline):
        super().__init__(name, pipeline)
        if isinstance(pipeline.scheduler, diffusers.DDPMScheduler):
            pipeline.scheduler = make_sampler(pipeline.scheduler, "ddim")
        pipeline.set_progress_bar_config(disable=True)
        self.shape, self.network = tuple(pipeline.image_shape), pipeline.unet
        self.classes = pipeline.num_classes if isinstance(pipeline, ClassConditionalPipeline) else 0

    def noise(self, count: int, seed: int) -> torch.Tensor:
        shape = (count, *self.model.latent_shape)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    def paint(
        self, noise: torch.Tensor, labels: torch.Tensor | None = None, steps: int = 1, on_step: Callable | None = None
    ) -> torch.Tensor:
        pipeline = self.model
        last = pipeline.set_timesteps(steps)
        condition = pipeline._condition(len(noise), None if labels is None else labels.tolist(), None, 1.0)
        network = partial(pipeline._predict, scale=1.0, condition=condition)
        report = on_step or (lambda *_: None)
        noisy = isinstance(pipeline.scheduler, diffusers.LCMScheduler)  # it adds noise at each step: always the same
        options = {"generator": torch.Generator().manual_seed(0)} if noisy else {}
        return pipeline._draw(lambda: noise, network, range(last + 1), options, None, None, None, report).clamp(-1, 1)

    @torch.no_grad()
    def moments(self, noise: torch.Tensor, labels: torch.Tensor | None, steps: int, count: int = 8) -> torch.Tensor:
        """`count` moments of drawing, from the first noise to the picture: `[N, count, C, H, W]`."""
        states = [noise]
        drawn = self.paint(noise, labels, steps, lambda index, time, state: states.append(state))
        chosen = torch.linspace(0, len(states) - 1, count).round().long().tolist()[:-1]
        spread = [states[index].flatten(1).std(dim=1).clamp(min=1).view(-1, 1, 1, 1) for index in chosen]
        shown = [states[index] / wide for index, wide in zip(chosen, spread, strict=True)]
        decode = self.model._decode if self.model.vae is not None else nn.Identity()
        return torch.stack([*(decode(state).clamp(-1, 1) for state in shown), drawn], dim=1)


def load_painter(name: str, device: torch.device | str, title: str | None = None) -> Painter:
    """
    Loads a model that makes pictures.

    Args:
        name (`str`): Hub id or local folder of a VAE, a GAN or a diffusion pipeline.
        device (`torch.device` or `str`): Where it shall draw.
        title (`str`, *optional*): What it is called; defaults to the last part of the name.

    Raises:
        `ValueError`: There is none, or it draws from captions or from other pictures.
    """
    model = load_generative_model(name)
    title = title or Path(name).name
    if isinstance(model, UnconditionalPipeline | ClassConditionalPipeline):
        return DiffusionPainter(title, model.to(device))
    if isinstance(model, diffusers.DiffusionPipeline):
        raise ValueError(
            f"'{name}' is a {type(model).__name__}, but models are compared that draw from noise alone or by class."
        )
    kind = VAEPainter if model.config.model_type == "genkit_vae" else GANPainter
    return kind(title, model.eval().to(device))


def check_alike(painters: list[Painter], shape: tuple[int, ...]) -> None:
    """
    Raises:
        `ValueError`: A model draws pictures of another size or number of channels than the real ones.
    """
    for painter in painters:
        if painter.shape != tuple(shape):
            (channels, height, width), (theirs, side, _) = painter.shape, shape
            raise ValueError(
                f"'{painter.name}' draws pictures of {channels} channels and {height} x {width} pixels, but the real "
                f"ones have {theirs} and {side} x {side}: only models of one size can be compared (`image_size` "
                "resizes the real ones)."
            )
