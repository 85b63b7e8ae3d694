"""Training of diffusion models: any network of diffusers, any of its schedulers, any condition."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SchedulerMixin
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from ..evaluation import PictureJudge
from ..losses.diffusion import diffusion_loss, edm_coefficients
from . import checkpointing
from .adapters import bare
from .base import EVALUATION, GenkitTrainer
from .denoiser import NETWORKS, Denoiser, num_classes
from .diffusion_checks import check_components, check_images, check_unused
from .diffusion_config import DiffusionConfig
from .diffusion_inputs import (
    decode_latents,
    encode_pictures,
    low_resolution,
    measure_scaling_factor,
    pixel_batches,
    set_scaling_factor,
)
from .diffusion_pictures import DiffusionPicturesMixin
from .noise import uniform_noise
from .noise_levels import NoiseLevels, make_noise_scheduler, prediction_of


WEIGHTS = "training_weights"
GOLDEN_RATIO = (5**0.5 - 1) / 2  # any number of its multiples is spread evenly over [0, 1)


class DiffusionTrainer(DiffusionPicturesMixin, GenkitTrainer):
    """
    Trains a diffusion model of diffusers: `UNet2DModel`, `UNet2DConditionModel` or `DiTTransformer2DModel`.

    What it learns follows from what it is given: classes, where the network has class embeddings (the last embedding of
    a UNet is the null class); captions, with a text encoder, which is trained along where its weights require
    gradients; latents, with a VAE; enlarging, with `super_resolution_factor`; an adapter alone, where the network is a
    `PeftModel`. Noise, timesteps and dropped conditions belong to the sample, so resuming, gradient accumulation and
    the number of processes don't change a run.

    Each checkpoint, and the output folder in the end, is a pipeline with the averaged weights that diffusers loads, and
    keeps the raw ones beside them. The log has `loss` and, where it is weighted, the plain `mse`; evaluation has both,
    of the averaged weights, at the same noise each time, and the judge's metrics of generated pictures.

    Args:
        model (`nn.Module`): The network.
        noise_scheduler (`SchedulerMixin`, *optional*):
            A scheduler of diffusers: how noise is added, and what the network predicts. Without it one is made as
            `args` say.
        args ([`DiffusionConfig`], *optional*): The arguments.
        vae (`AutoencoderKL` or [`~hf_genkit.VAEModel`], *optional*): Learn its latents. It is left as it is, but for
            `scaling_factor` in its config, which is measured on the training set unless `latent_scaling` is given.
        text_encoder (`PreTrainedModel`, *optional*): CLIP's, T5's or any model that gives `last_hidden_state`.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Its tokenizer. The data then hold `input_ids` and
            `attention_mask`.
        id2label (`dict[int, str]`, *optional*): Names of the classes, which the pipeline then takes, too.
        prompts (`list[str]`, *optional*): Captions to draw pictures for.
        judge ([`~hf_genkit.evaluation.PictureJudge`], *optional*): What judges generated pictures at evaluations.
        processing_class (`BaseImageProcessor`, *optional*):
            Turns the data's uint8 pixels into the model's range, see [`~hf_genkit.data.image_processor_for`].
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: The model or the arguments are of another kind, or the components don't match.

    Example:

    ```python
    >>> trainer = DiffusionTrainer(
    ...     model=UNet2DModel(sample_size=28, in_channels=1, out_channels=1, block_out_channels=(64, 128, 128), ...),
    ...     args=DiffusionConfig("ddpm", prediction_type="v", weighting="min_snr", max_steps=20_000),
    ...     train_dataset=train,
    ...     processing_class=image_processor_for(1, 28),
    ... )
    >>> trainer.train()
    >>> trainer.pipeline()(batch_size=4, num_inference_steps=50).images[0].save("picture.png")
    ```
    """

    _tag_names = ("hf_genkit", "diffusion")

    def __init__(
        self,
        model: nn.Module | None = None,
        noise_scheduler: SchedulerMixin | None = None,
        args: DiffusionConfig | None = None,
        *,
        vae: AutoencoderKL | PreTrainedModel | None = None,
        text_encoder: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        id2label: dict[int, str] | None = None,
        prompts: Sequence[str] = (),
        judge: PictureJudge | None = None,
        **kwargs,
    ):
        args = args or DiffusionConfig("diffusion_output")
        if not isinstance(args, DiffusionConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a DiffusionConfig.")
        if not isinstance(model, nn.Module) or not isinstance(bare(model), NETWORKS):
            names = ", ".join(network.__name__ for network in NETWORKS)
            raise ValueError(f"`model` is a {type(model).__name__}, but it must be one of {names}.")
        if noise_scheduler is None:
            noise_scheduler = make_noise_scheduler(
                args.prediction_type or "epsilon",
                args.noise_schedule,
                num_train_timesteps=args.num_train_timesteps,
                zero_terminal_snr=args.zero_terminal_snr,
                clip_sample=vae is None,
                sigma_data=args.sigma_data,
                flow_shift=args.flow_shift,
            )
        else:
            check_unused(args)
            if vae is not None and noise_scheduler.config.get("clip_sample"):  # latents are no pixels in [-1, 1]
                noise_scheduler = type(noise_scheduler).from_config(noise_scheduler.config, clip_sample=False)
        self.noise_scheduler = noise_scheduler
        self.prediction_type = prediction_of(noise_scheduler)
        self.levels = NoiseLevels(noise_scheduler, args.timestep_density, edm_mean=args.edm_mean, edm_std=args.edm_std)
        self.vae, self.tokenizer, self.id2label = vae, tokenizer, id2label or {}
        self.prompts = list(prompts)
        check_components(self, model, args, text_encoder)
        args.remove_unused_columns = False
        args.label_names = []
        if args.activation_checkpointing:  # which is the network's own affair
            bare(model).enable_gradient_checkpointing()
            args.activation_checkpointing = False
        super().__init__(Denoiser(model, text_encoder, args.ema_decay > 0), args, **kwargs)
        if self._has_sharded_state:
            raise ValueError(
                "A DiffusionTrainer runs on one process or under DDP, but FSDP or DeepSpeed is asked for."
            )
        if args.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.classes = num_classes(model)
        if vae is not None:
            self._prepare_vae()
        if tokenizer is not None:
            empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
            self._empty = {name: empty[name] for name in ("input_ids", "attention_mask")}
        self._live_pipeline().set_timesteps(args.num_inference_steps)  # refuses what can't draw
        self.judge = judge
        self.add_callback(AverageWeights(self))

    def check_before_training(self) -> None:
        check_images(self)

    def run_identity(self) -> dict:
        identity = super().run_identity()
        parts = {"scheduler": self.noise_scheduler, "vae": self.vae}
        for name, part in parts.items():
            if part is not None:
                config = part.config.to_dict() if isinstance(part, PreTrainedModel) else part.config
                plain = {key: value for key, value in config.items() if not key.startswith(("_", "transformers_"))}
                plain = {"class": type(part).__name__, **plain}
                identity["model"] |= {f"{name}.{key}": value for key, value in plain.items()}
        if self.is_adapter:
            config = self.model.raw["unet"].peft_config["default"].to_dict()
            config["target_modules"] = sorted(config["target_modules"])
            names = ("r", "lora_alpha", "target_modules", "base_model_name_or_path", "revision")
            identity["model"] |= {f"adapter.{name}": config[name] for name in names}
        return json.loads(json.dumps(identity, sort_keys=True, default=str))

    # ---- The loss ----

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(len(inputs["pixel_values"]))}

    def uniform_times(self, count: int, device: torch.device) -> torch.Tensor:
        """One number in [0, 1) for each sample of the micro-batch, which decides its noise level: of shape `[count]`."""
        if not self.args.stratified_timesteps:
            return self.noise.uniform("timesteps", count, (), device)
        origin = torch.zeros(1, dtype=torch.int64, device=device)
        offset = uniform_noise(self.args.seed, self.noise.step, origin, "timesteps", ())
        positions = self.noise.positions(count, device).double()
        if self.noise.step == EVALUATION:  # whose batches needn't be those of training
            return ((offset + positions * GOLDEN_RATIO) % 1.0).float()
        total = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return ((offset + positions / total) % 1.0).float()

    def conditions(self, inputs: Mapping[str, torch.Tensor], count: int, dropout: float) -> dict[str, torch.Tensor]:
        """The batch's labels and captions as the model takes them, some of them left out."""
        device = self.args.device
        dropped = self.noise.uniform("conditions", count, (), device) < dropout
        found = {}
        if self.classes:
            labels = inputs["labels"]
            found["class_labels"] = torch.where(dropped | (labels < 0), self.model.null_class, labels)
        if self.tokenizer is not None:
            for name, empty in self._empty.items():
                found[name] = torch.where(dropped[:, None], empty.to(device), inputs[name])
        return found

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        pixels = self.pixel_values(inputs)
        clean = self.encode(pixels)
        noise = self.noise.normal("noise", len(clean), clean.shape[1:], clean.device)
        alpha, sigma, timesteps = self.levels(self.uniform_times(len(clean), clean.device))
        noisy = alpha * clean + sigma * noise
        if self.prediction_type == "edm":
            noisy = noisy * edm_coefficients(sigma, self.sigma_data)[2]
        if self.args.super_resolution_factor > 1:
            noisy = torch.cat([noisy, low_resolution(pixels, self.args.super_resolution_factor)], dim=1)
        if self.args.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        dropout = self.args.condition_dropout if model.training else 0.0
        output = model(noisy, timesteps, **self.conditions(inputs, len(clean), dropout))
        loss, plain = diffusion_loss(
            output,
            clean,
            noise,
            alpha,
            sigma,
            prediction_type=self.prediction_type,
            weighting=self.args.weighting,
            gamma=self.args.snr_gamma,
            sigma_data=self.sigma_data,
        )
        count = num_items_in_batch["loss"] if num_items_in_batch else len(clean)
        if not model.training:
            ones = torch.ones_like(loss)
            self.record_evaluation({"weighted_loss": (loss, ones), "mse": (plain, ones)})
        elif self.args.weighting != "none":
            self.record({"mse": plain.sum() / count})
        loss = loss.sum() / count
        return (loss, {"sample": output}) if return_outputs else loss

    def compute_loss_context_manager(self):
        context = ExitStack()
        context.enter_context(super().compute_loss_context_manager())
        if self.args.bf16 and self.args.device.type == "cpu":
            # Attention's own kernel for the CPU takes several times longer backwards in bfloat16 than in float32.
            context.enter_context(sdpa_kernel(SDPBackend.MATH))
        return context

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        return means.pop("weighted_loss")

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the data that EDM's preconditioning goes by."""
        return self.noise_scheduler.config.get("sigma_data", self.args.sigma_data)

    @property
    def ema_decay(self) -> float:
        """The decay of the moving average after the optimizer steps so far."""
        return min(self.args.ema_decay, 1 - (self.state.global_step + 1) ** -self.args.ema_power)

    # ---- Latents ----

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the network works on: pictures `[N, C, H, W]` in [-1, 1], or their scaled latents."""
        return pixels if self.vae is None else encode_pictures(self.vae, pixels, self._latent_shape)

    def decode(self, clean: torch.Tensor) -> torch.Tensor:
        """Pictures in [-1, 1] of what the network works on."""
        return clean if self.vae is None else decode_latents(self.vae, clean)

    @property
    def _latent_shape(self) -> tuple[int, int]:
        config = bare(self.model.raw["unet"]).config
        return config.in_channels, config.sample_size

    def _prepare_vae(self) -> None:
        self.vae.requires_grad_(False).eval().to(self.args.device)
        factor = self.args.latent_scaling
        if factor is None:
            batches = (
                self.pixel_values(self._prepare_inputs({"pixel_values": pixels}))
                for pixels in pixel_batches(self.train_dataset)
            )
            factor = measure_scaling_factor(self.vae, batches, self._latent_shape)
        set_scaling_factor(self.vae, factor)

    # ---- Checkpoints ----

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_published(folder)
        checkpointing.save_state(folder, WEIGHTS, self.training_state())

    def load_weights(self, checkpoint: str) -> None:
        self.load_training_state(checkpointing.load_state(checkpoint, WEIGHTS))

    def training_state(self) -> dict:
        """What a checkpoint holds beside the pipeline, the optimizer and the schedule."""
        return self.accelerator.unwrap_model(self.model).trained_state()

    def load_training_state(self, state: dict) -> None:
        """Takes back what [`~DiffusionTrainer.training_state`] gave."""
        self.model.load_trained_state(state)


class AverageWeights(TrainerCallback):
    """Moves the averages on after each optimizer step, before an evaluation or a checkpoint sees them."""

    def __init__(self, trainer: DiffusionTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.model.update_ema(self.trainer.ema_decay)
