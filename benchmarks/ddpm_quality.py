"""
What to predict, how to weight it and how many steps to draw in: Fashion-MNIST, Frechet distance over DINOv2-small.

    python benchmarks/ddpm_quality.py                # small UNet, 2 seeds, about 14 minutes of CPU time
    python benchmarks/ddpm_quality.py --steps 450 --seeds 3      # three times as long, an hour
    python benchmarks/ddpm_quality.py --full         # larger UNet, more steps, 1000-step sampling too; for a GPU
    python benchmarks/ddpm_quality.py --reference --minutes 5    # one DiT on the full set, 10,000 samples; for a GPU

Every run has the same network, batches, number of optimizer steps and learning rate, and for each seed the same first
weights, images and noise. Pictures of the averaged and of the raw weights are drawn from the same noise, without guidance,
by first-order samplers (DDIM, and Euler for flows) in several numbers of steps, and judged against the 10,000 test images;
as many training images are the floor.

DINOv2-small: python benchmarks/real_data.py dinov2_small data/dinov2-small, or --dinov2 facebook/dinov2-small.
Runs that are done are kept in outputs/ddpm_quality, so a benchmark that was cut off goes on.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import cpu_seconds, write_result
from diffusers import DiTTransformer2DModel
from real_data import fashion_mnist_arrays
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from hf_genkit import DiffusionConfig, DiffusionTrainer
from hf_genkit.data import ArrayImageDataset, image_processor_for
from hf_genkit.evaluation import FeatureExtractor, PictureJudge, mean_interval, paired_difference, save_grid
from hf_genkit.pipelines import UnconditionalPipeline
from hf_genkit.trainers.diffusion_models import new_network


FOLDER = Path("outputs/ddpm_quality")
VARIANTS = {
    "epsilon": {"prediction_type": "epsilon"},
    "epsilon, min-SNR": {"prediction_type": "epsilon", "weighting": "min_snr"},
    "v": {"prediction_type": "v"},
    "v, min-SNR": {"prediction_type": "v", "weighting": "min_snr"},
    "flow": {"prediction_type": "flow"},
}
SHORT = {
    "network": {"block_out_channels": [16, 32, 32], "layers_per_block": 1},
    "batch": 64, "steps": 150, "seeds": 2, "pictures": 200, "sampling": [50, 20, 10], "learning_rate": 2e-3,
    "ema_decay": 0.98,
}  # fmt: skip
FULL = {
    "network": {"block_out_channels": [64, 128, 128], "layers_per_block": 2},
    "batch": 256, "steps": 1500, "seeds": 3, "pictures": 2000, "sampling": [1000, 50, 20, 10], "learning_rate": 1e-3,
    "ema_decay": 0.995,
}  # fmt: skip
REFERENCE = {"batch": 1024, "pictures": 10_000, "learning_rate": 1e-3, "ema_decay": 0.999, "compile": True}
DATA = "Fashion-MNIST: 60,000 training images, 10,000 test images as the reference"


def train(network, config: dict, length: dict, seed: int, data: ArrayImageDataset) -> tuple[DiffusionTrainer, dict]:
    """A trained diffusion model, and what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        args = DiffusionConfig(
            folder,
            seed=seed,
            max_steps=length["steps"],
            per_device_train_batch_size=length["batch"],
            learning_rate=length["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            ema_decay=length["ema_decay"],
            bf16=torch.cuda.is_available(),
            torch_compile=length.get("compile", False),
            dataloader_drop_last=True,
            save_strategy="no",
            logging_steps=max(1, length["steps"] // 20),
            num_sample_pictures=0,
            report_to="none",
            disable_tqdm=True,
            **config,
        )
        trainer = DiffusionTrainer(network, args=args, train_dataset=data, processing_class=image_processor_for(1, 28))
        trainer.remove_callback(PrinterCallback)
        start = time.time()
        cpu = cpu_seconds(trainer.train)
        return trainer, {"training_seconds": time.time() - start, "cpu_seconds": cpu}


def draw(trainer: DiffusionTrainer, count: int, steps: int, *, raw: bool = False) -> np.ndarray:
    """Grey levels of pictures, `[count, 1, 28, 28]`; picture i of any pipeline begins with the same noise."""
    found = trainer.pipeline(raw=raw)
    pipeline = UnconditionalPipeline(found.unet, found.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    with torch.autocast(trainer.args.device.type, torch.bfloat16, enabled=torch.cuda.is_available()):
        drawn = pipeline(
            count,
            num_inference_steps=steps,
            seed=0,
            batch_size=1000 if torch.cuda.is_available() else 100,
            output_type="pt",
        ).images
    return drawn.float().mul(255).round().byte().cpu().numpy()


def run(name: str, seed: int, length: dict, data: ArrayImageDataset, judge: PictureJudge) -> dict:
    """Trains one variant and scores its pictures: key "weights, steps" to the judge's scores."""
    set_seed(seed)
    network = new_network(length["network"], {"sample_size": 28, "in_channels": 1, "out_channels": 1})
    trainer, cost = train(network, VARIANTS[name], length, seed, data)
    scores = {}
    for steps in length["sampling"]:
        for weights in ("averaged", "raw"):
            if (weights == "raw" and steps != 20) or (steps > 50 and seed > 0):
                continue
            pictures = draw(trainer, length["pictures"], steps, raw=weights == "raw")
            scores[f"{weights}, {steps}"] = judge(pictures)
            if seed == 0 and weights == "averaged":
                FOLDER.mkdir(parents=True, exist_ok=True)
                save_grid(pictures[:40], FOLDER / f"{name.replace(', ', '-')}-{steps}.png", columns=10)
    return {**cost, "scores": scores, "parameters": network.num_parameters()}


def markdown(runs: dict[str, list[dict]], slug: str, floor: dict[str, float]) -> str:
    """One row for each variant, weights and number of steps."""
    lines = [
        "| Prediction | Weights | Steps | FD (DINOv2-S), mean (95 % interval) | Precision | Recall |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        for key in found[0]["scores"]:
            scores = [r["scores"][key] for r in found if key in r["scores"]]
            fd = mean_interval([score[f"fd_{slug}"] for score in scores])
            spread = "" if fd.low is None else f" ({fd.low:.0f} to {fd.high:.0f})"
            shares = [
                f"{mean_interval([score[f'{share}_{slug}'] for score in scores]).mean:.2f}"
                for share in ("precision", "recall")
            ]
            weights, steps = key.split(", ")
            lines.append(f"| {name} | {weights} | {steps} | {fd.mean:.0f}{spread} | {shares[0]} | {shares[1]} |")
    real = [floor[f"{key}_{slug}"] for key in ("fd", "precision", "recall")]
    return "\n".join([*lines, f"| real images | | | {real[0]:.0f} | {real[1]:.2f} | {real[2]:.2f} |"])


def compare(runs: dict[str, list[dict]], slug: str, length: dict, details: dict, seconds: float, suffix: str) -> None:
    """Writes what moving averages, min-SNR and flows are worth, each paired by seed."""

    def distances(name: str, key: str) -> list[float]:
        return [r["scores"][key][f"fd_{slug}"] for r in runs[name]]

    pairs = {
        "ema": ("raw minus averaged weights, v, 20 steps", ("v", "raw, 20"), ("v", "averaged, 20")),
        "min_snr": ("v minus v with min-SNR, 50 steps", ("v", "averaged, 50"), ("v, min-SNR", "averaged, 50")),
        "v": ("epsilon minus v, 50 steps", ("epsilon", "averaged, 50"), ("v", "averaged, 50")),
        "flow": ("v minus flow, 10 steps", ("v", "averaged, 10"), ("flow", "averaged, 10")),
    }
    for claim, (text, worse, better) in pairs.items():
        gain = paired_difference(distances(*worse), distances(*better))
        write_result(
            f"ddpm_quality-{claim}{suffix}",
            claim=f"FD (DINOv2-S) of {text}{', on a GPU' if suffix else ''}",
            value=gain.mean,
            bar=0.0,
            at_least=True,
            spread=(gain.low, gain.high),
            spread_kind=f"95 % interval over {gain.n} paired seeds",
            seconds=seconds,
            details={**length, **details},
            unit="FD",
        )


def reference(data: ArrayImageDataset, judge: PictureJudge, minutes: float) -> None:
    """One DiT of the size that smalldiffusion publishes, trained for some minutes: its scores, and what it took."""
    config = {"prediction_type": "flow", "timestep_density": "logit_normal"}

    def trained(steps: int) -> tuple[DiffusionTrainer, dict]:
        set_seed(0)
        network = DiTTransformer2DModel(
            num_attention_heads=6, attention_head_dim=32, in_channels=1, out_channels=1, num_layers=6, sample_size=28,
            patch_size=2, num_embeds_ada_norm=1,
        )  # fmt: skip
        return train(network, config, REFERENCE | {"steps": steps}, 0, data)

    start = time.time()
    trained(20)  # compiles
    short, long = (trained(steps)[1]["training_seconds"] for steps in (20, 70))
    step = (long - short) / 50
    steps = int((60 * minutes - short) / step)
    print(f"{1000 * step:.1f} ms a step, {steps} steps", flush=True)
    trainer, cost = trained(steps)
    print({name: round(value, 1) for name, value in cost.items()}, flush=True)
    scores, seconds = {}, {}
    for number in (50, 20, 10):
        began = time.time()
        pictures = draw(trainer, REFERENCE["pictures"], number)
        seconds[number] = round(time.time() - began, 1)
        scores[number] = judge(pictures)
        print(number, seconds[number], scores[number], flush=True)
        save_grid(pictures[:100], FOLDER / f"reference-{number}.png", columns=10)
    taken = cost["training_seconds"] / 60
    write_result(
        "ddpm_quality-reference",
        claim="Training of a DiT on full Fashion-MNIST with one GPU",
        value=taken,
        bar=10.0,
        at_least=False,
        spread=(taken, taken),
        spread_kind="one run",
        seconds=time.time() - start,
        details={
            **REFERENCE,
            **config,
            "data": DATA,
            "floor": judge.floor,
            "images_per_second": round(REFERENCE["batch"] / step),
            "parameters": sum(p.numel() for p in trainer.model.raw.parameters()),
            "scores": scores,
            "seconds_of_drawing_10000": seconds,
            "steps": steps,
        },
        unit="min",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="A larger UNet, more steps and seeds; for a GPU.")
    parser.add_argument("--reference", action="store_true", help="One DiT on the full set; for a GPU.")
    parser.add_argument("--steps", type=int, help="Optimizer steps of each run, instead of 150 (or 1500).")
    parser.add_argument("--seeds", type=int, help="Seeds of each variant, instead of 2 (or 3).")
    parser.add_argument("--minutes", type=float, default=5, help="Training time of --reference.")
    parser.add_argument("--dinov2", default="data/dinov2-small", help="DINOv2-small: a folder or Hub id.")
    args = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    pixels, labels = fashion_mnist_arrays("train")
    data = ArrayImageDataset(pixels[:, None], labels)
    test = fashion_mnist_arrays("test")[0][:, None]
    extractor = FeatureExtractor(
        args.dinov2, name="DINOv2-S", size=56, batch_size=1000 if torch.cuda.is_available() else 64
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    metrics = {"metrics": ["fd", "prdc"], "cache_dir": FOLDER / "features"}
    judge = PictureJudge(extractor, test, floor_set=data, **metrics)
    if args.reference:
        reference(data, judge, args.minutes)
        return

    chosen = {name: value for name, value in (("steps", args.steps), ("seeds", args.seeds)) if value is not None}
    length = (FULL if args.full else SHORT) | chosen
    if not args.full:  # features of 10,000 images would take as long as the rest
        judge = PictureJudge(extractor, test, floor_set=data, max_samples=2000, **metrics)
    path = FOLDER / f"runs-{'full' if args.full else 'short'}-{length['steps']}.json"
    done = json.loads(path.read_text()) if path.is_file() else {}
    start = time.time()
    for seed in range(length["seeds"]):
        for name in VARIANTS:
            key = f"{name} {seed}"
            if key not in done:
                began = time.time()
                done[key] = {**run(name, seed, length, data, judge), "seconds": 0.0}
                done[key]["seconds"] = time.time() - began
                path.write_text(json.dumps(done, indent=2))
                scores = done[key]["scores"]["averaged, 50"]
                print(key, round(done[key]["seconds"]), {k: round(v, 2) for k, v in scores.items()}, flush=True)
    slug = extractor.slug
    runs = {name: [done[f"{name} {seed}"] for seed in range(length["seeds"])] for name in VARIANTS}
    judge.samples = length["pictures"]
    table = markdown(runs, slug, judge.floor)
    print(table, flush=True)
    every = [r for found in runs.values() for r in found]
    details = {
        "cpu_seconds_of_a_training": round(sum(r["cpu_seconds"] for r in every) / len(every), 1),
        "data": DATA if args.full else f"{DATA}, 2,000 of these",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread",
        "markdown": table,
        "parameters": every[0]["parameters"],
        "training_seconds": round(sum(r["training_seconds"] for r in every) / len(every), 1),
    }
    seconds = sum(r["seconds"] for r in every) + time.time() - start
    compare(runs, slug, length, details, seconds, "_gpu" if args.full else "")


if __name__ == "__main__":
    main()
