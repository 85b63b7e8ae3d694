"""
A VAE, a GAN and a diffusion model with one budget: Fashion-MNIST, Frechet distance over DINOv2-small.

    python benchmarks/families.py           # a CPU minute for each of 3 families and 3 seeds, about 14 minutes of CPU time
    python benchmarks/families.py --full    # 10 minutes each, larger networks, 5,000 pictures; for one GPU
    python benchmarks/families.py --full --budget 40s

It is recipes/compare/fashion_mnist.yaml, with a local copy of the data. Every model gets the same seconds within its training
steps, on the same clock, and is of like size. The test images are the reference, and as many training images are the floor. The
report goes to docs/examples/fashion_mnist_comparison. A benchmark that was cut off goes on where it was.

Data: python benchmarks/real_data.py fashion_mnist data/fashion_mnist. DINOv2-small: python benchmarks/real_data.py dinov2_small
data/dinov2-small, or --dinov2 facebook/dinov2-small.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from common import ROOT, write_result
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging

from hf_genkit import GenkitParser
from hf_genkit.arguments import ComparisonArguments, ComparisonOutputArguments, FineTuningDataArguments
from hf_genkit.compare import compare_pictures
from hf_genkit.compare.findings import Found, with_ends
from hf_genkit.evaluation import METRIC_NAMES, paired_difference
from hf_genkit.report.writing import write_report


EXAMPLE = ROOT / "docs" / "examples" / "fashion_mnist_comparison"
FULL = [
    "--clock", "wall", "--parameters", "4000000", "--batch_size", "256", "--bf16", "true",
    "--num_judged_pictures", "5000", "--max_real_pictures", "10000",
]  # fmt: skip


def markdown(found: Found) -> str:
    """One row for each family, the nearest to real images first, and one for real images."""
    lines = [
        f"| Family | {' | '.join(METRIC_NAMES.values())} | ms for a picture | Steps in its budget |",
        "|---" * (len(METRIC_NAMES) + 3) + "|",
    ]
    for name in found.by_fd():
        scores = [with_ends(found.interval(name, metric)) if metric == "fd" else f"{found.interval(name, metric).mean:.3g}"
                  for metric in METRIC_NAMES]  # fmt: skip
        seconds = found.median(name, lambda run: run["points"][-1]["seconds"])
        steps = found.median(name, lambda run: run["steps"])
        lines.append(f"| {name} | {' | '.join(scores)} | {1000 * seconds:.3g} | {steps:,.0f} |")
    floor = [f"{found.results['floor'][f'{metric}_{found.slug}']:.3g}" for metric in METRIC_NAMES]
    return "\n".join([*lines, f"| real images | {' | '.join(floor)} | | |"])


def main() -> None:
    start = time.time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Larger networks, on the wall's clock; for a GPU.")
    parser.add_argument("--budget", help="Of each run of --full; default: 10m.")
    parser.add_argument("--data", default="data/fashion_mnist", help="Fashion-MNIST: a folder or Hub id.")
    parser.add_argument("--dinov2", default="data/dinov2-small", help="DINOv2-small: a folder or Hub id.")
    args = parser.parse_args()
    if args.budget and not args.full:
        parser.error("--budget belongs to --full.")
    full = ["--full", "--budget", args.budget or "10m"] if args.full else []
    logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    torch.set_num_threads(8 if args.full else 1)
    folder = Path("outputs/families-full" if args.full else "outputs/families")
    options = ["--config", str(ROOT / "recipes" / "compare" / "fashion_mnist.yaml"), "--output_dir", str(folder)]
    options += [
        "--dataset_name",
        args.data,
        "--feature_extractor",
        args.dinov2,
        *(FULL + full[1:] if args.full else []),
    ]
    parser = GenkitParser((ComparisonArguments, FineTuningDataArguments, ComparisonOutputArguments))
    compared, data, output = parser.parse_args_into_dataclasses(options)
    command = " ".join(["python benchmarks/families.py", *full])
    report = compare_pictures(compared, data, output, command)
    write_report(report, folder, overwrite=True)
    print("\n".join(report.summary), flush=True)
    if not args.full:
        EXAMPLE.mkdir(parents=True, exist_ok=True)
        for picture in folder.glob("*.png"):
            shutil.copyfile(picture, EXAMPLE / picture.name)
        write_report(report, EXAMPLE, overwrite=True)

    found = Found(json.loads((folder / "results.json").read_text()))
    best, second = found.by_fd()[:2]
    gap = paired_difference(found.scores(second, "fd"), found.scores(best, "fd"))
    write_result(
        f"families-order{'_gpu' if args.full else ''}",
        claim=f"FD (DINOv2-S) of the second family minus that of the best: {second} minus {best}, {compared.budget} each"
        f"{', on a GPU' if args.full else ''}",
        value=gap.mean,
        bar=0.0,
        at_least=True,
        spread=(gap.low, gap.high),
        spread_kind=f"95 % interval over {gap.n} paired seeds",
        seconds=time.time() - start,
        unit="FD",
        details={
            "budget": compared.budget,
            "clock": compared.clock,
            "data": "Fashion-MNIST: 60,000 training images less a validation split, the test images as the reference",
            "floor": found.results["floor"],
            "markdown": markdown(found),
            "models": {name: plan["model_config"] for name, plan in found.results["plans"].items()},
            "parameters": {name: plan["parameters"] for name, plan in found.results["plans"].items()},
            "pictures": compared.num_judged_pictures,
            "reference": compared.max_real_pictures,
            "scores": {name: found.scores(name, "fd") for name in found.names},
            "stability": {name: [run.get("verdict") for run in found.runs[name]] for name in found.names},
            "training_seconds": {name: found.values(name, lambda run: run["seconds"]) for name in found.names},
        },
    )


if __name__ == "__main__":
    main()
