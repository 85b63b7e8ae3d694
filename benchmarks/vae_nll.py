"""
How likely a plain VAE finds the test images of Fashion-MNIST, against the published figure.

    python benchmarks/vae_nll.py            # a short run, 5 minutes of CPU time, which writes no result
    python benchmarks/vae_nll.py --full     # an hour of CPU time

Images are binarised dynamically: each pixel is black or white with its grey level as probability, anew at each step.
The VAE is the small one of Norouzi et al. (2020, https://arxiv.org/abs/2004.04795, the Exemplar VAE): gated layers of
300 and 300 units on either side of 40 latents, a N(0, 1) prior, the ELBO as its objective. They report 228.70 +- 0.15
nats with 5,000 importance samples, after up to 2,000 epochs of Adam at 5e-4 in batches of 100, stopped early, with a KL
warm-up of 100 epochs. Here it is three rounds of 120, 120 and 140 epochs in batches of 250, each with a cosine to 0.

The last 5,000 training images choose the checkpoint, by their ELBO. The test images are binarised once.
A run that was cut off goes on from its last checkpoint in `--output_dir`. One thread.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import cpu_seconds, write_result
from real_data import fashion_mnist_arrays
from transformers.trainer_utils import get_last_checkpoint, set_seed

from hf_genkit import VAEConfig, VAEModel, VAETrainer, VAETrainingConfig
from hf_genkit.data import ArrayImageDataset, image_processor_for, prepare_pixels


PUBLISHED = 228.70
VALIDATION, BATCH = 5000, 250
STEPS_PER_EPOCH = (60000 - VALIDATION) // BATCH
PROCESSOR = image_processor_for(1, 28)
# Epochs and the learning rate that each round of training begins with.
SHORT = {"rounds": [(40, 2e-3)], "importance_samples": 500, "test_images": 2000}
FULL = {"rounds": [(120, 2e-3), (120, 1e-3), (140, 1e-3)], "importance_samples": 5000, "test_images": 10000}


def dataset(pixels: np.ndarray) -> ArrayImageDataset:
    return ArrayImageDataset(pixels[:, None], np.full(len(pixels), -100))


def new_model(seed: int) -> VAEModel:
    set_seed(seed)
    return VAEModel(
        VAEConfig(architecture="mlp", hidden_sizes=[300, 300], gated=True, latent_dim=40, likelihood="bernoulli")
    )


def trainer_of(model: VAEModel, output_dir: Path, **options) -> VAETrainer:
    """A trainer with Fashion-MNIST's training images, 5,000 of them kept for validation."""
    pixels, _ = fashion_mnist_arrays("train")
    args = VAETrainingConfig(
        str(output_dir),
        binarize="dynamic",
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=500,
        lr_scheduler_type="cosine",
        warmup_steps=0.01,
        max_grad_norm=0.0,
        eval_strategy="steps",
        eval_steps=5 * STEPS_PER_EPOCH,
        save_strategy="steps",
        save_steps=5 * STEPS_PER_EPOCH,
        save_total_limit=1,
        load_best_model_at_end=True,
        num_sample_pictures=0,
        logging_steps=STEPS_PER_EPOCH,
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )
    return VAETrainer(
        model,
        args,
        train_dataset=dataset(pixels[:-VALIDATION]),
        eval_dataset=dataset(pixels[-VALIDATION:]),
        processing_class=PROCESSOR,
    )


def train(model: VAEModel, output_dir: Path, seed: int, rounds: list[tuple[int, float]]) -> dict:
    """
    Trains a model in rounds, each from the best checkpoint of the one before.

    Returns:
        `dict`: Epochs and CPU seconds of this process, and the validation loss by epoch of all rounds.
    """
    facts = {"cpu_seconds_of_training": 0.0, "epochs_of_that_training": 0, "validation_loss_by_epoch": {}}
    before = 0
    for number, (epochs, learning_rate) in enumerate(rounds):
        folder = output_dir / f"round-{number}"
        trainer = trainer_of(
            model,
            folder,
            seed=seed + number,
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            kl_warmup_steps=0.1 if number == 0 else 0,
        )
        checkpoint = get_last_checkpoint(folder) if folder.is_dir() else None
        done = int(checkpoint.rsplit("-", 1)[1]) // STEPS_PER_EPOCH if checkpoint else 0
        facts["cpu_seconds_of_training"] += cpu_seconds(partial(trainer.train, checkpoint))
        facts["epochs_of_that_training"] += epochs - done
        for entry in trainer.state.log_history:
            if "eval_loss" in entry:
                facts["validation_loss_by_epoch"][before + round(entry["epoch"])] = round(entry["eval_loss"], 2)
        before += epochs
    facts["cpu_seconds_of_training"] = round(facts["cpu_seconds_of_training"])
    return facts


def test_images(count: int, seed: int) -> torch.Tensor:
    """The first `count` test images, black or white, `[count, 1, 28, 28]`."""
    pixels = torch.tensor(fashion_mnist_arrays("test")[0][:count, None])
    grey = prepare_pixels(pixels, PROCESSOR).add(1).div(2)
    return torch.bernoulli(grey, generator=torch.Generator().manual_seed(seed)).mul(2).sub(1)


def log_likelihood(model: VAEModel, images: torch.Tensor, num_samples: int, seed: int) -> torch.Tensor:
    """log p(x) of each image in nats, `float64` `[N]`, with the mean so far on the screen."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in images.split(500):
        found.append(model.log_likelihood(part, num_samples, generator=generator).double())
        print(f"{sum(map(len, found))} images: {-torch.cat(found).mean():.3f} nats", flush=True)
    return torch.cat(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="The whole run, which writes the result.")
    parser.add_argument("--seed", type=int, default=0, help="Of the weights, the training and the binarised test set.")
    parser.add_argument("--output_dir", type=Path, help="Checkpoints; by default a folder below outputs/vae_nll.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    length = FULL if args.full else SHORT
    output_dir = args.output_dir or Path("outputs/vae_nll", f"{'full' if args.full else 'short'}-{args.seed}")
    start = time.time()
    model = new_model(args.seed)
    facts = train(model, output_dir, args.seed, length["rounds"])
    images = test_images(length["test_images"], args.seed)
    values = []
    evaluation_seconds = cpu_seconds(
        lambda: values.append(log_likelihood(model.eval(), images, length["importance_samples"], args.seed))
    )
    nll, deviation = -values[0].mean().item(), values[0].std().item()
    error = deviation / len(images) ** 0.5
    print(f"Test NLL {nll:.2f} nats (standard error {error:.2f}), published {PUBLISHED}.")
    if not args.full:
        return
    write_result(
        "vae_nll-fashion_mnist",
        claim="Test NLL of a plain VAE on binarised Fashion-MNIST",
        value=nll,
        bar=PUBLISHED,
        at_least=False,
        spread=(nll - 1.96 * error, nll + 1.96 * error),
        spread_kind="1.96 standard errors over 10,000 images",
        seconds=time.time() - start,
        details={
            **length,
            **facts,
            "batch": BATCH,
            "cpu_seconds_of_evaluation": round(evaluation_seconds),
            "seeds": [args.seed],
            "steps": sum(epochs for epochs, _ in length["rounds"]) * STEPS_PER_EPOCH,
        },
        unit="nats",
    )


if __name__ == "__main__":
    main()
