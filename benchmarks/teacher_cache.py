"""
What a teacher costs once its logits are in the cache:

* an epoch with a filled cache against an epoch of the same trainer without any teacher (at most 1.05 of it);
* a loop of plain PyTorch that runs the teacher at each step against an epoch with a filled cache, for three teachers.

    python benchmarks/teacher_cache.py
    python benchmarks/teacher_cache.py --full           # longer epochs

The first epoch, which fills the cache, runs the teacher like any other loop. One thread, CPU time.
"""

import argparse
import tempfile
import time

import torch
from common import alternate, ratios, write_result
from workload import (
    BATCH,
    PROCESSOR,
    describe,
    distillation_trainer,
    fill_cache,
    images,
    plain_epoch,
    trainer_epoch,
    vit,
)

from hf_genkit.data import ArrayImageDataset, prepare_pixels


# Layers, width and heads; batches of an epoch.
TEACHERS = {
    "small": ({"layers": 4, "hidden": 128, "heads": 4}, 50),
    "middle": ({"layers": 8, "hidden": 256, "heads": 8}, 20),
    "large": ({"layers": 12, "hidden": 512, "heads": 8}, 10),
}


def against_no_teacher(batches: int, rounds: int) -> None:
    """A filled cache against no teacher at all."""
    start = time.time()
    raw, labels, source = images(batches * BATCH)
    dataset = ArrayImageDataset(raw, labels)
    teacher = vit(layers=4, seed=1)
    with tempfile.TemporaryDirectory() as cache:
        fill_cache(cache, dataset, teacher)
        seconds = alternate(
            {
                "filled cache": lambda: trainer_epoch(
                    lambda out: distillation_trainer(out, dataset, teacher, teacher_cache=cache)
                ),
                "no teacher": lambda: trainer_epoch(lambda out: distillation_trainer(out, dataset)),
            },
            rounds,
        )
    value, spread = ratios(*seconds.values())
    write_result(
        "teacher_cache-no_teacher",
        claim="Epoch with a filled cache against no teacher",
        value=value,
        bar=1.05,
        at_least=False,
        spread=spread,
        spread_kind=f"quartiles of {rounds} rounds",
        seconds=time.time() - start,
        details={
            **describe(seconds, 2 * len(raw), source),
            "note": "without a teacher the loss has one term (alpha 0), with it two",
        },
    )


def against_naive_loop(factor: int, rounds: int) -> None:
    """A plain loop with the teacher in it against a filled cache, for teachers of three sizes."""
    start = time.time()
    gains, details = {}, {}
    for name, (size, batches) in TEACHERS.items():
        raw, labels, source = images(factor * batches * BATCH)
        dataset = ArrayImageDataset(raw, labels)
        pixels = prepare_pixels(torch.from_numpy(raw), PROCESSOR)
        teacher = vit(**size, seed=1).eval()

        @torch.no_grad()
        def run_teacher(indices: torch.Tensor, teacher=teacher, pixels=pixels) -> torch.Tensor:
            return teacher(pixel_values=pixels[indices]).logits

        with tempfile.TemporaryDirectory() as cache:
            fill_cache(cache, dataset, teacher)
            print(f"{name} teacher:")
            seconds = alternate(
                {
                    "naive loop": lambda: plain_epoch(pixels, torch.from_numpy(labels), run_teacher),  # noqa: B023
                    "filled cache": lambda: trainer_epoch(
                        lambda out: distillation_trainer(out, dataset, teacher, teacher_cache=cache)  # noqa: B023
                    ),
                },
                rounds,
            )
        gains[name] = ratios(*seconds.values())
        details[name] = {
            **describe(seconds, 2 * len(raw), source),
            "gain": round(gains[name][0], 3),
            "quartiles": [round(end, 3) for end in gains[name][1]],
            "teacher": f"ViT, {size['layers']} layers, hidden {size['hidden']}, {teacher.num_parameters():,} parameters",
        }
        print(f"{name} teacher: {gains[name][0]:.2f} times as fast as the naive loop")
    value, spread = gains["middle"]
    write_result(
        "teacher_cache-naive_loop",
        claim="Speed with a filled cache against running a middle-sized teacher at each step",
        value=value,
        bar=1.0,
        at_least=True,
        spread=spread,
        spread_kind=f"quartiles of {rounds} rounds",
        seconds=time.time() - start,
        details=details,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Epochs five times as long.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    factor = 5 if args.full else 1
    against_no_teacher(batches=100 * factor, rounds=9)
    against_naive_loop(factor, rounds=3)


if __name__ == "__main__":
    main()
