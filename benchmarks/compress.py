"""
How small and fast does the chain prune, distil, int8 make a model, and what does it cost? A ResNet and a ViT on
Fashion-MNIST, MiniLM-L6 on movie reviews; one core.

    python benchmarks/compress.py                    # ResNet and ViT, 10 minutes of CPU time
    python benchmarks/compress.py --models minilm    # 14 minutes
    python benchmarks/compress.py --full --models resnet vit minilm    # longer training and all the data

Bars: at least 4 times smaller, at least 2 times faster, and the interval of the change in accuracy (paired over the test
samples) above minus one point. The whole model is trained first, as well as the time allows. Each form is tested and
timed, forms in turns, so the table shows what each link contributes. Widths, layers and rates were set beforehand, but for
MiniLM's chain: the first one, three layers of half the width, was 11.6 times faster and 5.8 times smaller and lost 2.9
points on the test reviews; one that drops a single layer took its place.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import write_result
from real_data import fashion_mnist_arrays, minilm, movie_reviews
from torch.utils.data import DataLoader, Subset
from transformers import AutoConfig, AutoModelForImageClassification, AutoTokenizer, set_seed
from transformers.utils import logging

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.arguments import CompressionArguments
from hf_genkit.compress import CompressionChain, judge_forms
from hf_genkit.compress.chain_report import rows_of
from hf_genkit.data import (
    ArrayImageDataset,
    Augmentation,
    BatchCollator,
    ClassificationData,
    image_processor_for,
    load_data,
)
from hf_genkit.data.splitting import stratified_sample
from hf_genkit.evaluation import mean_interval
from hf_genkit.trainers.inputs import with_float_pixels
from hf_genkit.trainers.models import classifier_from_pretrained


RESNET = {"model_type": "resnet", "embedding_size": 64, "hidden_sizes": [64, 128, 256], "depths": [1, 1, 1],
          "layer_type": "basic"}  # fmt: skip
VIT = {"model_type": "vit", "image_size": 28, "patch_size": 4, "hidden_size": 96, "num_hidden_layers": 6,
       "num_attention_heads": 3, "intermediate_size": 384}  # fmt: skip
# What is trained how: epochs, rate and batch of the whole model, the chain, and epochs and rate of healing.
SETTINGS = {
    "resnet": {"epochs": 2, "rate": 5e-3, "batch": 128, "heal": (3, 5e-3), "prune": "prune:channels=0.5", "int8": "static"},
    "vit": {"epochs": 4, "rate": 2e-3, "batch": 128, "heal": (3, 1e-3), "prune": "prune:intermediate=0.5,layers=0+2+4",
            "int8": "dynamic"},
    "minilm": {"epochs": 2, "rate": 5e-5, "batch": 32, "heal": (3, 1e-4), "prune": "prune:layers=0+1+2+3+5",
               "int8": "dynamic"},
}  # fmt: skip


class Fashion:
    """Fashion-MNIST: training, validation and test sets, and a model to train."""

    task, collator = "image-classification", None

    def __init__(self, options: dict, samples: int):
        pixels, labels = fashion_mnist_arrays("train")
        held_out = stratified_sample(labels, 5000, seed=0)
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        kept = rest[stratified_sample(labels[rest], min(samples, len(rest) - 10), seed=0)]
        self.train = ArrayImageDataset(pixels[kept][:, None], labels[kept])
        self.augmented = ArrayImageDataset(
            pixels[kept][:, None], labels[kept], augmentation=Augmentation(flip=True, shift=2), seed=0
        )
        self.evaluation = ArrayImageDataset(pixels[held_out][:, None], labels[held_out])
        pixels, labels = fashion_mnist_arrays("test")
        self.test = ArrayImageDataset(pixels[:, None], labels)
        self.processor = image_processor_for(1, 28)
        options = dict(options)
        config = AutoConfig.for_model(options.pop("model_type"), num_labels=10, num_channels=1, **options)
        self.model = AutoModelForImageClassification.from_config(config)

    def readable(self, batch: dict) -> dict:
        return with_float_pixels(batch, self.processor)


class Reviews:
    """Rotten Tomatoes and MiniLM-L6."""

    task = "text-classification"

    def __init__(self, folder: Path, samples: int):
        movie_reviews(folder / "reviews")
        minilm(folder / "minilm")
        data = ClassificationData(load_data(str(folder / "reviews"), max_train_samples=samples))
        self.processor = AutoTokenizer.from_pretrained(folder / "minilm")
        inputs = {"processor": self.processor, "max_length": 64}
        self.train = self.augmented = data.inputs(data.splits["train"], **inputs)
        self.evaluation, self.test = (
            data.inputs(data.evaluation_split, **inputs),
            data.inputs(data.test_split, **inputs),
        )
        self.collator = data.collator(self.processor)
        self.model = classifier_from_pretrained(str(folder / "minilm"), data)

    def readable(self, batch: dict) -> dict:
        return dict(batch)


def config_for(folder: Path, setting: dict, **options) -> DistillationConfig:
    return DistillationConfig(
        str(folder), per_device_train_batch_size=setting["batch"], per_device_eval_batch_size=500,
        lr_scheduler_type="cosine", warmup_steps=0.1, save_strategy="no", logging_strategy="no", disable_tqdm=True,
        use_cpu=True, **options,
    )  # fmt: skip


@torch.inference_mode()
def right(model, batches: list[dict]) -> np.ndarray:
    """Which of the test samples a model names right."""
    hits = [
        model(**{name: value for name, value in batch.items() if name != "labels"}).logits.argmax(-1)
        == batch["labels"]
        for batch in batches
    ]
    return torch.cat(hits).numpy().astype(float)


def run(name: str, folder: Path, full: bool) -> None:
    start, cpu = time.time(), time.process_time()
    setting = SETTINGS[name]
    set_seed(0)
    if name == "minilm":
        data = Reviews(folder, 7000 if full else 3000)
    else:
        data = Fashion(RESNET if name == "resnet" else VIT, 55_000 if full else 20_000)
    factor = 3 if full else 1
    trainer = DistillationTrainer(
        data.model,
        None,
        config_for(folder / "whole", setting, alpha=0.0, num_train_epochs=setting["epochs"] * factor,
                   learning_rate=setting["rate"]),
        train_dataset=data.augmented,
        data_collator=data.collator,
        processing_class=data.processor,
    )  # fmt: skip
    trainer.train()

    def batches(dataset, size: int) -> list[dict]:
        loader = DataLoader(dataset, batch_size=size, collate_fn=BatchCollator(data.collator))
        return [data.readable(batch) for batch in loader]

    epochs, rate = setting["heal"]
    links = [setting["prune"], f"distil:epochs={epochs * factor},learning_rate={rate}", "export:int8=none"]
    choice = CompressionArguments("whole", chain=[*links, f"export:int8={setting['int8']}"])
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)).tolist()
    chain = CompressionChain(
        copy.deepcopy(trainer.model),
        config_for(folder / "small", setting, alpha=0.9, temperature=2.0, learning_rate=rate),
        choice,
        train=data.train,
        evaluation=None,
        collator=data.collator,
        processor=data.processor,
        batches=lambda samples: batches(Subset(data.train, order[:samples]), 32),
    )
    forms = chain.run()
    test = batches(data.test, 500)
    judged = judge_forms(forms, data.task, test)
    rows = rows_of(judged, data.task)
    for row in rows:
        print(" | ".join(row.values()), flush=True)
    whole, last = judged[0], judged[-1]
    change = mean_interval(list(right(forms[-1].model, test) - right(forms[0].model, test)))
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    details = {
        "chain": choice.chain,
        "setting": {key: list(value) if isinstance(value, tuple) else value for key, value in setting.items()},
        "data": f"{len(data.train):,} training samples, {len(data.test):,} test samples, one seed",
        "accuracy": {form.name: round(form.quality.mean, 4) for form in judged},
        "markdown": "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)]),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "time": "latency of one sample on one thread, median of 5 rounds in turns",
    }
    title = {"resnet": "ResNet", "vit": "ViT", "minilm": "MiniLM-L6"}[name]
    common = {"at_least": True, "seconds": time.time() - start, "details": details}
    speed, size = whole.latency_ms / last.latency_ms, whole.size_bytes / last.size_bytes
    write_result(
        f"compress-{name}_speed", claim=f"{title}, prune + distil + int8: faster on one core", value=speed, bar=2.0,
        spread=(speed, speed), spread_kind="one chain", **common,
    )  # fmt: skip
    write_result(
        f"compress-{name}_size", claim=f"{title}, prune + distil + int8: smaller", value=size, bar=4.0,
        spread=(size, size), spread_kind="one chain", **common,
    )  # fmt: skip
    write_result(
        f"compress-{name}_accuracy", claim=f"{title}, prune + distil + int8: change in accuracy", value=change.mean,
        bar=-0.01, spread=(change.low, change.high), spread_kind=f"95 % interval over {change.n:,} test samples",
        unit="accuracy", **common,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(SETTINGS), default=["resnet", "vit"], help="Which to run.")
    parser.add_argument("--full", action="store_true", help="Three times the epochs, and all the data.")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            run(name, Path(folder), args.full)


if __name__ == "__main__":
    main()
