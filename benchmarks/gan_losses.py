"""
Eight adversarial losses with the same networks and the same budget: Fashion-MNIST, Frechet distance to the test images.

    python benchmarks/gan_losses.py           # a fully connected GAN, 6 seeds, about 10 minutes of CPU time
    python benchmarks/gan_losses.py --full    # DCGAN, ten times the steps, judged by DINOv2-small as well; for a GPU

Each run takes the same number of optimizer steps on batches of the same size, half of them the discriminator's and half
the generator's, from the same weights, images and latents for each seed. The only settings of a loss are those that
define it: the clipped weights of "wgan" and the penalty of "wgan_gp". The papers' several critic steps are left out,
since they would take steps away from the generator, and so are R1 and R2, which any loss could have.

2,000 pictures of the averaged generator are judged, by the features of a classifier that is trained once on the training
images and kept in outputs/gan_losses. Which loss is compared with the standard one is decided by seed 0, and the
comparison is made over the other seeds. Runs that are done are kept, so a benchmark that was cut off goes on.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import scipy.stats
import torch
from common import cpu_seconds, write_result
from real_data import fashion_mnist_arrays
from transformers import AutoConfig, AutoModelForImageClassification, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from hf_genkit import (
    DistillationConfig,
    DistillationTrainer,
    GANConfig,
    GANModel,
    GANTrainer,
    GANTrainingConfig,
    analyze_gan_stability,
)
from hf_genkit.data import ArrayImageDataset, Augmentation, image_processor_for
from hf_genkit.evaluation import FeatureExtractor, PictureJudge, mean_interval, paired_difference
from hf_genkit.losses.gan import GAN_LOSSES


FOLDER = Path("outputs/gan_losses")
STANDARD = "non_saturating"
PICTURES = 2000
PROCESSOR = image_processor_for(1, 28)
CLASSIFIER = {
    "model_type": "convnext", "num_channels": 1, "image_size": 28, "patch_size": 4, "num_stages": 2, "depths": [2, 2],
    "hidden_sizes": [32, 64], "num_labels": 10,
}  # fmt: skip
SHORT = {"architecture": "mlp", "batch": 64, "learning_rate": 1e-3, "seeds": 6, "steps": 1600}
FULL = {"architecture": "dcgan", "batch": 64, "learning_rate": 2e-4, "seeds": 6, "steps": 16000}


def train_classifier(train: ArrayImageDataset, folder: Path) -> None:
    """A small ConvNeXt with 64 features; its folder appears when it is whole."""
    set_seed(0)
    model = AutoModelForImageClassification.from_config(AutoConfig.for_model(**CLASSIFIER))
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        args = DistillationConfig(
            unfinished,
            alpha=0.0,
            max_steps=1000,
            per_device_train_batch_size=64,
            learning_rate=3e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        data = ArrayImageDataset(train.pixels, train.labels, augmentation=Augmentation(shift=1), seed=0)
        DistillationTrainer(model, None, args, train_dataset=data, processing_class=PROCESSOR).train()
        model.save_pretrained(Path(unfinished, "model"))
        PROCESSOR.save_pretrained(Path(unfinished, "model"))
        Path(unfinished, "model").rename(folder)


def run(loss_type: str, seed: int, train: ArrayImageDataset, judges: list[PictureJudge], length: dict) -> dict:
    """Trains one GAN; its Frechet distances, its verdict and what it cost."""
    start = time.time()
    set_seed(seed)
    model = GANModel(GANConfig(image_size=28, architecture=length["architecture"], discriminator_norm="none"))
    with tempfile.TemporaryDirectory() as folder:
        args = GANTrainingConfig(
            folder,
            seed=seed,
            loss_type=loss_type,
            max_steps=length["steps"],
            per_device_train_batch_size=length["batch"],
            learning_rate=length["learning_rate"],
            stop_on_failure=False,
            save_strategy="no",
            logging_steps=length["steps"] // 40,
            num_sample_pictures=0,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = GANTrainer(model, args, train_dataset=train, processing_class=PROCESSOR)
        trainer.remove_callback(PrinterCallback)
        cpu = cpu_seconds(trainer.train)
    pictures = model.generate(PICTURES, generator=torch.Generator().manual_seed(seed))
    verdict = analyze_gan_stability(trainer.state, loss_type=loss_type)
    scores = {name: value for judge in judges for name, value in judge(pictures).items()}
    return {
        **scores,
        "diversity": verdict.metrics["sample_diversity"],
        "cpu_seconds": cpu,
        "seconds": time.time() - start,
        "verdict": verdict.verdict,
    }


def markdown(runs: dict[str, list[dict]], key: str, floor: float) -> str:
    """One row a loss, the lowest mean distance first."""
    lines = [
        "| Loss | FD, mean (95 % interval) | Lowest to highest | Standard loss minus this | Collapsed | Diversity | Verdicts |",
        "|---|---|---|---|---|---|---|",
    ]
    for loss, found in sorted(runs.items(), key=lambda item: statistics.fmean(r[key] for r in item[1])):
        distances = [r[key] for r in found]
        mean, gain = mean_interval(distances), paired_difference([r[key] for r in runs[STANDARD]], distances)
        verdicts = Counter(r["verdict"] for r in found)
        gain_text = "" if loss == STANDARD else f"{gain.mean:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"
        cells = [
            loss,
            f"{mean.mean:.1f} ({mean.low:.1f} to {mean.high:.1f})",
            f"{min(distances):.1f} to {max(distances):.1f}",
            gain_text,
            f"{verdicts['mode_collapse']} of {len(found)}",
            f"{statistics.fmean(r['diversity'] for r in found):.2f}",
            ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in verdicts.most_common()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, f"| real images | {floor:.2f} | | | | 1.00 | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="DCGAN, ten times the steps, DINOv2 as a second judge.")
    parser.add_argument("--dinov2", default="data/dinov2-small", help="DINOv2-small for --full: a folder or Hub id.")
    args = parser.parse_args()
    length = FULL if args.full else SHORT
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    pixels, labels = fashion_mnist_arrays("train")
    train = ArrayImageDataset(pixels[:, None], labels)
    test = fashion_mnist_arrays("test")[0][:, None]
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "classifier").is_dir():
        train_classifier(train, FOLDER / "classifier")
    extractors = [FeatureExtractor(str(FOLDER / "classifier"), name="classifier")]
    if args.full:
        extractors.append(FeatureExtractor(args.dinov2, name="DINOv2-S", size=56))
    judges = [
        PictureJudge(extractor, test, floor_set=train, metrics=["fd"], cache_dir=FOLDER / "features")
        for extractor in extractors
    ]

    path = FOLDER / f"runs-{'full' if args.full else 'short'}.json"
    done = json.loads(path.read_text()) if path.is_file() else {}
    for seed in range(length["seeds"]):
        for loss in GAN_LOSSES:
            key = f"{loss} {seed}"
            if key not in done:
                done[key] = run(loss, seed, train, judges, length)
                path.write_text(json.dumps(done, indent=2))
                print(key, {k: round(v, 3) if k != "verdict" else v for k, v in done[key].items()}, flush=True)
    runs = {loss: [done[f"{loss} {seed}"] for seed in range(length["seeds"])] for loss in GAN_LOSSES}
    report(runs, judges, length)


def report(runs: dict[str, list[dict]], judges: list[PictureJudge], length: dict) -> None:
    """Writes two results: the loss that seed 0 chose against the standard one, and the spread of GANetic."""
    judge = judges[0]
    seconds = sum(r["seconds"] for found in runs.values() for r in found)
    key = f"fd_{judge.extractor.slug}"
    distances = {loss: [r[key] for r in found] for loss, found in runs.items()}
    judge.samples = PICTURES
    tables = {
        j.extractor.name: markdown(runs, f"fd_{j.extractor.slug}", j.floor[f"fd_{j.extractor.slug}"]) for j in judges
    }
    print("\n\n".join(tables.values()), flush=True)
    details = {
        **length,
        "cpu_seconds": round(sum(r["cpu_seconds"] for found in runs.values() for r in found)),
        "data": "Fashion-MNIST: 60,000 training images, 10,000 test images as the reference",
        "discriminator_norm": "none",
        "distances": {loss: [round(value, 3) for value in values] for loss, values in distances.items()},
        "learning_rate_chosen": "for the standard loss, 1e-3 rather than 5e-4, with a seed of its own",
        "floor": round(judge.floor[key], 3),
        "markdown": tables,
        "pictures": PICTURES,
        "settings_of_a_loss": {"wgan": "weight_clip 0.01", "wgan_gp": "gradient_penalty 10"},
        "steps_of_each_network": length["steps"] // 2,
        "verdicts": {loss: Counter(r["verdict"] for r in found) for loss, found in runs.items()},
    }
    chosen = min((loss for loss in GAN_LOSSES if loss != STANDARD), key=lambda loss: distances[loss][0])
    gain = paired_difference(distances[STANDARD][1:], distances[chosen][1:])
    write_result(
        "gan_losses-chosen_loss",
        claim=f"FD of the standard GAN loss minus that of {chosen}, same budget",
        value=gain.mean,
        bar=0.0,
        at_least=True,
        spread=(gain.low, gain.high),
        spread_kind=f"95 % interval over {gain.n} paired seeds",
        seconds=seconds,
        details={**details, "chosen": f"{chosen}, the lowest FD of seed 0, which the comparison leaves out"},
        unit="FD",
    )
    spreads = {loss: statistics.stdev(values) for loss, values in distances.items()}
    ratio = spreads[STANDARD] / spreads["ganetic"]
    degrees = length["seeds"] - 1
    factor = float(scipy.stats.f.ppf(0.975, degrees, degrees)) ** 0.5
    write_result(
        "gan_losses-ganetic_spread",
        claim="Spread of FD over seeds (standard deviation), the standard GAN loss against GANetic",
        value=ratio,
        bar=1.0,
        at_least=True,
        spread=(ratio / factor, ratio * factor),
        spread_kind=f"95 % interval of a ratio of standard deviations over {length['seeds']} seeds each, by F",
        seconds=seconds,
        details={"standard_deviations": {loss: round(value, 3) for loss, value in spreads.items()}, **length},
    )


if __name__ == "__main__":
    main()
