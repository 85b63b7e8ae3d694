"""Training of variational autoencoders, plain and vector-quantised."""

from collections.abc import Callable, Mapping, Sized

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from ..evaluation import PictureJudge
from ..hub import CardFacts
from ..models.vae import VAEModel
from ..models.vq_vae import VQVAEModel
from .base import EVALUATION, GenkitTrainer
from .latent_priors import fit_mixture_prior, fit_second_stage, posterior_samples
from .noise import generator_for, normal_noise
from .pictures import PICTURES, PicturesMixin
from .vae_config import VAETrainingConfig


logger = logging.get_logger(__name__)

TERMS = ("loss", "reconstruction_loss", "kl_loss", "regularizer", "commitment_loss", "perplexity")


class VAETrainer(PicturesMixin, GenkitTrainer):
    """
    Trains a [`~hf_genkit.VAEModel`] or a [`~hf_genkit.VQVAEModel`] on images.

    The log has every term of the loss; evaluation adds their exact means over the evaluation set with the model's full
    `beta`, and the judge's metrics of generated pictures. The noise of the latents belongs to the sample, so
    resuming, gradient accumulation and the number of processes don't change a run. (Objectives that compare the samples
    of a batch with each other, "beta_tc", "info_vae" and "wae_mmd", do depend on the size of the micro-batch, and so
    does the codebook of a VQ-VAE.)

    Args:
        model ([`~hf_genkit.VAEModel`] or [`~hf_genkit.VQVAEModel`]): The model.
        args ([`VAETrainingConfig`], *optional*): The arguments.
        judge ([`~hf_genkit.evaluation.PictureJudge`], *optional*): What judges generated pictures at evaluations.
        processing_class (`BaseImageProcessor`, *optional*):
            Turns the data's uint8 pixels into the model's range, see [`~hf_genkit.data.image_processor_for`].
        kwargs: Passed to [`~transformers.Trainer`].

    Raises:
        `ValueError`: The model or the arguments are of another kind.

    Example:

    ```python
    >>> trainer = VAETrainer(
    ...     model=VAEModel(VAEConfig(image_size=28, num_channels=1, latent_dim=16)),
    ...     args=VAETrainingConfig("vae", num_train_epochs=10),
    ...     train_dataset=train,
    ...     eval_dataset=validation,
    ...     processing_class=image_processor_for(1, 28),
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names = ("hf_genkit", "vae")

    def __init__(
        self,
        model: VAEModel | VQVAEModel | None = None,
        args: VAETrainingConfig | None = None,
        *,
        judge: PictureJudge | None = None,
        **kwargs,
    ):
        args = args or VAETrainingConfig("vae_output")
        if not isinstance(args, VAETrainingConfig):
            raise ValueError(f"`args` is a {type(args).__name__}, but it must be a VAETrainingConfig.")
        if not isinstance(model, VAEModel | VQVAEModel):
            raise ValueError(f"`model` is a {type(model).__name__}, but it must be a VAEModel or a VQVAEModel.")
        args.remove_unused_columns = False
        args.label_names = []
        super().__init__(model, args, **kwargs)
        self.judge = judge
        self.is_variational = isinstance(self.model, VAEModel)
        self.prior = "normal"

    @property
    def has_likelihood(self) -> bool:
        """Whether the model bounds the likelihood of an image: not with the optimal sigma, nor a VQ-VAE."""
        config = self.model.config
        return self.is_variational and not (config.likelihood == "gaussian" and config.sigma == "optimal")

    def check_before_training(self) -> None:
        prior, components = self.args.latent_prior, self.args.mixture_components
        if not self.is_variational:
            if prior != "normal":
                raise ValueError(
                    f"`latent_prior` is '{prior}', but a {type(self.model).__name__} has no such latents."
                )
            return
        if prior == "mixture" and isinstance(self.train_dataset, Sized) and len(self.train_dataset) < components:
            images = len(self.train_dataset)
            raise ValueError(f"`mixture_components` is {components}, but there are only {images} training images.")
        config = self.model.config
        if prior == "normal" and (config.mixture_components or config.second_stage):
            logger.warning("The model has a prior that was fitted on its latents as they are now: fit it again after.")

    # ---- The loss ----

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(len(inputs["pixel_values"]))}

    def pixel_values(self, inputs) -> torch.Tensor:
        pixels = super().pixel_values(inputs)
        if self.args.binarize == "none":
            return pixels
        levels = pixels.add(1).div(2)
        threshold = 0.5
        if self.args.binarize == "dynamic":
            threshold = self.noise.uniform("binarize", len(pixels), pixels.shape[1:], pixels.device)
        return (levels > threshold).to(pixels.dtype).mul(2).sub(1)

    @property
    def beta(self) -> float:
        """The weight of the KL term in the current optimizer step."""
        steps = self.args.kl_warmup_steps
        steps = steps * self.state.max_steps if steps < 1 else steps
        full = self.model.config.beta
        return full if steps == 0 else full * min(1.0, (self.state.global_step + 1) / steps)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        pixels = self.pixel_values(inputs)
        options = {}
        if self.is_variational:
            config = self.model.config
            shape = (config.latent_dim,)
            if config.objective == "iwae":
                shape = (config.num_importance_samples, config.latent_dim)
            options["noise"] = self.noise.normal("latents", len(pixels), shape, pixels.device)
            options["beta"] = self.beta if model.training else config.beta
        outputs = model(pixels, reduction="none", **options)
        terms = {name: outputs[name].expand(len(pixels)) for name in TERMS if name in outputs}
        count = num_items_in_batch["loss"] if num_items_in_batch else len(pixels)
        if model.training:
            self.record({name: value.sum() / count for name, value in terms.items() if name != "loss"})
        else:
            ones = torch.ones(len(pixels), device=pixels.device)
            self.record_evaluation({name: (value, ones) for name, value in terms.items()})
        loss = outputs.loss.sum() / count
        return (loss, outputs) if return_outputs else loss

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        return means["loss"]

    @torch.no_grad()
    def log_likelihood(self, dataset, num_samples: int = 100) -> dict[str, float]:
        """
        The mean log-likelihood of a data set by importance sampling, an estimate that is too low on average and gets
        better with more samples ([Burda et al., 2016](https://huggingface.co/papers/1509.00519)).

        Args:
            dataset: Images, such as the test set.
            num_samples (`int`, *optional*, defaults to 100): Importance samples for each image.

        Returns:
            `dict[str, float]`: `nll`, its negative in nats per image, and `nll_standard_error` over the images.
        """
        model = self.accelerator.unwrap_model(self.model).eval()

        def estimate(pixels: torch.Tensor) -> torch.Tensor:
            generator = generator_for(self.args.seed, EVALUATION, self.noise.positions(1, pixels.device))
            return model.log_likelihood(pixels, num_samples, generator=generator)

        found = self._for_each_batch(dataset, estimate).double()
        return {"nll": -found.mean().item(), "nll_standard_error": (found.std() / len(found) ** 0.5).item()}

    def _for_each_batch(self, dataset, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """What a function gives for a data set's images, in their order, `[images, ...]`, on every process."""
        self.noise.start(EVALUATION, self.args.eval_batch_size)
        parts = []
        for inputs in tqdm(self.get_eval_dataloader(dataset), leave=False, disable=self.args.disable_tqdm or None):
            values = function(self.pixel_values(self._prepare_inputs(inputs)))
            parts.append(self.accelerator.gather_for_metrics(values))
            self.noise.advance()
        return torch.cat(parts)

    @torch.no_grad()
    def anomaly_scores(self, dataset, kind: str = "reconstruction", num_samples: int = 50) -> torch.Tensor:
        """
        How unusual each image of a data set is, see [`~hf_genkit.VAEModel.anomaly_score`].

        Args:
            dataset: Images.
            kind (`str`, *optional*, defaults to `"reconstruction"`): Which score.
            num_samples (`int`, *optional*, defaults to 50): Samples of q(z | x) for the scores that take some.

        Returns:
            `torch.Tensor`: Scores of shape `[images]` on the CPU, higher for what is less normal, on every process.
        """
        model = self.accelerator.unwrap_model(self.model).eval()

        def score(pixels: torch.Tensor) -> torch.Tensor:
            return model.anomaly_score(pixels, kind=kind, num_samples=num_samples)

        return self._for_each_batch(dataset, score).cpu()

    @torch.no_grad()
    def encode(self, dataset) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Means and log-variances of q(z | x) for a data set's images, both of shape `[images, latent_dim]`, on every
        process.
        """
        model = self.accelerator.unwrap_model(self.model).eval()
        encoded = self._for_each_batch(dataset, lambda pixels: torch.stack(model.encode(pixels), dim=1))
        return encoded.unbind(dim=1)

    def fit_prior(self, dataset) -> None:
        """
        Fits the prior that `latent_prior` names on the latents of a data set; samples come from it from then on, and
        it is saved with the model. (They depend on the batch they are drawn in, those of the normal prior don't.)

        Args:
            dataset: Images, such as the training set.
        """
        if self.args.latent_prior == "normal":
            return
        model = self.accelerator.unwrap_model(self.model)
        latents = posterior_samples(*self.encode(dataset), self.args.seed)
        if self.args.latent_prior == "mixture":
            fit_mixture_prior(model, latents, self.args.mixture_components, self.args.seed)
        else:
            fit_second_stage(self, latents)
        self.prior = self.args.latent_prior

    # ---- Pictures and the card ----

    def generate_pictures(self, step: int, positions: torch.Tensor) -> torch.Tensor:
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        if self.prior == "normal":
            return model.decode(normal_noise(self.args.seed, step, positions, "pictures", (model.config.latent_dim,)))
        generator = generator_for(self.args.seed, step, positions[:1])
        return model.sample(len(positions), generator=generator, prior=self.prior)

    def picture_rows(self, count: int) -> dict[str, torch.Tensor]:
        model = self.accelerator.unwrap_model(self.model)
        columns = max(2, round(count**0.5))
        images = self.some_images(2 * columns)
        images, others = images[:columns], images[columns:]
        grids = {}
        if self.is_variational:
            positions = torch.arange(columns * columns, device=self.args.device)
            grids["samples"] = self.generate_pictures(PICTURES, positions).unflatten(0, (columns, columns))
        grids["reconstructions"] = torch.stack([images, model.reconstruct(images)])
        grids["interpolation"] = model.interpolate(images[: len(others)], others, steps=columns)
        return grids

    def card_facts(self) -> CardFacts:
        facts = super().card_facts()
        facts.custom_code = True
        config = self.model.config
        facts.image_mode = "L" if config.num_channels == 1 else "RGB"
        facts.image_size = (config.image_size, config.image_size)
        if not self.is_variational:
            facts.image_call = facts.image_call or "encode"
        else:
            facts.image_call = facts.image_call or ("is_anomaly" if config.anomaly_threshold is not None else None)
            prior = "" if self.prior == "normal" else f', prior="{self.prior}"'
            facts.sample_call = facts.sample_call or f"sample(16{prior})"
        facts.method = facts.method or self.method_sentence
        return facts

    @property
    def method_sentence(self) -> str:
        """What was minimised, in one sentence."""
        config = self.model.config
        if not self.is_variational:
            return (
                f"Squared error plus {config.commitment_weight:g} times the commitment loss; a codebook of "
                f"{config.codebook_size} codes follows the encodings as a moving average. It has no prior to sample from."
            )
        data = "" if self.args.binarize == "none" else f" of images made black and white ({self.args.binarize})"
        return (
            f"The objective was '{config.objective}' with beta {config.beta:g} and the likelihood "
            f"'{config.likelihood}'{data}; latents have {config.latent_dim} dimensions."
        )
