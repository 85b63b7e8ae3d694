"""What a diffusion trainer draws and publishes: its pipeline, grids, strips of noising and denoising, the card."""

import copy
import json
import time
from collections.abc import Callable, Sized
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    LCMScheduler,
    UNet2DModel,
)
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ..hub import CardFacts, hub_id
from ..pipelines import (
    ClassConditionalPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
    make_sampler,
)
from .adapters import bare, is_adapter
from .diffusion_checks import default_sampler
from .diffusion_inputs import enlarge, reduce
from .noise import normal_noise, random_words
from .pictures import GENERATION_BATCH, PICTURES, PicturesMixin


STAGES = 8
STRIPS = 4
STOCK_SCHEDULERS = (
    DDPMScheduler,
    DDIMScheduler,
    LCMScheduler,
)  # with others `DDPMPipeline` would take other timesteps than these


class DiffusionPicturesMixin(PicturesMixin):
    """The pictures, the pipeline and the card of [`DiffusionTrainer`]; expects to stand before it among the bases."""

    drawing_seconds: float | None = None  # a picture of the last sample grid
    pipeline_defaults: dict | None = None  # settings of a call that leaves them out, see `ImageDiffusionPipeline`

    # ---- The pipeline ----

    @property
    def task(self) -> str:
        if self.args.super_resolution_factor > 1:
            return "image-to-image"
        return "unconditional-image-generation" if self.tokenizer is None else "text-to-image"

    @property
    def is_adapter(self) -> bool:
        """Whether an adapter of peft is trained, which alone is saved then."""
        return is_adapter(self.model.raw["unet"])

    @property
    def is_stock(self) -> bool:
        """Whether diffusers' own `DDPMPipeline` draws what the model has learned."""
        unet = bare(self.model.raw["unet"])
        plain = isinstance(unet, UNet2DModel) and unet.config.num_class_embeds is None and self.vae is None
        return plain and self.args.super_resolution_factor == 1 and isinstance(self.sampler(), STOCK_SCHEDULERS)

    def sampler(self):
        """A scheduler of diffusers that draws, see `sampler` of [`DiffusionConfig`]."""
        return make_sampler(self.noise_scheduler, self.args.sampler or default_sampler(self.prediction_type))

    def _live_pipeline(self, *, raw: bool = False) -> DiffusionPipeline:
        """The pipeline over the very modules that are trained."""
        if self.args.super_resolution_factor > 1:
            pipeline_class = SuperResolutionPipeline
        elif self.tokenizer is not None:
            pipeline_class = TextToImagePipeline
        else:
            pipeline_class = ClassConditionalPipeline if self.classes else UnconditionalPipeline
        model = self.accelerator.unwrap_model(self.model)
        parts = dict((model.raw if raw else model.averaged).items())
        pipeline = pipeline_class(
            unet=bare(parts["unet"]),
            scheduler=self.sampler(),
            vae=self.vae,
            text_encoder=parts.get("text_encoder"),
            tokenizer=self.tokenizer,
            id2label=self.id2label or None,
            defaults=self.pipeline_defaults,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline(self, *, raw: bool = False) -> DiffusionPipeline:
        """
        The trained pipeline, a copy that further training leaves alone.

        Args:
            raw (`bool`, *optional*, defaults to `False`): With the weights of the last step, not their moving average.

        Returns:
            `DiffusionPipeline`: diffusers' `DDPMPipeline` where that can draw what was learned, else one of
            `hf_genkit.pipelines`; an adapter is merged into its base.
        """
        live = self._live_pipeline(raw=raw)
        parts = {name: copy.deepcopy(part) for name, part in live.components.items()}
        if self.is_adapter:
            parts["unet"] = copy.deepcopy(self._network(raw)).merge_and_unload()
        parts["unet"].requires_grad_(False).eval().to(memory_format=torch.contiguous_format)
        if self.is_stock:
            return DDPMPipeline(parts["unet"], parts["scheduler"])
        return type(live)(**parts, id2label=self.id2label or None, defaults=self.pipeline_defaults)

    def _network(self, raw: bool = False):
        model = self.accelerator.unwrap_model(self.model)
        return (model.raw if raw else model.averaged)["unet"]

    def save_published(self, folder: Path) -> None:
        """Writes what is shared: the pipeline with the averaged weights, or the averaged adapter with its base's name."""
        if not self.is_adapter:
            self.pipeline().save_pretrained(folder)
            return
        from peft import get_peft_model_state_dict

        adapter = self._network()
        state = get_peft_model_state_dict(adapter, save_embedding_layers=False)
        save_file({name: value.contiguous() for name, value in state.items()}, folder / "adapter_model.safetensors")
        adapter.peft_config["default"].save_pretrained(folder)

    # ---- Pictures ----

    def generate_pictures(self, step: int, positions: torch.Tensor) -> torch.Tensor:
        return self._draw(step, positions)

    def _draw(self, step: int, positions: torch.Tensor, on_step: Callable | None = None) -> torch.Tensor:
        """Pictures in [-1, 1]; `on_step` gets the state after each step, `[N, C, H, W]`."""
        pipeline = self._live_pipeline()
        seeds = random_words(self.args.seed, step, positions, "pictures", 1).flatten()
        options = {
            "seed": [seed & (2**63 - 1) for seed in seeds.tolist()],
            "num_inference_steps": self.args.num_inference_steps,
            "output_type": "pt",
        }
        if on_step is not None:
            options["callback_on_step_end"] = lambda pipeline, index, t, state: on_step(state["latents"])
        indices = positions.tolist()
        guidance = {"guidance_scale": self.args.guidance_scale}
        with self.compute_loss_context_manager():
            if self.args.super_resolution_factor > 1:
                small = reduce(self._reference_pictures(indices), self.args.super_resolution_factor)
                drawn = pipeline(small, **options).images
            elif self.tokenizer is not None:
                prompts = self.prompts or [""]
                prompts = [prompts[index % len(prompts)] for index in indices]
                drawn = pipeline(prompts, **options, **guidance).images
            elif self.classes:
                drawn = pipeline([index % self.classes for index in indices], **options, **guidance).images
            else:
                drawn = pipeline(len(indices), **options).images
        return drawn.float() * 2 - 1

    def _reference_pictures(self, indices: list[int]) -> torch.Tensor:
        """Real pictures in [-1, 1]: of the evaluation set, if there is one, else of the training set."""
        evaluation = self.eval_dataset
        evaluation = next(iter(evaluation.values())) if isinstance(evaluation, dict) else evaluation
        dataset = self.train_dataset if evaluation is None else evaluation
        if not isinstance(dataset, Sized):
            dataset = list(islice(iter(dataset), max(indices) + 1))
        rows = [torch.as_tensor(dataset[index % len(dataset)]["pixel_values"]) for index in indices]
        return self.pixel_values(self._prepare_inputs({"pixel_values": torch.stack(rows)}))

    def picture_rows(self, count: int) -> dict[str, torch.Tensor]:
        side = max(2, round(count**0.5))
        rows, columns = side, side
        kinds = min(self.classes or len(self.prompts), 10)
        if self.args.super_resolution_factor > 1:
            rows, columns = 1, max(2, count // 4)
        elif kinds:
            rows, columns = max(1, count // kinds), kinds
        rows = min(rows, GENERATION_BATCH // columns)
        positions = torch.arange(rows * columns, device=self.args.device)
        start = time.perf_counter()
        drawn = self._draw(PICTURES, positions)
        self.drawing_seconds = (time.perf_counter() - start) / len(positions)
        grids = {}
        if self.args.super_resolution_factor > 1:
            real = self._reference_pictures(positions.tolist())
            small = reduce(real, self.args.super_resolution_factor)
            nearest = torch.nn.functional.interpolate(small, size=real.shape[-2:])
            grids["super_resolution"] = torch.stack([nearest, enlarge(small, real.shape[-2:]), drawn, real])
        else:
            grids["samples"] = drawn.unflatten(0, (rows, columns))
        return grids | {"noising": self._noising(), "denoising": self._denoising()}

    def _noising(self) -> torch.Tensor:
        """Real pictures at eight levels, from none to all noise: `[4, 8, C, H, W]`."""
        positions = torch.arange(STRIPS, device=self.args.device)
        clean = self.encode(self._reference_pictures(positions.tolist()))
        noise = normal_noise(self.args.seed, PICTURES, positions, "noising", clean.shape[1:])
        uniform = torch.linspace(0, 1, STAGES, device=clean.device)
        alpha, sigma, _ = self.levels(uniform)
        stages = [(a * clean + s * noise) / torch.hypot(a, s) for a, s in zip(alpha, sigma, strict=True)]
        return torch.stack([self.decode(stage).clamp(-1, 1) for stage in stages], dim=1)

    def _denoising(self) -> torch.Tensor:
        """Eight moments of drawing pictures, from noise to the picture: `[4, 8, C, H, W]`."""
        states: list[torch.Tensor] = []
        positions = torch.arange(STRIPS, device=self.args.device)
        drawn = self._draw(PICTURES, positions, states.append)
        chosen = torch.linspace(0, len(states) - 1, STAGES).round().long().tolist()[:-1]
        spread = [states[index].flatten(1).std(dim=1).clamp(min=1).view(-1, 1, 1, 1) for index in chosen]
        stages = [self.decode(states[index] / wide) for index, wide in zip(chosen, spread, strict=True)]
        return torch.stack([*(stage.clamp(-1, 1) for stage in stages), drawn], dim=1)

    @torch.no_grad()
    def super_resolution_psnr(self, count: int) -> dict[str, float]:
        """
        How close enlarged pictures come to real ones.

        Args:
            count (`int`): How many pictures of the evaluation set.

        Returns:
            `dict[str, float]`: `psnr` of the model and `psnr_bicubic` of bicubic enlargement, in decibels, means over the
            pictures.
        """
        self.model.eval()
        positions = torch.arange(count, device=self.args.device)
        real = self._reference_pictures(positions.tolist())
        plain = enlarge(reduce(real, self.args.super_resolution_factor), real.shape[-2:])
        drawn = torch.cat([self._draw(PICTURES, part) for part in positions.split(GENERATION_BATCH)])

        def psnr(pictures: torch.Tensor) -> float:
            error = (pictures - real).square().flatten(1).mean(1).clamp(min=1e-10)
            return (10 * torch.log10(4 / error)).mean().item()

        return {"psnr": psnr(drawn), "psnr_bicubic": psnr(plain)}

    # ---- The card ----

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        facts.library_name = "diffusers"
        facts.versions["diffusers"] = version("diffusers")
        facts.custom_code = not self.is_stock
        if isinstance(self.vae, PreTrainedModel):  # which diffusers can't load from the Hub
            facts.custom_code = False
            facts.pipeline_class = f"hf_genkit.pipelines.{type(self._live_pipeline()).__name__}"
        if self.is_adapter:
            facts.tags = [*facts.tags, "lora"]
            base = self._network().peft_config["default"].base_model_name_or_path or ""
            facts.base_model, facts.adapter_base = hub_id(base), hub_id(base) or Path(base).name
        config = bare(self.model.raw["unet"]).config
        facts.image_mode = "L" if (config.out_channels or config.in_channels) == 1 and self.vae is None else "RGB"
        if self.args.super_resolution_factor > 1:
            facts.image_size = (config.sample_size // self.args.super_resolution_factor,) * 2
        facts.labels = facts.labels or list(self.id2label.values())
        facts.sample_call = facts.sample_call or self._sample_call()
        facts.method = facts.method or self.method_sentence
        return facts

    def _sample_call(self) -> str:
        """The arguments of the usage snippet's call."""
        steps = f"num_inference_steps={self.args.num_inference_steps}"
        if self.is_stock:
            return f"batch_size=4, {steps}, generator=torch.manual_seed(0)"
        condition = "num_images=4"
        guidance = f", guidance_scale={self.args.guidance_scale:g}"
        if self.args.super_resolution_factor > 1:
            condition, guidance = "image", ""
        elif self.tokenizer is not None:
            condition = json.dumps(self.prompts[:1] or [""], ensure_ascii=False)
        elif self.classes:
            condition = json.dumps([self.id2label.get(index, index) for index in (0, 1)], ensure_ascii=False)
        else:
            guidance = ""
        return f"{condition}{guidance}, {steps}, seed=0"

    @property
    def method_sentence(self) -> str:
        """What was learned and how pictures are drawn, in a few sentences."""
        schedules = {
            "vp": f"over {self.levels.num_timesteps} noise levels",
            "flow": "along straight lines from noise to pictures",
            "edm": f"with EDM's preconditioning for data of standard deviation {self.sigma_data:g}",
        }
        sentences = [f"The network predicts '{self.prediction_type}' {schedules[self.levels.kind]}."]
        if self.levels.kind == "vp":
            config = self.noise_scheduler.config
            end = self.noise_scheduler.alphas_cumprod[-1].item()
            sentences.append(
                f"The schedule is '{config.beta_schedule}', with a signal-to-noise ratio of {end / (1 - end):.2g} at its end."
            )
        if self.args.weighting != "none":
            sentences.append(f"Noise levels are weighted by {self.args.weighting} with gamma {self.args.snr_gamma:g}.")
        if self.vae is not None:
            sentences.append(f"It works on a VAE's latents, scaled by {self.vae.config.scaling_factor:.4g}.")
        if self.args.super_resolution_factor > 1:
            sentences.append(f"It enlarges pictures {self.args.super_resolution_factor} times.")
        if self.model.ema is not None:
            sentences.append(f"The weights are a moving average (decay {self.args.ema_decay:g} at full length).")
        sampler = self.args.sampler or default_sampler(self.prediction_type)
        cost = (
            ""
            if self.drawing_seconds is None
            else f", {self.drawing_seconds:.2g} seconds a picture where it was trained"
        )
        calls = self.args.num_inference_steps * (2 if self._is_guided else 1)
        sentences.append(
            f"Pictures are drawn by '{sampler}' in {self.args.num_inference_steps} steps ({calls} network calls{cost})."
        )
        return " ".join(sentences)

    @property
    def _is_guided(self) -> bool:
        return self.args.guidance_scale != 1 and bool(self.classes or self.tokenizer)
