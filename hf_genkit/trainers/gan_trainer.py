"""Training of generative adversarial networks: one optimizer, two groups of parameters, one phase per step."""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import Trainer
from transformers.utils import logging

from ..data import ArrayImageDataset, ada_update
from ..evaluation import PictureJudge, StabilityVerdict, analyze_gan_stability
from ..hub import CardFacts
from ..losses.gan import GAN_LOSSES
from ..losses.gan_regularizers import gradient_penalty, r1_penalty, r2_penalty
from ..models.gan import GANModel
from .base import GenkitTrainer
from .gan_config import GANTrainingConfig
from .gan_monitor import GANMonitor
from .noise import normal_noise
from .pictures import PICTURES, PicturesMixin


logger = logging.get_logger(__name__)


class GANTrainer(PicturesMixin, GenkitTrainer):
    """
    Trains a [`~hf_genkit.GANModel`] on images, with labels if the model has classes.

    Each optimizer step is one phase: of `n_critic + 1` steps the first `n_critic` train the discriminator and the last
    one trains the generator, each on a fresh batch. The other network's parameters get no gradient, and optimizers skip
    those, so checkpoints, schedulers, resuming and accumulation are Trainer's own. Latents, augmentation and mixing
    weights belong to the sample: a run doesn't depend on accumulation or the number of processes, except through batch
    norm and spectral norm, whose state changes with each forward pass.

    The log has `generator_loss`, `discriminator_loss` (the mean of the real and the fake term: ln 2 where the standard
    loss is in balance), `penalty`, `logit_gap`, `pair_accuracy`, `real_accuracy` and `fake_accuracy` (where the loss has
    a boundary between real and generated), both gradient norms and their ratio, `oscillation`, `sample_diversity`,
    `spectral_norm`, and with ADA its `augmentation_probability`: what [`~hf_genkit.analyze_gan_stability`] reads.

    Args:
        model ([`~hf_genkit.GANModel`]): Generator, discriminator and the generator's moving average.
        args ([`GANTrainingConfig`], *optional*): The arguments.
        judge ([`~hf_genkit.evaluation.PictureJudge`], *optional*): What judges generated pictures at evaluations.
        processing_class (`BaseImageProcessor`, *optional*):
            Turns the data's uint8 pixels into the model's range, see [`~hf_genkit.data.image_processor_for`].
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: The model or the arguments are of another kind, a gradient penalty meets batch norm in the
            discriminator, or weight clipping its spectral norm, or one process drives several GPUs.

    Example:

    ```python
    >>> trainer = GANTrainer(
    ...     model=GANModel(GANConfig(image_size=28, num_channels=1)),
    ...     args=GANTrainingConfig("gan", loss_type="relativistic", r1_gamma=1.0, r2_gamma=1.0, max_steps=20_000),
    ...     train_dataset=train,
    ...     processing_class=image_processor_for(1, 28),
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "gan")

    def __init__(
        self,
        model: GANModel | None = None,
        args: GANTrainingConfig | None = None,
        *,
        judge: PictureJudge | None = None,
        **kwargs,
    ):
        args = args or GANTrainingConfig("gan_output")
        if not isinstance(args, GANTrainingConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a GANTrainingConfig.")
        if not isinstance(model, GANModel):
            raise ValueError(f"`model` is a {type(model).__name__}, but it must be a GANModel.")
        if args.n_gpu > 1:
            raise ValueError(f"One process drives {args.n_gpu} GPUs: start one for each with `accelerate launch`.")
        args.remove_unused_columns = False
        args.label_names = []
        super().__init__(model, args, **kwargs)
        self.judge = judge
        self.adversarial = GAN_LOSSES[args.loss_type]
        self.augmentation = args.make_augmentation()
        paper, given = self.adversarial, args
        self.gradient_penalty = paper.gradient_penalty if given.gradient_penalty is None else given.gradient_penalty
        self.weight_clip = paper.weight_clip if given.weight_clip is None else given.weight_clip
        self.has_penalty = max(args.r1_gamma, args.r2_gamma, self.gradient_penalty) > 0
        if self.has_penalty and model.config.discriminator_norm == "batch":
            raise ValueError(
                "`discriminator_norm` is 'batch', but a gradient penalty needs samples that don't depend on each "
                "other: use 'none' or 'spectral'."
            )
        if self.weight_clip and model.config.discriminator_norm == "spectral":
            raise ValueError(
                f"`weight_clip` is {self.weight_clip}, but it has no hold on weights that spectral norm rescales: use the "
                "discriminator_norm 'none', or another loss."
            )
        self._real_signs: list[torch.Tensor] = []
        self.monitor = GANMonitor(self)
        self.add_callback(self.monitor)

    def check_before_training(self) -> None:
        if self.args.max_steps > 0:
            self.check_cycle(self.args.max_steps)
        classes = self.model.config.num_labels
        for role, dataset in (("training", self.train_dataset), ("evaluation", self.eval_dataset)):
            if classes and isinstance(dataset, ArrayImageDataset):
                low, high = int(dataset.labels.min()), int(dataset.labels.max())
                if low < 0 or high >= classes:
                    found = "some images have no label" if low < 0 else f"there is a label {high}"
                    raise ValueError(f"The model takes the labels 0 to {classes - 1}, but {found} in the {role} data.")
        self.model.generator.requires_grad_(True)
        self.model.discriminator.requires_grad_(True)

    def check_cycle(self, steps: int) -> None:
        """
        Raises:
            `ValueError`: So many steps are too few for each network to be trained once.
        """
        cycle = self.args.n_critic + 1
        if steps < cycle:
            raise ValueError(
                f"The run takes {steps} steps, but one cycle of {self.args.n_critic} discriminator steps and a generator "
                f"step takes {cycle}."
            )

    # ---- Phases ----

    @property
    def phase(self) -> str:
        """Whose optimizer step it is: "discriminator" or "generator"."""
        period = self.args.n_critic + 1
        return "generator" if self.state.global_step % period == self.args.n_critic else "discriminator"

    @property
    def penalty_scale(self) -> float:
        """How much the penalties of the current step count: 0 between two of their steps."""
        cycle, step = divmod(self.state.global_step, self.args.n_critic + 1)
        interval = self.args.penalty_interval
        due = self.has_penalty and (cycle * self.args.n_critic + step) % interval == 0
        return float(interval) if due else 0.0

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(self.args, self.model)
            rate, critic_rate = self.args.learning_rate, self.args.discriminator_learning_rate
            critic_rate = rate if critic_rate is None else critic_rate
            generator = {"params": list(self.model.generator.parameters()), "lr": rate}
            critic = {"params": list(self.model.discriminator.parameters()), "lr": critic_rate}
            if self.has_penalty and self.args.penalty_interval > 1 and "betas" in options:
                share = self.args.penalty_interval / (self.args.penalty_interval + 1)
                critic |= {"lr": critic_rate * share, "betas": tuple(beta**share for beta in options["betas"])}
            groups = [{**group, "weight_decay": self.args.weight_decay} for group in (generator, critic)]
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def _clip_grad_norm(self, model):
        limit = self.args.max_grad_norm
        if self.phase == "discriminator" and self.args.discriminator_max_grad_norm is not None:
            limit = self.args.discriminator_max_grad_norm
        return self.accelerator.clip_grad_norm_(model.parameters(), limit if limit > 0 else float("inf"))

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = self._clip_grad_norm(model) if grad_norm is None else grad_norm
        self.record({f"{self.phase}_grad_norm": grad_norm})
        return grad_norm

    # ---- The loss ----

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(len(inputs["pixel_values"]))}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        pixels = self.pixel_values(inputs)
        labels = inputs.get("labels") if self.model.config.num_labels else None
        count = num_items_in_batch["loss"] if num_items_in_batch else len(pixels)
        latents = self.noise.normal("latents", len(pixels), (self.model.config.latent_dim,), pixels.device)
        if not model.training:
            outputs = model(pixels, labels=labels, latents=latents, phase="discriminator")
            loss = self._record_evaluation_losses(outputs, count)
            return (loss, outputs) if return_outputs else loss
        self.model.generator.requires_grad_(self.phase == "generator")
        self.model.discriminator.requires_grad_(self.phase == "discriminator")
        compute = self._discriminator_loss if self.phase == "discriminator" else self._generator_loss
        loss, outputs = compute(model, pixels, labels, latents, count)
        return (loss, outputs) if return_outputs else loss

    def _discriminator_loss(self, model, pixels, labels, latents, count):
        scale = self.penalty_scale
        mix = None
        if scale > 0 and self.gradient_penalty > 0:
            mix = self.noise.uniform("mix", len(pixels), (), pixels.device)
        outputs = model(
            pixels,
            labels=labels,
            latents=latents,
            phase="discriminator",
            augment=self._augment if self.augmentation is not None else None,
            mix=mix,
            differentiable_inputs=scale > 0,
        )
        real, fake = outputs.real_logits.float(), outputs.fake_logits.float()
        values = self.adversarial.discriminator(real, fake)
        loss = values.sum() / count
        components = {"discriminator_loss": values / self.adversarial.num_terms, **self._scores(real, fake)}
        self.record({name: value.sum() / count for name, value in components.items()})
        if self.args.discriminator_augmentation == "ada":
            level = fake if self.adversarial.boundary is None else self.adversarial.boundary
            self._real_signs.append((real - level).detach().sign().sum() / count)
        if scale > 0:
            penalty = torch.zeros((), device=real.device)
            if self.args.r1_gamma > 0:
                penalty = penalty + self.args.r1_gamma / 2 * r1_penalty(real, outputs.real_pixels).sum() / count
            if self.args.r2_gamma > 0:
                penalty = penalty + self.args.r2_gamma / 2 * r2_penalty(fake, outputs.fake_pixels).sum() / count
            if self.gradient_penalty > 0:
                mixed = gradient_penalty(outputs.mixed_logits, outputs.mixed_pixels)
                penalty = penalty + self.gradient_penalty * mixed.sum() / count
            self.record({"penalty": penalty})
            loss = loss + scale * penalty
        return loss, outputs

    def _generator_loss(self, model, pixels, labels, latents, count):
        outputs = model(
            pixels if self.adversarial.needs_real_in_generator else None,
            labels=labels,
            latents=latents,
            phase="generator",
            augment=self._augment if self.augmentation is not None else None,
        )
        loss = self.adversarial.generator(outputs.fake_logits, outputs.real_logits).sum() / count
        self.record({"generator_loss": loss})
        return loss, outputs

    def _augment(self, pixels: torch.Tensor, which: str) -> torch.Tensor:
        draws = self.noise.uniform(f"augment {which}", len(pixels), (self.augmentation.num_draws,), pixels.device)
        probability = self.model.augmentation_probability if self.args.discriminator_augmentation == "ada" else 1.0
        return self.augmentation(pixels, draws, probability)

    def _scores(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the discriminator gets right, for each item: of single pictures where the loss has a boundary, of pairs."""
        scores = {"logit_gap": real - fake, "pair_accuracy": (real > fake).float()}
        boundary = self.adversarial.boundary
        if boundary is not None:
            scores |= {"real_accuracy": (real > boundary).float(), "fake_accuracy": (fake < boundary).float()}
        return scores

    def _record_evaluation_losses(self, outputs, count) -> torch.Tensor:
        real, fake = outputs.real_logits.float(), outputs.fake_logits.float()
        values = self.adversarial.discriminator(real, fake)
        ones = torch.ones_like(real)
        components = {
            "discriminator_loss": values / self.adversarial.num_terms,
            "generator_loss": self.adversarial.generator(fake, real),
            **self._scores(real, fake),
        }
        self.record_evaluation({name: (value, ones) for name, value in components.items()})
        return values.sum() / count

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        return means["discriminator_loss"]

    def finish_discriminator_step(self) -> None:
        """Clips the critic's weights and adjusts the augmentation, after the optimizer's step."""
        if self.weight_clip:
            for parameter in self.model.discriminator.parameters():
                parameter.data.clamp_(-self.weight_clip, self.weight_clip)
        if self._real_signs:
            sign = self.accelerator.reduce(torch.stack(self._real_signs).sum(), "mean")
            self._real_signs = []
            images = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            probability = self.model.augmentation_probability
            probability.copy_(
                ada_update(
                    probability,
                    sign,
                    num_images=images,
                    target=self.args.ada_target,
                    images_to_one=self.args.ada_images,
                )
            )

    def finish_generator_step(self) -> None:
        """Moves the generator's average on, faster at first."""
        updates = (self.state.global_step + 1) // (self.args.n_critic + 1)
        self.model.update_ema(min(self.args.ema_decay, (1 + updates) / (10 + updates)))

    # ---- Logs and checkpoints ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self.recorded_means())
            del logs["loss"], logs["grad_norm"]  # of whichever phase was last
            logs.update(self.monitor.probe(logs))
        super().log(logs, start_time)

    def _save_checkpoint(self, model, trial) -> None:
        fault = self.monitor.find_fault()
        if fault is None:
            super()._save_checkpoint(model, trial)
        else:
            logger.warning(f"No checkpoint is saved at step {self.state.global_step}: {fault}")

    # ---- Pictures and the card ----

    def generate_pictures(self, step: int, positions: torch.Tensor) -> torch.Tensor:
        model = self.accelerator.unwrap_model(self.model)
        latents = normal_noise(self.args.seed, step, positions, "pictures", (model.config.latent_dim,))
        classes = model.config.num_labels
        return model.generate(latents=latents, labels=positions % classes if classes else None)

    def picture_rows(self, count: int) -> dict[str, torch.Tensor]:
        model = self.accelerator.unwrap_model(self.model)
        side = max(2, round(count**0.5))
        classes, device = model.config.num_labels, self.args.device
        rows, columns = (max(1, count // classes), classes) if classes else (side, side)
        positions = torch.arange(max(rows * columns, 2 * side), device=device)
        latents = normal_noise(self.args.seed, PICTURES, positions[: 2 * side], "ends", (model.config.latent_dim,))
        labels = positions[:side] % classes if classes else None
        return {
            "samples": self.generate_pictures(PICTURES, positions[: rows * columns]).unflatten(0, (rows, columns)),
            "interpolation": model.interpolate(latents[:side], latents[side:], side, mode="slerp", labels=labels),
        }

    def draw_progress(self, folder: Path) -> dict[str, Path]:
        logged = {name for log in self.state.log_history for name in log}
        if not {"generator_loss", "discriminator_loss"} <= logged:
            return {}
        path = folder / "stability.png"
        self.analyze_stability().plot(path)
        return {"stability": path}

    def analyze_stability(self) -> StabilityVerdict:
        """The verdict of [`~hf_genkit.analyze_gan_stability`] on the run so far."""
        return analyze_gan_stability(self.state, loss_type=self.args.loss_type)

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        config = self.model.config
        facts.custom_code = True
        facts.sample_call = facts.sample_call or "generate(16)"
        facts.image_mode = "L" if config.num_channels == 1 else "RGB"
        facts.method = facts.method or (
            f"The loss was '{self.args.loss_type}' with {self.args.n_critic} discriminator "
            f"step{'s' if self.args.n_critic > 1 else ''} for each step of the generator. Pictures come from the "
            f"moving average of the generator (decay {self.args.ema_decay:g})."
            + (f" The run was stopped: {self.monitor.failure}" if self.monitor.failure else "")
        )
        return facts
