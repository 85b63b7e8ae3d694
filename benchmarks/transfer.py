"""
What does transfer learning give over the same architecture from scratch, and what does freezing layers save?

    python benchmarks/transfer.py           # about 15 minutes of CPU time
    python benchmarks/transfer.py --full    # all variants, 5 seeds, larger images, longer training

Needs what real_data.py makes of packages: elpv and rotten_tomatoes, dinov2_small and minilm, in data/ or in --data_dir.

Solar cells (ELPV: defective or not, 1,000 labelled images, 800 test images): DINOv2-small with its embeddings and first
five layers frozen, against the same architecture with random weights; and what the two cost in training, on the same
batch. Reviews (Rotten Tomatoes, 1,000 test reviews): MiniLM, all of it fine-tuned on 100 and on 1,000 labels, against
the same architecture with random weights. In each comparison both take the same number of steps on the same samples,
which each seed draws anew. Learning rates were not searched: usual values, one for pre-trained and one for random weights,
were looked at once on the validation split of the solar cells. From scratch needs more steps than this: with 5 epochs at
56 pixels it reached 0.80 to 0.82 there, DINOv2-small with five frozen layers 0.83.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import alternate, cpu_seconds, ratios, write_result
from transformers import AutoImageProcessor, set_seed
from transformers.utils import logging

from hf_genkit.arguments import DataArguments
from hf_genkit.arguments.transfer_arguments import TransferArguments
from hf_genkit.data import load_data
from hf_genkit.evaluation import mean_interval, paired_difference
from hf_genkit.trainers.finetuning_config import FineTuningConfig
from hf_genkit.trainers.finetuning_trainer import FineTuningTrainer
from hf_genkit.tuning.cost import training_cost
from hf_genkit.tuning.transfer import Transfer
from hf_genkit.tuning.transfer_report import variant_name


MAX_LENGTH = 32
PARTS = ["costs", "elpv", "reviews_100", "reviews_1000"]
RATES = {
    "elpv": {"scratch": 3e-4, "all": 1e-3, "first:5": 1e-4, "none": 1e-4},
    "reviews": {"scratch": 3e-4, "all": 1e-3, "none": 1e-4},
}


def transfer_of(data_dir: Path, model: str, data: str, variants: list[str]) -> Transfer:
    args = TransferArguments(model_name_or_path=str(data_dir / model), variants=variants)
    data_args = DataArguments(dataset_name=str(data_dir / data))
    return Transfer(args, data_args, load_data(**data_args.for_loading()))


def inputs(transfer: Transfer, split, seed: int, augmentation: str | None = None):
    options = {"augmentation": augmentation, "seed": seed, "max_length": MAX_LENGTH}
    return transfer.data.inputs(split, transfer.processor, **options)


def train(transfer: Transfer, variant: str, train_inputs, seed: int, epochs: float, rate: float) -> FineTuningTrainer:
    set_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        config = FineTuningConfig(
            folder,
            num_train_epochs=epochs,
            learning_rate=rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.05,
            per_device_train_batch_size=32 if len(train_inputs) > 200 else 16,
            per_device_eval_batch_size=200,
            bf16=True,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            log_level="error",
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = FineTuningTrainer(
            transfer.new_model(variant),
            config,
            train_dataset=train_inputs,
            data_collator=transfer.data.collator(transfer.processor),
            processing_class=transfer.processor,
        )
        trainer.train()
    return trainer


def compare(
    transfer: Transfer, rates: dict, variants: list[str], *, labels: int, epochs: float, seeds: int, augmentation=None
):
    """Test accuracy of each variant for each seed, and CPU seconds of each training."""
    test = inputs(transfer, transfer.data.test_split, 0)
    accuracies, seconds = ({variant: [] for variant in variants} for _ in range(2))
    for seed in range(seeds):
        labelled, _ = transfer.data.training_splits(labels, seed)
        labelled = inputs(transfer, labelled, seed, augmentation)
        for variant in variants:
            start = time.process_time()
            trainer = train(transfer, variant, labelled, seed, epochs, rates[variant])
            seconds[variant].append(round(time.process_time() - start, 1))
            accuracies[variant].append(trainer.evaluate(test)["eval_accuracy"])
        print(
            f"{labels} labels, seed {seed}: " + ", ".join(f"{v} {a[-1]:.4f}" for v, a in accuracies.items()),
            flush=True,
        )
    return accuracies, seconds


def write_accuracy(name: str, claim: str, against: str, found, start: float, **details) -> None:
    accuracies, seconds = found
    difference = paired_difference(accuracies[against], accuracies["scratch"])
    write_result(
        f"transfer-{name}",
        claim=claim,
        value=difference.mean,
        bar=0.0,
        at_least=True,
        spread=(difference.low, difference.high),
        spread_kind=f"95 % interval over {difference.n} paired seeds",
        unit="accuracy",
        seconds=time.time() - start,
        details={
            "accuracies": {v: [round(value, 4) for value in values] for v, values in accuracies.items()},
            "cpu_seconds": seconds,
            "markdown": table(accuracies, seconds),
            **details,
        },
    )


def table(accuracies: dict[str, list[float]], seconds: dict[str, list[float]]) -> str:
    lines = ["| Variant | Test accuracy | 95 % interval | Training, CPU time |", "|---|---|---|---|"]
    for variant, values in accuracies.items():
        interval = mean_interval(values)
        lines.append(
            f"| {variant_name(variant)} | {interval.mean:.3f} | {interval.low:.3f} to {interval.high:.3f} | "
            f"{statistics.median(seconds[variant]):.0f} s |"
        )
    return "\n".join(lines)


def measure_costs(transfer: Transfer, side: int, rounds: int) -> None:
    """Memory and time of a step with nothing frozen, five layers frozen and all layers frozen, on one batch."""
    start = time.time()
    batch = {"pixel_values": torch.randn(32, 3, side, side), "labels": torch.arange(32) % 2}
    costs, steps = {}, {}
    for variant in ("none", "first:5", "all"):
        model = transfer.new_model(variant).train()
        costs[variant] = training_cost(model, batch, steps=1)
        steps[variant] = step_of(model, batch)
    seconds = alternate(steps, rounds)
    whole, frozen = costs["none"], costs["first:5"]
    lines = [
        "| Variant | Trained | Optimizer | Gradients | Activations | Step, CPU time |",
        "|---|---|---|---|---|---|",
    ]
    for variant, cost in costs.items():
        megabytes = [cost.optimizer_bytes / 1e6, cost.gradient_bytes / 1e6, cost.activation_bytes / 1e6]
        cells = [f"{cost.trainable_parameters:,}", *(f"{value:.1f} MB" for value in megabytes)]
        lines.append(
            f"| {variant_name(variant)} | {' | '.join(cells)} | {statistics.median(seconds[variant]) / 2:.2f} s |"
        )
    details = {"model": "DINOv2-small", "batch": 32, "image_side": side, "markdown": "\n".join(lines)}
    memory = whole.optimizer_bytes / frozen.optimizer_bytes
    write_result(
        "transfer-memory",
        claim="Optimizer memory of DINOv2-small, all layers trained over first five frozen",
        value=memory,
        bar=1.7,
        at_least=True,
        spread=(memory, memory),
        spread_kind="counted, no spread",
        seconds=time.time() - start,
        details=details,
    )
    value, quartiles = ratios(seconds["none"], seconds["first:5"])
    write_result(
        "transfer-step_time",
        claim="CPU time of a training step, all layers trained over first five frozen",
        value=value,
        bar=1.25,
        at_least=True,
        spread=quartiles,
        spread_kind=f"quartiles of {rounds} rounds",
        seconds=time.time() - start,
        details={**details, "precision": "bf16 autocast"},
    )


def step_of(model: torch.nn.Module, batch: dict):
    """A function that takes one training step and returns its CPU seconds."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()

    return lambda: cpu_seconds(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="Where real_data.py put data and models.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="What to measure.")
    parser.add_argument("--full", action="store_true", help="All variants, 5 seeds, larger images, longer training.")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    seeds, side = (5, 112) if args.full else (3, 84)

    if {"costs", "elpv"} & set(args.parts):
        cells = transfer_of(args.data_dir, "dinov2-small", "elpv", ["first:5"])
        cells.processor = AutoImageProcessor.from_pretrained(cells.source, size={"height": side, "width": side})
    if "costs" in args.parts:
        measure_costs(cells, side, rounds=10 if args.full else 4)
    if "elpv" in args.parts:
        variants = ["first:5", "scratch", *(["all", "none"] if args.full else [])]
        start, epochs = time.time(), 5 if args.full else 2
        found = compare(cells, RATES["elpv"], variants, labels=1000, epochs=epochs, seeds=seeds, augmentation="flip")
        about = {
            "labels": 1000,
            "epochs": epochs,
            "learning_rates": RATES["elpv"],
            "image_side": side,
            "model": "DINOv2-small",
        }
        claim = "DINOv2-small with its first five layers frozen minus from scratch, 1,000 images of solar cells"
        write_accuracy("elpv", claim, "first:5", found, start, **about)
    variants = ["none", "scratch", *(["all"] if args.full else [])]
    for labels, epochs in ((100, 8), (1000, 5 if args.full else 2)):
        if f"reviews_{labels}" not in args.parts:
            continue
        reviews = transfer_of(args.data_dir, "minilm", "rotten_tomatoes", ["none"])
        start = time.time()
        found = compare(reviews, RATES["reviews"], variants, labels=labels, epochs=epochs, seeds=seeds)
        about = {"labels": labels, "epochs": epochs, "learning_rates": RATES["reviews"], "model": "MiniLM-L6"}
        claim = f"MiniLM fine-tuned minus from scratch, {labels:,} movie reviews"
        write_accuracy(f"reviews_{labels}", claim, "none", found, start, **about)


if __name__ == "__main__":
    main()
