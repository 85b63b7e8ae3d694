"""
Is a distilled student better than the same student trained alone? Fashion-MNIST, paired seeds, accuracy on the test set.

    python benchmarks/distillation_quality.py           # 5 seeds, about 12 minutes of CPU time
    python benchmarks/distillation_quality.py --full    # 10 seeds, three times the steps

Two settings. With all 54,000 labels: the teacher, a small ResNet, and both students see every label. With 2,000 labels:
the teacher saw the same 2,000 labels and no others, the student alone trains on these 2,000 images, the distilled one on
all 54,000 of which 52,000 carry the teacher's soft labels alone; both take the same number of steps. Student, learning
rate, alpha and temperature were chosen with one seed on 6,000 training images that are held out; the test set was not
looked at.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import write_result
from real_data import fashion_mnist_arrays
from transformers import AutoConfig, AutoModelForImageClassification, set_seed
from transformers.utils import logging

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.data import ArrayImageDataset, Augmentation, image_processor_for
from hf_genkit.data.splitting import stratified_sample
from hf_genkit.evaluation import paired_difference


LABELS = 2000
STUDENT = {
    "model_type": "vit", "image_size": 28, "patch_size": 7, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
TEACHER = {
    "model_type": "resnet", "embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 1],
    "layer_type": "basic",
}  # fmt: skip
SETTINGS = {"all_labels": {"alpha": 0.5, "temperature": 2.0}, "few_labels": {"alpha": 0.9, "temperature": 4.0}}


def model(options: dict):
    options = dict(options)
    config = AutoConfig.for_model(options.pop("model_type"), num_labels=10, num_channels=1, **options)
    return AutoModelForImageClassification.from_config(config)


def train(student, teacher, data: ArrayImageDataset, folder: str, **options) -> DistillationTrainer:
    config = DistillationConfig(
        tempfile.mkdtemp(dir=folder),
        **{
            "per_device_train_batch_size": 128,
            "per_device_eval_batch_size": 1000,
            "learning_rate": 3e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            **options,
        },
    )
    trainer = DistillationTrainer(
        student, teacher, config, train_dataset=data, processing_class=image_processor_for(1, 28)
    )
    trainer.train()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="10 seeds and three times the steps.")
    full = parser.parse_args().full
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    seeds, steps = (range(10), 4500) if full else (range(5), 1500)

    pixels, labels = fashion_mnist_arrays("train")
    held_out = stratified_sample(labels, 6000, seed=0)
    pixels, labels = np.delete(pixels, held_out, axis=0)[:, None], np.delete(labels, held_out)
    few = stratified_sample(labels, LABELS, seed=0)
    masked = np.full_like(labels, -100)
    masked[few] = labels[few]
    test_pixels, test_labels = fashion_mnist_arrays("test")
    test = ArrayImageDataset(test_pixels[:, None], test_labels)

    for setting, options in SETTINGS.items():
        start, cpu = time.time(), time.process_time()
        everything = ArrayImageDataset(pixels, labels if setting == "all_labels" else masked)
        labelled = everything if setting == "all_labels" else ArrayImageDataset(pixels[few], labels[few])
        with tempfile.TemporaryDirectory() as folder:
            set_seed(0)
            augmented = ArrayImageDataset(
                labelled.pixels, labelled.labels, augmentation=Augmentation(flip=True, shift=2), seed=0
            )
            teacher = model(TEACHER)
            taught = train(
                teacher,
                None,
                augmented,
                folder,
                alpha=0.0,
                max_steps=3375 if setting == "all_labels" else 2000,
                per_device_train_batch_size=128 if setting == "all_labels" else 64,
                learning_rate=5e-3,
                weight_decay=0.05,
            )
            teacher_accuracy = taught.evaluate(test)["eval_accuracy"]
            print(f"{setting}: teacher {teacher_accuracy:.4f}", flush=True)
            accuracies: dict[str, list[float]] = {"alone": [], "distilled": []}
            for seed in seeds:
                for kind in accuracies:
                    set_seed(seed)
                    own = options if kind == "distilled" else {"alpha": 0.0}
                    trainer = train(
                        model(STUDENT),
                        teacher if kind == "distilled" else None,
                        everything if kind == "distilled" else labelled,
                        folder,
                        max_steps=steps,
                        seed=seed,
                        teacher_cache=str(Path(folder, "cache")),
                        **own,
                    )
                    trainer.teachers = []  # the test needs the labels alone
                    accuracies[kind].append(trainer.evaluate(test)["eval_accuracy"])
                print(f"seed {seed}: " + ", ".join(f"{k} {v[-1]:.4f}" for k, v in accuracies.items()), flush=True)
        difference = paired_difference(accuracies["distilled"], accuracies["alone"])
        write_result(
            f"distillation_quality-{setting}",
            claim="Distilled minus alone, " + ("all labels" if setting == "all_labels" else f"{LABELS:,} labels"),
            value=difference.mean,
            bar=0.0,
            at_least=True,
            spread=(difference.low, difference.high),
            spread_kind=f"95 % interval over {difference.n} paired seeds",
            seconds=time.time() - start,
            unit="accuracy",
            details={
                "data": "Fashion-MNIST, 54,000 training images, 10,000 test images",
                "student": STUDENT,
                "student_steps": steps,
                "teacher": TEACHER,
                "teacher_accuracy": round(teacher_accuracy, 4),
                "teacher_labels": len(labelled),
                "accuracies": {kind: [round(value, 4) for value in values] for kind, values in accuracies.items()},
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "tuned": "student, learning rate, alpha and temperature, one seed, on 6,000 held-out training images",
                **options,
            },
        )


if __name__ == "__main__":
    main()
