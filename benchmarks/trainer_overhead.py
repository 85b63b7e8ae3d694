"""
What the trainer costs: images a second of `DistillationTrainer` with a filled teacher cache,

* against a loop of plain PyTorch that does the same work on tensors that lie ready in memory (at least 0.90 of it);
* against stock `Trainer` over a `datasets` column of nested lists of floats (at least 3 times as many).

    python benchmarks/trainer_overhead.py
    python benchmarks/trainer_overhead.py --full        # an epoch of all 60,000 images for each run
    python benchmarks/trainer_overhead.py --profile     # where the time of a step goes, by cProfile

Student, batch, optimizer, schedule and clipping are equal, and the loss too, except that stock `Trainer` has labels
alone. One thread, CPU time.
"""

import argparse
import cProfile
import pstats
import tempfile
import time

import datasets
import numpy as np
import torch
from common import alternate, cpu_seconds, ratios, write_result
from transformers import Trainer, TrainingArguments, default_data_collator
from workload import (
    BATCH,
    PROCESSOR,
    describe,
    distillation_trainer,
    fill_cache,
    images,
    plain_epoch,
    shared_arguments,
    trainer_epoch,
    vit,
)

from hf_genkit.data import ArrayImageDataset, BatchCollator, prepare_pixels


def float_column(pixels: torch.Tensor, labels: np.ndarray) -> datasets.Dataset:
    """What a tutorial builds: a column of nested lists of floats, and labels."""
    nested = datasets.List(datasets.List(datasets.List(datasets.Value("float32"))))
    features = datasets.Features({"pixel_values": nested, "labels": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"pixel_values": list(pixels.numpy()), "labels": labels}, features=features)


def milliseconds_of_fetching(dataset, collator) -> float:
    """CPU time to fetch and collate a shuffled batch, without any model."""
    batches = np.random.default_rng(0).permutation(len(dataset)).reshape(-1, BATCH).tolist()
    return round(1000 * cpu_seconds(lambda: [collator(dataset.__getitems__(b)) for b in batches]) / len(batches), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Longer epochs: 937 batches instead of 100.")
    parser.add_argument("--rounds", type=int, default=9, help="Rounds of two runs each.")
    parser.add_argument("--profile", action="store_true", help="Profile an epoch and measure nothing.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    raw, labels, source = images((937 if args.full else 100) * BATCH)
    dataset = ArrayImageDataset(raw, labels)
    teacher = vit(layers=4, seed=1).eval()
    pixels = prepare_pixels(torch.from_numpy(raw), PROCESSOR)
    with torch.no_grad():
        teacher_logits = torch.cat([teacher(pixel_values=part).logits for part in pixels.split(1000)])

    with tempfile.TemporaryDirectory() as cache:
        fill_cache(cache, dataset, teacher)

        def ours() -> float:
            return trainer_epoch(lambda out: distillation_trainer(out, dataset, teacher, teacher_cache=cache))

        def plain() -> float:
            return plain_epoch(pixels, torch.from_numpy(labels), lambda indices: teacher_logits[indices])

        column = float_column(pixels, labels)

        def stock() -> float:
            return trainer_epoch(
                lambda out: Trainer(vit(), TrainingArguments(out, **shared_arguments()), train_dataset=column)
            )

        if args.profile:
            profiler = cProfile.Profile(time.process_time)
            profiler.runcall(ours)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(60)
            return
        fetching = {
            "hf_genkit": milliseconds_of_fetching(dataset, BatchCollator(default_data_collator)),
            "stock Trainer": milliseconds_of_fetching(column, default_data_collator),
        }
        claims = {
            "plain_loop": ("Throughput against a loop of plain PyTorch", 0.90, {"plain loop": plain}),
            "stock_trainer": ("Throughput against `Trainer` on lists of floats", 3.0, {"stock Trainer": stock}),
        }
        for peer, (claim, bar, contender) in claims.items():
            start = time.time()
            seconds = alternate({**contender, "hf_genkit": ours}, args.rounds)
            value, spread = ratios(*seconds.values())
            details = describe(seconds, 2 * len(raw), source)
            if peer == "stock_trainer":
                details["milliseconds_of_fetching_a_batch"] = fetching
            write_result(
                f"trainer_overhead-{peer}",
                claim=claim,
                value=value,
                bar=bar,
                at_least=True,
                spread=spread,
                spread_kind=f"quartiles of {args.rounds} rounds",
                seconds=time.time() - start,
                details=details,
            )


if __name__ == "__main__":
    main()
