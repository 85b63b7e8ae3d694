"""Tiny VAEs, GANs and pictures for the tests of their trainers."""

import torch

from hf_genkit import (
    GANConfig,
    GANModel,
    GANTrainer,
    GANTrainingConfig,
    VAEConfig,
    VAEModel,
    VAETrainer,
    VAETrainingConfig,
    VQVAEConfig,
    VQVAEModel,
)
from hf_genkit.data import ArrayImageDataset, image_processor_for


SIZE = 8
DEFAULTS = {
    "per_device_train_batch_size": 8,
    "max_steps": 4,
    "learning_rate": 1e-2,
    "disable_tqdm": True,
    "use_cpu": True,
    "save_strategy": "no",
    "logging_steps": 1,
    "num_sample_pictures": 4,
}
TRAINER_OPTIONS = ("train_dataset", "eval_dataset", "callbacks", "judge", "model")


def pictures(count: int = 24, seed: int = 0) -> ArrayImageDataset:
    """Bright bars on black, with the column of the bar as label (0 to 3)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    pixels = torch.randint(0, 60, (count, 1, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    for row, label in enumerate(labels.tolist()):
        pixels[row, :, :, 2 * label : 2 * label + 2] += 150
    return ArrayImageDataset(pixels.numpy(), labels.numpy())


def vae(**options) -> VAEModel:
    torch.manual_seed(0)
    return VAEModel(VAEConfig(**{"image_size": SIZE, "latent_dim": 3, "hidden_sizes": [8], **options}))


def vq_vae(**options) -> VQVAEModel:
    torch.manual_seed(0)
    return VQVAEModel(VQVAEConfig(**{"image_size": SIZE, **options}))


def gan(**options) -> GANModel:
    torch.manual_seed(0)
    defaults = {"image_size": SIZE, "latent_dim": 4, "architecture": "mlp", "generator_channels": 16}
    return GANModel(GANConfig(**{**defaults, **options}))


def trainer_for(model, folder, **options):
    """The model's trainer; options go to its config, a few to the trainer itself."""
    trainer_class, config_class = (
        (GANTrainer, GANTrainingConfig) if isinstance(model, GANModel) else (VAETrainer, VAETrainingConfig)
    )
    own = {name: options.pop(name) for name in TRAINER_OPTIONS if name in options}
    return trainer_class(
        **{
            "model": model,
            "args": config_class(str(folder), **{**DEFAULTS, **options}),
            "train_dataset": pictures(),
            "processing_class": image_processor_for(1, SIZE),
            **own,
        }
    )
