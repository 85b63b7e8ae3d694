"""
Does a VAE find what is not clothing, and the one class of clothes that it never saw? Fashion-MNIST, AUROC.

    python benchmarks/anomaly.py           # 3 seeds, about 13 minutes of CPU time
    python benchmarks/anomaly.py --full    # 5 seeds, five times the steps, ten times the scored images

1. A VAE learns all ten classes; scikit-learn's digits, scaled up from 8x8, are the anomalies.
2. Leave one class out: a VAE learns nine classes, and the tenth is the anomaly, for each class in turn.

The model's setting and the kind of score are chosen before, with a seed of their own and without any digit or test
image: by the mean AUROC of training images that were held out against five distortions of them. Some of these are
simpler than clothes, because it is simple pictures that a likelihood takes for normal (Nalisnick et al., 2019,
https://arxiv.org/abs/1810.09136).
"""

import argparse
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from common import write_result
from real_data import FASHION_CLASSES, fashion_mnist_arrays
from sklearn.datasets import load_digits
from transformers import set_seed
from transformers.utils import logging

from hf_genkit import VAEConfig, VAEModel, VAETrainer, VAETrainingConfig
from hf_genkit.data import ArrayImageDataset, image_processor_for, prepare_pixels
from hf_genkit.evaluation import anomaly_report, mean_interval


KINDS = ("reconstruction", "scaled_reconstruction", "elbo", "likelihood", "regret")
SAMPLES = 10  # of q(z | x), for a score
SETTINGS = {
    "mlp, gaussian": {"architecture": "mlp", "likelihood": "gaussian", "sigma_value": 0.3},
    "mlp, discretized_logistic": {"architecture": "mlp", "likelihood": "discretized_logistic", "sigma_value": 0.3},
    "conv, discretized_logistic": {
        "architecture": "conv", "hidden_sizes": [16, 32], "likelihood": "discretized_logistic", "sigma_value": 0.3,
    },
}  # fmt: skip
HELD_OUT, CHOICE_SEED = 5000, 100
SHORT = {"steps": 1000, "seeds": 3, "choice_images": 300, "images": 1000}
FULL = {"steps": 5000, "seeds": 5, "choice_images": 2000, "images": 10000}
PROCESSOR = image_processor_for(1, 28)


