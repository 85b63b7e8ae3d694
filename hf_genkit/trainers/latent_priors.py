"""Priors fitted on a trained VAE's latents: what the decoder was trained on is not quite the standard normal."""

import tempfile

import torch
from torch.utils.data import Dataset

from ..models.vae import VAEConfig, VAEModel
from .noise import normal_noise
from .progress import show_one_line


SECOND_STAGE_STEPS = 3000
FIT = -6  # the step whose noise the latents for fitting draw


class LatentDataset(Dataset):
    """Latent vectors as pictures of one pixel, which is what a second-stage VAE takes."""

    def __init__(self, latents: torch.Tensor):
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.latents[index, :, None, None]}


def posterior_samples(mean: torch.Tensor, log_variance: torch.Tensor, seed: int) -> torch.Tensor:
    """One latent for each image: means and log-variances are of shape `[images, latent_dim]`."""
    noise = normal_noise(seed, FIT, torch.arange(len(mean), device=mean.device), "latents", (mean.shape[1],))
    return mean + torch.exp(log_variance / 2) * noise


def fit_mixture_prior(model: VAEModel, latents: torch.Tensor, components: int, seed: int) -> None:
    """
    Fits a Gaussian mixture with full covariances and gives it to the model for `sample(prior="mixture")`.

    Args:
        model ([`~hf_genkit.VAEModel`]): The trained model.
        latents (`torch.Tensor`): Latents of the training images, of shape `[images, latent_dim]`.
        components (`int`): How many Gaussians.
        seed (`int`): Seed of the k-means start.

    Raises:
        `ValueError`: There are fewer latents than components.
    """
    from sklearn.mixture import GaussianMixture

    if len(latents) < components:
        raise ValueError(f"`mixture_components` is {components}, but there are only {len(latents)} training images.")
    mixture = GaussianMixture(components, reg_covar=1e-4, random_state=seed).fit(latents.double().cpu().numpy())
    scale_trils = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))
    model.set_mixture_prior(torch.from_numpy(mixture.weights_), torch.from_numpy(mixture.means_), scale_trils)


def fit_second_stage(trainer, latents: torch.Tensor) -> None:
    """
    Trains a second VAE on the latents and gives it to the model for `sample(prior="two_stage")`
    ([Dai and Wipf, 2019](https://huggingface.co/papers/1903.05789)).

    Args:
        trainer ([`VAETrainer`]): The first VAE's trainer.
        latents (`torch.Tensor`): Latents of the training images, of shape `[images, latent_dim]`.
    """
    from .vae_config import VAETrainingConfig

    model = trainer.accelerator.unwrap_model(trainer.model)
    dim = model.config.latent_dim
    second = VAEModel(
        VAEConfig(
            image_size=1,
            num_channels=dim,
            latent_dim=dim,
            architecture="mlp",
            hidden_sizes=[256, 256],
            likelihood="gaussian",
            sigma="learned",
            bounded=False,
        )
    )
    folder = tempfile.TemporaryDirectory()  # it saves nothing of its own
    args = VAETrainingConfig(
        folder.name,
        max_steps=SECOND_STAGE_STEPS,
        per_device_train_batch_size=128,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        save_strategy="no",
        num_sample_pictures=0,
        logging_steps=100,
        seed=trainer.args.seed,
        use_cpu=trainer.args.use_cpu,
    )
    second_trainer = type(trainer)(second, args, train_dataset=LatentDataset(latents.cpu()))
    show_one_line(second_trainer, "second stage").train()
    folder.cleanup()
    model.set_second_stage(second_trainer.accelerator.unwrap_model(second_trainer.model).eval())
