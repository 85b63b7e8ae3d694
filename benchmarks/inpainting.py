"""
Half a picture restored: Fashion-MNIST test images whose lower half is hidden, by a diffusion model that was not trained
for it, against the mean image and against a VAE's reconstruction.

    python benchmarks/inpainting.py                     # trains a small UNet first: about 14 minutes of CPU time
    python benchmarks/inpainting.py --model DIR         # a pipeline that is there, such as outputs/ddpm-fashion-mnist
    python benchmarks/inpainting.py --model DIR --full  # 500 images instead of 32

The pipeline repaints each image eight times (RePaint). Two errors are told: that of single restorations, which are drawn
and not averaged, and that of the mean of the eight, the better guess where errors count. The mean image is that of the
training set; the VAE sees the image with the mean image in its hidden half, and its reconstruction of that half is taken.
A small classifier that was trained on whole training images then says what it sees in the restored ones. Intervals are
over images.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import cpu_seconds, write_result
from gan_losses import train_classifier
from real_data import fashion_mnist_arrays
from transformers import AutoModelForImageClassification, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from hf_genkit import DiffusionConfig, DiffusionTrainer, VAEConfig, VAEModel, VAETrainer, VAETrainingConfig
from hf_genkit.data import ArrayImageDataset, image_processor_for
from hf_genkit.evaluation import mean_interval, paired_difference, save_grid
from hf_genkit.pipelines import InpaintingPipeline, make_sampler
from hf_genkit.trainers.diffusion_models import new_network


FOLDER = Path("outputs/inpainting")
NETWORK = {"block_out_channels": [16, 32, 32], "layers_per_block": 1}
STEPS, IMAGES, SAMPLES = 1500, 32, 8
SETTINGS = {"num_inference_steps": 50, "jump_length": 2, "num_resamples": 4, "seed": 0, "batch_size": 128}


def train_pipeline(train: ArrayImageDataset, folder: Path) -> None:
    """A small unconditional UNet, saved as a pipeline."""
    set_seed(0)
    network = new_network(NETWORK, {"sample_size": 28, "in_channels": 1, "out_channels": 1})
    args = DiffusionConfig(
        str(folder), prediction_type="v", weighting="min_snr", max_steps=STEPS, per_device_train_batch_size=64,
        learning_rate=2e-3, lr_scheduler_type="cosine", warmup_steps=0.05, ema_decay=0.995, save_strategy="no",
        logging_steps=100, num_sample_pictures=0, report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    trainer = DiffusionTrainer(network, args=args, train_dataset=train, processing_class=image_processor_for(1, 28))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(_internal_call=True)


def train_vae(train: ArrayImageDataset) -> VAEModel:
    set_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        args = VAETrainingConfig(
            folder, max_steps=3000, per_device_train_batch_size=64, learning_rate=1e-3, save_strategy="no",
            logging_steps=500, num_sample_pictures=0, report_to="none", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        model = VAEModel(VAEConfig(image_size=28, latent_dim=16, likelihood="gaussian", sigma="learned"))
        trainer = VAETrainer(model, args, train_dataset=train, processing_class=image_processor_for(1, 28))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return model.eval()


@torch.no_grad()
def accuracy(pictures: torch.Tensor, labels: np.ndarray) -> list[float]:
    """1 for each picture that the classifier sees the right class in, else 0."""
    classifier = AutoModelForImageClassification.from_pretrained(FOLDER / "classifier").eval()
    predicted = classifier(pictures).logits.argmax(-1).numpy()
    return (predicted == labels).astype(float).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="A pipeline of 28x28 grey pictures, instead of training one.")
    parser.add_argument("--full", action="store_true", help="500 images instead of 32.")
    args = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    start = time.time()
    pixels, labels = fashion_mnist_arrays("train")
    train = ArrayImageDataset(pixels[:, None], labels)
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(args.model or FOLDER / "pipeline")
    if not folder.is_dir():
        train_pipeline(train, folder)
    if not (FOLDER / "classifier").is_dir():
        train_classifier(train, FOLDER / "classifier")
    pipeline = InpaintingPipeline.from_pretrained(folder)
    pipeline.scheduler = make_sampler(pipeline.scheduler, "ddpm")
    vae = train_vae(train)

    count = 500 if args.full else IMAGES
    pixels, labels = (array[:count] for array in fashion_mnist_arrays("test"))
    real = torch.from_numpy(pixels.copy())[:, None].float() / 127.5 - 1
    mean = torch.from_numpy(train.pixels.mean(axis=0)).float() / 127.5 - 1
    mask = torch.zeros(1, 1, 28, 28)
    mask[:, :, 14:] = 1
    filled = torch.where(mask.bool(), mean, real)
    drawn = []
    cpu = cpu_seconds(
        lambda: drawn.append(
            pipeline(real, mask, num_images_per_image=SAMPLES, output_type="pt", **SETTINGS).images * 2 - 1
        )
    )
    restored = drawn[0].unflatten(0, (count, SAMPLES))
    with torch.no_grad():
        by_vae = torch.where(mask.bool(), vae.reconstruct(filled), real)

    def errors(pictures: torch.Tensor) -> list[float]:
        """Mean absolute error in the hidden half of each image, in grey levels."""
        hidden = (pictures - real.unsqueeze(1).expand_as(pictures) if pictures.ndim == 5 else pictures - real).abs()
        hidden = hidden[..., 14:, :].flatten(-3).mean(-1) * 127.5
        return (hidden.mean(1) if pictures.ndim == 5 else hidden).tolist()

    found = {
        "single restorations": errors(restored),
        "mean of eight": errors(restored.mean(1)),
        "mean image": errors(filled),
        "VAE": errors(by_vae),
    }
    seen = {
        "whole images": accuracy(real, labels),
        "single restorations": accuracy(restored[:, 0], labels),
        "mean image": accuracy(filled, labels),
        "VAE": accuracy(by_vae, labels),
    }
    shown = torch.stack([real, filled, by_vae, restored.mean(1), *(restored[:, i] for i in range(4))], dim=1)[:12]
    titles = ["image", "mean image", "VAE", "mean of 8", "1", "2", "3", "4"]
    save_grid(shown.flatten(0, 1), FOLDER / "restored.png", columns=8, titles=titles)
    details = {
        "accuracy": {name: round(mean_interval(values).mean, 4) for name, values in seen.items()},
        "cpu_seconds_of_a_restoration": round(cpu / (count * SAMPLES), 3),
        "data": f"{count} Fashion-MNIST test images, lower half hidden, {SAMPLES} restorations each",
        "errors": {name: round(mean_interval(values).mean, 2) for name, values in found.items()},
        "network_calls_of_a_restoration": 194,
        "sampler": "ddpm",
        "parameters": pipeline.unet.num_parameters(),
        "settings": SETTINGS,
        "training_steps": None if args.model else STEPS,
    }
    print(details, flush=True)
    claims = {
        "mean_image": (
            "Error in a hidden half, mean image minus mean of 8 restorations",
            "mean image",
            "mean of eight",
        ),
        "vae": ("Error in a hidden half, VAE minus mean of 8 restorations", "VAE", "mean of eight"),
        "single": (
            "Error in a hidden half, mean image minus single restorations",
            "mean image",
            "single restorations",
        ),
    }
    for name, (claim, other, own) in claims.items():
        gain = paired_difference(found[other], found[own])
        result(name, f"{claim} (grey levels)", gain, details, start, "gray")
    gain = paired_difference(seen["single restorations"], seen["VAE"])
    result("accuracy", "Accuracy on single restored images minus on the VAE's", gain, details, start, "accuracy")


def result(name: str, claim: str, gain, details: dict, start: float, unit: str) -> None:
    write_result(
        f"inpainting-{name}",
        claim=claim,
        value=gain.mean,
        bar=0.0,
        at_least=True,
        spread=(gain.low, gain.high),
        spread_kind=f"95 % interval over {gain.n} images",
        seconds=time.time() - start,
        details=details,
        unit=unit,
    )


if __name__ == "__main__":
    main()