def train(setting: str, pixels: np.ndarray, steps: int, seed: int) -> VAEModel:
    set_seed(seed)
    model = VAEModel(VAEConfig(image_size=28, num_channels=1, latent_dim=16, **SETTINGS[setting]))
    with tempfile.TemporaryDirectory() as folder:
        args = VAETrainingConfig(
            folder,
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=128,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        data = ArrayImageDataset(pixels, np.full(len(pixels), -100))
        VAETrainer(model, args, train_dataset=data, processing_class=PROCESSOR).train()
    return model.eval()


def scores(model: VAEModel, pixels: np.ndarray, kind: str) -> np.ndarray:
    parts = prepare_pixels(torch.tensor(pixels), PROCESSOR).split(50)
    return torch.cat([model.anomaly_score(part, kind=kind, num_samples=SAMPLES) for part in parts]).numpy()


def aurocs(model: VAEModel, normal: np.ndarray, outliers: dict[str, np.ndarray], kind: str) -> dict[str, float]:
    """AUROC against each set of outliers."""
    usual = scores(model, normal, kind)
    return {name: anomaly_report(usual, scores(model, o, kind)).auroc.mean for name, o in outliers.items()}


def distortions(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Images `[N, 1, 28, 28]` that are no clothes any more, made of clothes."""
    rng = np.random.default_rng(0)
    patches = pixels.reshape(-1, 4, 7, 4, 7).swapaxes(2, 3).reshape(-1, 16, 7, 7)
    shuffled = rng.permuted(np.broadcast_to(np.arange(16), (len(pixels), 16)), axis=1)
    patches = np.take_along_axis(patches, shuffled[:, :, None, None], axis=1).reshape(-1, 4, 4, 7, 7)
    slopes = np.gradient(pixels.astype(float), axis=(2, 3))
    halves = pixels.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5))
    return {
        "shuffled patches": patches.swapaxes(2, 3).reshape(pixels.shape),
        "upside down": pixels[:, :, ::-1].copy(),
        "quarter turn": np.rot90(pixels, axes=(2, 3)).copy(),
        "outlines": (2 * np.hypot(*slopes)).clip(0, 255).astype(np.uint8),
        "half size": np.pad(halves, ((0, 0), (0, 0), (7, 7), (7, 7))).astype(np.uint8),
    }


def choose(pixels: np.ndarray, held_out: np.ndarray, steps: int) -> tuple[str, str, dict]:
    """The setting and the kind of score with the highest mean AUROC against distortions, and all of these."""
    found = {}
    for setting in SETTINGS:
        model = train(setting, pixels, steps, CHOICE_SEED)
        for kind in KINDS:
            found[setting, kind] = aurocs(model, held_out, distortions(held_out), kind)
            print(
                f"{setting}, {kind}: " + ", ".join(f"{k} {v:.3f}" for k, v in found[setting, kind].items()), flush=True
            )
    best = max(found, key=lambda key: np.mean(list(found[key].values())))
    table = {", ".join(key): {name: round(v, 4) for name, v in values.items()} for key, values in found.items()}
    return *best, table


def digits(count: int) -> np.ndarray:
    """`[count, 1, 28, 28]`, at most the 1,797 that there are."""
    small = torch.tensor(load_digits().images[:count, None]).float() * (255 / 16)
    return F.interpolate(small, (28, 28), mode="bilinear").round().byte().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="5 seeds, five times the steps, ten times the images.")
    length = FULL if parser.parse_args().full else SHORT
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    steps = length["steps"]
    pixels, labels = (array[:-HELD_OUT] for array in fashion_mnist_arrays("train"))
    pixels = pixels[:, None]
    held_out = fashion_mnist_arrays("train")[0][-length["choice_images"] :, None]
    test_pixels, test_labels = fashion_mnist_arrays("test")
    test_pixels = test_pixels[:, None]

    start, cpu = time.time(), time.process_time()
    setting, kind, choice = choose(pixels, held_out, steps)
    print(f"chosen: {setting}, {kind}", flush=True)
    common = {
        "chosen_kind": kind,
        "chosen_setting": setting,
        "choice": "highest mean AUROC of held-out training images against distortions of them",
        "choice_aurocs": choice,
        "choice_seed": CHOICE_SEED,
        "samples_of_a_score": SAMPLES,
        "settings": SETTINGS,
        "steps": steps,
        **{name: length[name] for name in ("choice_images", "images")},
    }

    by_kind: dict[str, list[float]] = {name: [] for name in KINDS}
    outliers = {"digits": digits(length["images"])}
    for seed in range(length["seeds"]):
        model = train(setting, pixels, steps, seed)
        for name in KINDS:
            by_kind[name].append(aurocs(model, test_pixels[: length["images"]], outliers, name)["digits"])
        print(f"seed {seed}: " + ", ".join(f"{name} {values[-1]:.4f}" for name, values in by_kind.items()), flush=True)
    found = by_kind[kind]
    write_result(
        "anomaly-digits",
        claim=f"AUROC of a VAE ({kind}), clothes against digits",
        value=float(np.mean(found)),
        bar=0.95,
        at_least=True,
        spread=(min(found), max(found)),
        spread_kind=f"lowest and highest of {len(found)} seeds",
        seconds=time.time() - start,
        unit="AUROC",
        details={
            **common,
            "aurocs_by_kind": {name: [round(value, 4) for value in values] for name, values in by_kind.items()},
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "outliers": len(outliers["digits"]),
            "seeds": length["seeds"],
        },
    )

    start, cpu, of_class = time.time(), time.process_time(), {}
    for index, name in enumerate(FASHION_CLASSES):
        model = train(setting, pixels[labels != index], steps, seed=0)
        usual = test_pixels[test_labels != index][: length["images"]]
        anomalies = {name: test_pixels[test_labels == index][: length["images"]]}
        of_class[name] = {other: aurocs(model, usual, anomalies, other)[name] for other in KINDS}
        print(f"{name}: " + ", ".join(f"{other} {v:.3f}" for other, v in of_class[name].items()), flush=True)
    interval = mean_interval([values[kind] for values in of_class.values()])
    write_result(
        "anomaly-left_out_class",
        claim=f"AUROC of a VAE ({kind}), nine classes of clothes against the tenth",
        value=interval.mean,
        bar=0.5,
        at_least=True,
        spread=(interval.low, interval.high),
        spread_kind=f"95 % interval over {interval.n} classes",
        seconds=time.time() - start,
        unit="AUROC",
        details={
            **common,
            "aurocs_by_class": {
                name: {other: round(value, 4) for other, value in values.items()} for name, values in of_class.items()
            },
            "bar": "0.5 is chance: some classes look like others of the nine, so no score can be near 1 for all",
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "seed": 0,
        },
    )


if __name__ == "__main__":
    main()
