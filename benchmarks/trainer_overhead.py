"""
What the trainer costs: images a second of `DistillationTrainer` with a filled teacher cache,

* against a loop of plain PyTorch that does the same work on tensors that lie ready in memory (at least 0.90 of it);
* against stock `Trainer` over a `datasets` column of nested lists of floats (at least 3 times as many).

    python benchmarks/trainer_overhead.py
    python benchmarks/trainer_overhead.py --profile     # where the time of a step goes, by cProfile

Student, batch, optimizer, schedule, clipping and loss are equal; one thread, CPU time, contenders in turns.
"""

import argparse
import cProfile
import pstats
import tempfile
import time

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from common import alternate, cpu_seconds, ratios, write_result
from transformers import Trainer, TrainingArguments
from transformers.optimization import get_linear_schedule_with_warmup
from workload import (
    BATCH,
    LEARNING_RATE,
    PROCESSOR,
    distillation_trainer,
    images,
    shared_arguments,
    trainer_epoch,
    use_one_thread,
    vit,
)

from hf_genkit.data import ArrayImageDataset, prepare_pixels


ALPHA, TEMPERATURE = 0.5, 4.0


def bare_epoch(pixels: torch.Tensor, labels: torch.Tensor, teacher_logits: torch.Tensor) -> float:
    """CPU seconds of an epoch over normalised images, labels and teacher logits that are tensors in memory."""
    student = vit().train()
    steps = len(pixels) // BATCH
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, steps)

    def epoch() -> None:
        order = torch.randperm(len(pixels))
        for indices in order.split(BATCH):
            logits = student(pixel_values=pixels[indices]).logits
            soft = F.kl_div(
                F.log_softmax(logits / TEMPERATURE, -1),
                F.log_softmax(teacher_logits[indices] / TEMPERATURE, -1),
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


def float_column(pixels: torch.Tensor, labels: np.ndarray) -> datasets.Dataset:
    """What a tutorial builds: a column of nested lists of floats, and labels."""
    rows = {"pixel_values": list(pixels.numpy()), "labels": labels.tolist()}
    features = datasets.Features(
        {
            "pixel_values": datasets.List(datasets.List(datasets.List(datasets.Value("float32")))),
            "labels": datasets.Value("int64"),
        }
    )
    return datasets.Dataset.from_dict(rows, features=features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200, help="Length of an epoch.")
    parser.add_argument("--pairs", type=int, default=9, help="Alternating pairs against the bare loop.")
    parser.add_argument("--profile", action="store_true", help="Profile an epoch and measure nothing.")
    args = parser.parse_args()
    use_one_thread()
    raw, labels, source = images(args.batches * BATCH)
    dataset = ArrayImageDataset(raw, labels)
    teacher = vit(layers=4, seed=1).eval()
    pixels = prepare_pixels(torch.from_numpy(raw), PROCESSOR)
    with torch.no_grad():
        teacher_logits = torch.cat([teacher(pixel_values=part).logits for part in pixels.split(1000)])

    with tempfile.TemporaryDirectory() as cache:
        options = {"alpha": ALPHA, "temperature": TEMPERATURE, "teacher_cache": cache}
        with tempfile.TemporaryDirectory() as folder:
            distillation_trainer(folder, dataset, teacher, **options).fill_teacher_cache()

        def ours() -> float:
            return trainer_epoch(lambda out, timer: distillation_trainer(out, dataset, teacher, timer, **options))

        def bare() -> float:
            return bare_epoch(pixels, torch.from_numpy(labels), teacher_logits)

        if args.profile:
            profiler = cProfile.Profile(time.process_time)
            profiler.runcall(ours)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(60)
            return
        start = time.time()
        seconds = alternate({"bare loop": bare, "hf_genkit": ours}, args.pairs)
        report("bare_loop", "Throughput against a bare PyTorch loop", 0.90, seconds, len(raw), source, start)

        column = float_column(pixels, labels)

        def stock() -> float:
            arguments = shared_arguments()
            return trainer_epoch(
                lambda out, timer: Trainer(
                    vit(), TrainingArguments(out, **arguments), train_dataset=column, callbacks=[timer]
                )
            )

        start = time.time()
        seconds = alternate({"stock Trainer": stock, "hf_genkit": ours}, max(3, args.pairs // 3))
        report("stock_trainer", "Throughput against Trainer on lists of floats", 3.0, seconds, len(raw), source, start)


def report(peer: str, claim: str, bar: float, seconds: dict, samples: int, source: str, start: float) -> None:
    """Writes the result of one pair of contenders."""
    first, second = seconds
    value, spread = ratios(seconds[first], seconds[second])
    write_result(
        f"trainer_overhead-{peer}",
        claim=claim,
        value=value,
        bar=bar,
        at_least=True,
        spread=spread,
        spread_kind=f"quartiles of {len(seconds[first])} pairs",
        seconds=time.time() - start,
        details={
            "batch": BATCH,
            "data": source,
            "images_per_second": {name: round(samples * len(runs) / sum(runs)) for name, runs in seconds.items()},
            "milliseconds_per_step": {
                name: round(1000 * sum(runs) / len(runs) / (samples / BATCH), 3) for name, runs in seconds.items()
            },
            "student": "ViT, 3 layers, hidden 64, 4 heads, 28x28 grey, patch 7",
            "time": "CPU time of an epoch",
        },
    )


if __name__ == "__main__":
    main()
