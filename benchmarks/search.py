"""
Does TPE find better hyperparameters than random search and than a grid, with the same number of trials?

    python benchmarks/search.py           # 10 seeds, about 14 minutes of CPU time
    python benchmarks/search.py --full    # 30 seeds

A small ConvNeXt on scikit-learn's digits: 600 images to train on, 300 to choose by, 897 to test. Four options are
searched in 24 trials: learning rate and weight decay over several powers of ten, warm-up and batch size. A seed draws
the split of the data, the weights of the models and the values that are tried; all three ways share it, and the first
ten trials of TPE are those of random search. What is compared is the test accuracy of the trial with the best
validation accuracy; the test images choose nothing. Range, grid and number of trials were set before the first run,
and nothing was changed after it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import write_result
from sklearn.datasets import load_digits
from transformers import ConvNextConfig, ConvNextForImageClassification, set_seed
from transformers.utils import logging

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.arguments import SearchArguments
from hf_genkit.data import ArrayImageDataset, image_processor_for
from hf_genkit.evaluation import mean_interval, paired_difference
from hf_genkit.tuning import Search, SearchSpace


TRIALS, STEPS = 24, 100
SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
    "warmup_steps": {"low": 0.0, "high": 0.5},
    "per_device_train_batch_size": {"choices": [16, 32, 64]},
}
GRID = {
    "learning_rate": {"choices": [1e-4, 1e-3, 1e-2]},
    "weight_decay": {"choices": [1e-3, 1e-1]},
    "warmup_steps": {"choices": [0.0, 0.25]},
    "per_device_train_batch_size": {"choices": [16, 64]},
}
MODEL = {
    "num_channels": 1,
    "patch_size": 2,
    "num_stages": 2,
    "depths": [1, 1],
    "hidden_sizes": [16, 32],
    "num_labels": 10,
}


def splits(seed: int) -> list[ArrayImageDataset]:
    """600 images to train on, 300 to choose by and 897 to test."""
    digits = load_digits()
    pixels = (digits.images * 15.9375).round().astype(np.uint8)[:, None]
    order = np.random.default_rng(seed).permutation(len(pixels))
    return [ArrayImageDataset(pixels[part], digits.target[part]) for part in np.split(order, [600, 900])]


def objective(seed: int):
    """Trains one model and returns its metrics, as [`Search.run`] wants it."""
    train, validation, test = splits(seed)

    def run_trial(values: dict, folder: Path, watch, worker: int) -> dict[str, float]:
        set_seed(seed)
        config = DistillationConfig(
            str(folder),
            **{
                "alpha": 0.0, "max_steps": STEPS, "seed": seed, "lr_scheduler_type": "cosine", "save_strategy": "no",
                "logging_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
                "per_device_eval_batch_size": 1000, **values,
            },
        )  # fmt: skip
        trainer = DistillationTrainer(
            ConvNextForImageClassification(ConvNextConfig(**MODEL)),
            None,
            config,
            train_dataset=train,
            processing_class=image_processor_for(1, 8),
        )
        trainer.train()
        return trainer.evaluate(validation) | trainer.evaluate(test, metric_key_prefix="test")

    return run_trial


def search(sampler: str, seed: int) -> dict:
    """One search: the best validation accuracy after 8, 16 and 24 trials, and the chosen trial's test accuracy."""
    space = GRID if sampler == "grid" else SPACE
    with tempfile.TemporaryDirectory() as folder:
        args = SearchArguments(
            recipe="in this process",
            space=space,
            objectives=["eval_accuracy:maximize"],
            output_dir=folder,
            n_trials=TRIALS,
            sampler=sampler,
            pruner="none",
            seed=seed,
        )
        found = Search(args, SearchSpace(space))
        found.run(objective(seed))
        best, trials = found.best()[0], found.finished()
    return {
        "test": best.user_attrs["metrics"]["test_accuracy"],
        "validation": [max(trial.value for trial in trials[:count]) for count in (8, 16, TRIALS)],
        "tests_of_all": [trial.user_attrs["metrics"]["test_accuracy"] for trial in trials],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="30 seeds.")
    seeds = range(30 if parser.parse_args().full else 10)
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    start, cpu = time.time(), time.process_time()
    found: dict[str, list[dict]] = {"tpe": [], "random": [], "grid": []}
    for seed in seeds:
        for sampler in found:
            found[sampler].append(search(sampler, seed))
        print(
            f"seed {seed}: " + ", ".join(f"{name} {runs[-1]['test']:.4f}" for name, runs in found.items()), flush=True
        )

    tests = {name: [run["test"] for run in runs] for name, runs in found.items()}
    for other in ("random", "grid"):
        difference = paired_difference(tests["tpe"], tests[other])
        write_result(
            f"search-{other}",
            claim=f"Test accuracy of TPE's choice minus that of {'a grid' if other == 'grid' else 'random search'}, "
            f"{TRIALS} trials each",
            value=difference.mean,
            bar=0.0,
            at_least=True,
            spread=(difference.low, difference.high),
            spread_kind=f"95 % interval over {difference.n} paired seeds",
            seconds=time.time() - start,
            unit="accuracy",
            details={
                "data": "scikit-learn's digits, 600 training, 300 validation, 897 test images, drawn for each seed",
                "model": {"model_type": "convnext", **MODEL},
                "steps": STEPS,
                "space": SPACE,
                "grid": GRID,
                "test_accuracy": {name: [round(value, 4) for value in values] for name, values in tests.items()},
                "mean_test_accuracy": {name: round(mean_interval(values).mean, 4) for name, values in tests.items()},
                "validation_after_8_16_24": {
                    name: [round(float(value), 4) for value in np.mean([run["validation"] for run in runs], axis=0)]
                    for name, runs in found.items()
                },
                "mean_test_accuracy_of_all_trials": {
                    name: round(float(np.mean([run["tests_of_all"] for run in runs])), 4)
                    for name, runs in found.items()
                },
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "tuned": "nothing",
            },
        )


if __name__ == "__main__":
    main()
