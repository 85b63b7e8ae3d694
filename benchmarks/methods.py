"""
What does each kind of distillation gain over the same student trained alone, and at what cost? Paired seeds, test accuracy.

    python benchmarks/methods.py                            # digits and a part of Fashion-MNIST, 15 minutes of CPU time
    python benchmarks/methods.py --dataset digits           # one of the two
    python benchmarks/methods.py --full                     # 10 seeds, more images and steps of Fashion-MNIST

Every student is the same small ConvNeXt, with the weights, batches, learning rate and number of its own optimizer steps that
the seed gives the student trained alone. The teachers are a ResNet and, where there are two, a wider ConvNeXt, both trained
on the same images. Weights and temperatures are those of the papers
and of their usual code, but for four: "mse" is 0.1 and "attention" 10, since larger weights hurt the student on validation
images of digits (--validate, with other seeds); "cka" is 1 and the average's decay 0.99. Methods on features and relations
learn from these and the labels, without the teacher's logits, as in their papers' tables. The test sets were not looked at.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from common import write_result
from real_data import fashion_mnist_arrays
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel, set_seed
from transformers.utils import logging

from hf_genkit import (
    AdversarialDistillationConfig,
    AdversarialDistillationTrainer,
    DistillationConfig,
    DistillationTrainer,
    EarlyExitForImageClassification,
    MutualDistillationConfig,
    MutualDistillationTrainer,
    SelfDistillationConfig,
    SelfDistillationTrainer,
)
from hf_genkit.data import ArrayImageDataset, image_processor_for, load_digits, prepare_pixels
from hf_genkit.data.splitting import stratified_sample
from hf_genkit.evaluation import paired_difference
from hf_genkit.trainers.teacher import Teacher


ALONE = "alone"


def convnext(size: int, patch: int, hidden: list[int]) -> dict:
    return {
        "model_type": "convnext", "image_size": size, "patch_size": patch, "hidden_sizes": hidden,
        "depths": [1] * len(hidden), "num_stages": len(hidden),
    }  # fmt: skip


def resnet(hidden: list[int]) -> dict:
    return {
        "model_type": "resnet", "embedding_size": hidden[0], "hidden_sizes": hidden, "depths": [1] * len(hidden),
        "layer_type": "basic",
    }  # fmt: skip


def new_model(options: dict) -> PreTrainedModel:
    options = dict(options)
    config = AutoConfig.for_model(options.pop("model_type"), num_labels=10, num_channels=1, **options)
    return AutoModelForImageClassification.from_config(config)


@dataclass
class Work:
    """Images, models and the length of training of one data set."""

    name: str
    train: tuple[np.ndarray, np.ndarray]
    judged: tuple[np.ndarray, np.ndarray]
    student: dict
    teachers: list[dict]
    steps: int
    teacher_steps: int
    folder: str
    taught: list[PreTrainedModel] = field(default_factory=list)

    @property
    def processor(self):
        return image_processor_for(1, self.train[0].shape[-1])

    def arguments(self, seed: int, **options) -> dict:
        return {
            "output_dir": tempfile.mkdtemp(dir=self.folder),
            "per_device_train_batch_size": 64,
            "learning_rate": 5e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "max_steps": self.steps,
            "seed": seed,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "log_level": "error",
            "use_cpu": True,
            **options,
        }

    def data(self) -> dict:
        return {"train_dataset": ArrayImageDataset(*self.train), "processing_class": self.processor}

    def new_student(self, seed: int) -> PreTrainedModel:
        set_seed(seed)
        return new_model(self.student)

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        pixels, labels = self.judged
        right = 0
        for start in range(0, len(pixels), 1000):
            batch = prepare_pixels(torch.from_numpy(pixels[start : start + 1000]), self.processor)
            answers = model.eval()(pixel_values=batch).logits.argmax(dim=-1).numpy()
            right += (answers == labels[start : start + 1000]).sum()
        return float(right / len(pixels))

    def train_teachers(self) -> None:
        for options in self.teachers:
            set_seed(1000)
            teacher = new_model(options)
            args = DistillationConfig(**self.arguments(1000, alpha=0.0, max_steps=self.teacher_steps))
            DistillationTrainer(teacher, None, args, **self.data()).train()
            self.taught.append(teacher)


def digits(full: bool, validate: bool, folder: str) -> Work:
    splits = {}
    for name, split in load_digits().items():
        pixels = np.stack([np.asarray(image) for image in split["image"]])
        splits[name] = np.kron(pixels, np.ones((1, 2, 2), np.uint8))[:, None], np.asarray(split["label"])
    return Work(
        "digits",
        splits["train"],
        splits["validation" if validate else "test"],
        student=convnext(16, 4, [8, 16]),
        teachers=[resnet([32, 64]), convnext(16, 4, [32, 64])],
        steps=300,
        teacher_steps=500,
        folder=folder,
    )


def fashion_mnist(full: bool, validate: bool, folder: str) -> Work:
    pixels, labels = (part[..., None, :, :] if part.ndim == 3 else part for part in fashion_mnist_arrays("train"))
    held_out = stratified_sample(labels, 6000, seed=0)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    if not full:
        rest = rest[stratified_sample(labels[rest], 10_000, seed=0)]
    test_pixels, test_labels = fashion_mnist_arrays("test")
    return Work(
        "fashion_mnist",
        (pixels[rest], labels[rest]),
        (pixels[held_out], labels[held_out]) if validate else (test_pixels[:, None], test_labels),
        student=convnext(28, 4, [8, 16]),
        teachers=[resnet([32, 64]), convnext(28, 4, [32, 64])],
        steps=3000 if full else 300,
        teacher_steps=6000 if full else 600,
        folder=folder,
    )


DATASETS = {"digits": digits, "fashion_mnist": fashion_mnist}


def offline(teachers: int = 1, **options) -> Callable[[Work, int], nn.Module]:
    def train(work: Work, seed: int) -> nn.Module:
        args = DistillationConfig(**work.arguments(seed, **options))
        taught = work.taught[:teachers] if teachers else None
        trainer = DistillationTrainer(work.new_student(seed), taught, args, **work.data())
        trainer.train()
        return trainer.model

    return train


def mutual(work: Work, seed: int) -> nn.Module:
    """The peer with the weights that the student alone starts from, not the better of the two."""
    peers = [work.new_student(100 + seed), work.new_student(seed)]
    trainer = MutualDistillationTrainer(
        models=peers[::-1], args=MutualDistillationConfig(**work.arguments(seed)), **work.data()
    )
    trainer.train()
    return trainer.peers[0]


def born_again(work: Work, seed: int) -> nn.Module:
    args = SelfDistillationConfig(**work.arguments(seed, self_teacher="born_again", generations=2, temperature=1.0))
    trainer = SelfDistillationTrainer(None, args, model_init=lambda: new_model(work.student), **work.data())
    trainer.train()
    return trainer.model


def ema(work: Work, seed: int) -> nn.Module:
    args = SelfDistillationConfig(**work.arguments(seed, self_teacher="ema", ema_decay=0.99, temperature=1.0))
    trainer = SelfDistillationTrainer(work.new_student(seed), args, **work.data())
    trainer.train()
    return trainer.model


def deep_supervision(work: Work, seed: int) -> nn.Module:
    student = EarlyExitForImageClassification.from_base(work.new_student(seed), exits=[0])
    args = SelfDistillationConfig(**work.arguments(seed, self_teacher="deep_supervision", alpha=0.3, temperature=3.0))
    trainer = SelfDistillationTrainer(student, args, **work.data())
    trainer.train()
    return trainer.model


def adversarial(work: Work, seed: int) -> nn.Module:
    """Half of the steps are the discriminator's."""
    options = {**HINTON, "max_steps": 2 * work.steps, "discriminator_sees_labels": True}
    args = AdversarialDistillationConfig(**work.arguments(seed, **options))
    trainer = AdversarialDistillationTrainer(work.new_student(seed), work.taught[0], args, **work.data())
    trainer.train()
    return trainer.model


HINTON = {"alpha": 0.9, "temperature": 4.0}
LABELS = {"alpha": 0.0, "layer_map": "uniform"}
METHODS: dict[str, tuple[str, Callable[[Work, int], nn.Module]]] = {
    ALONE: ("labels only", offline(0, alpha=0.0)),
    "kl": ("logits", offline(**HINTON)),
    "dkd": ("logits", offline(alpha=0.5, temperature=4.0, loss_type="dkd")),
    "lskd": ("logits", offline(alpha=0.9, temperature=2.0, loss_type="lskd")),
    "dist": ("logits", offline(alpha=2 / 3, temperature=1.0, loss_type="dist")),
    "FitNets (mse)": ("features", offline(feature_loss={"mse": 0.1}, **LABELS)),
    "attention": ("features", offline(feature_loss={"attention": 10.0}, **LABELS)),
    "cka": ("features", offline(feature_loss={"cka": 1.0}, **LABELS)),
    "rkd": ("relations", offline(relation_loss={"rkd_distance": 25.0, "rkd_angle": 50.0}, **LABELS)),
    "similarity": ("relations", offline(relation_loss={"similarity": 3000.0}, **LABELS)),
    "pkt": ("relations", offline(relation_loss={"pkt": 30000.0}, **LABELS)),
    "two teachers, equal": ("several teachers", offline(2, **HINTON)),
    "two teachers, confidence": ("several teachers", offline(2, teacher_weights="confidence", **HINTON)),
    "mutual": ("online", mutual),
    "born-again": ("self", born_again),
    "ema": ("self", ema),
    "deep supervision": ("self", deep_supervision),
    "adversarial": ("adversarial", adversarial),
}


@dataclass
class Outcome:
    """What one method reached with each seed."""

    accuracies: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    teacher_forwards: list[int] = field(default_factory=list)


def run(method: str, work: Work, seed: int, outcome: Outcome) -> None:
    """Trains one student and notes its accuracy, its CPU time and how many samples a teacher looked at."""
    seen = []
    original = Teacher.outputs

    def outputs(self, inputs, **options):
        seen.append(len(next(iter(inputs.values()))))
        return original(self, inputs, **options)

    start = time.process_time()
    with patch.object(Teacher, "outputs", outputs):
        model = METHODS[method][1](work, seed)
    outcome.cpu_seconds.append(time.process_time() - start)
    outcome.teacher_forwards.append(sum(seen))
    outcome.accuracies.append(work.accuracy(model))


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes as a Markdown table, the largest gain first."""
    alone = outcomes[ALONE].accuracies
    gains = {name: paired_difference(each.accuracies, alone) for name, each in outcomes.items() if name != ALONE}
    lines = [
        "| Method | Kind | Accuracy | Gain over the student alone (95 % interval) | Verdict | Teacher forwards | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*sorted(gains, key=lambda name: -gains[name].mean), ALONE]:
        each = outcomes[name]
        gain, verdict = "", ""
        if name != ALONE:
            found = gains[name]
            gain = f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
            verdict = "gains" if found.low > 0 else "**loses**" if found.high < 0 else "no difference shown"
        lines.append(
            f"| {name} | {METHODS[name][0]} | {np.mean(each.accuracies):.4f} | {gain} | {verdict} | "
            f"{np.mean(each.teacher_forwards):,.0f} | {np.mean(each.cpu_seconds):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(DATASETS), help="One data set alone.")
    parser.add_argument(
        "--full", action="store_true", help="10 seeds, and all of Fashion-MNIST for ten times the steps."
    )
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="Some methods alone, without a result.")
    parser.add_argument(
        "--validate", action="store_true", help="Two other seeds on validation images, without a result."
    )
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    seeds = range(100, 102) if options.validate else range(10 if options.full else 5)
    methods = list(dict.fromkeys([ALONE, *(options.methods or METHODS)]))
    for dataset in [options.dataset] if options.dataset else list(DATASETS):
        start, cpu = time.time(), time.process_time()
        outcomes = {method: Outcome() for method in methods}
        with tempfile.TemporaryDirectory() as folder:
            work = DATASETS[dataset](options.full, options.validate, folder)
            work.train_teachers()
            teachers = [round(work.accuracy(teacher), 4) for teacher in work.taught]
            print(f"{dataset}: teachers {teachers}, {time.process_time() - cpu:.0f} s", flush=True)
            for seed in seeds:
                for method in methods:
                    run(method, work, seed, outcomes[method])
                    for old in Path(folder).iterdir():
                        shutil.rmtree(old)
                latest = {method: round(outcome.accuracies[-1], 4) for method, outcome in outcomes.items()}
                print(f"seed {seed}: {latest}", flush=True)
        print(table(outcomes), flush=True)
        if options.methods or options.validate:
            continue
        report(work, outcomes, teachers, time.time() - start, time.process_time() - cpu)


def report(work: Work, outcomes: dict[str, Outcome], teachers: list[float], seconds: float, cpu: float) -> None:
    """Writes the gain of the classic method and the least gain of all, with the whole table beside."""
    alone = outcomes[ALONE].accuracies
    gains = {name: paired_difference(each.accuracies, alone) for name, each in outcomes.items() if name != ALONE}
    least = min(gains, key=lambda name: gains[name].mean)
    title = {"digits": "digits", "fashion_mnist": "Fashion-MNIST"}[work.name]
    claims = {
        "kl": ("kl", "Distilled (KL) minus alone"),
        "least": (least, f"Least gain of {len(gains)} methods ({least})"),
    }
    for name, (method, claim) in claims.items():
        gain = gains[method]
        write_result(
            f"methods-{work.name}_{name}",
            claim=f"{claim}, {title}",
            value=gain.mean,
            bar=0.0,
            at_least=True,
            spread=(gain.low, gain.high),
            spread_kind=f"95 % interval over {gain.n} paired seeds",
            seconds=seconds,
            unit="accuracy",
            details={
                "markdown": table(outcomes),
                "training_images": len(work.train[0]),
                "test_images": len(work.judged[0]),
                "student": work.student,
                "student_steps": work.steps,
                "teachers": work.teachers,
                "teacher_accuracies": teachers,
                "accuracies": {name: [round(x, 4) for x in each.accuracies] for name, each in outcomes.items()},
                "cpu_seconds": round(cpu, 1),
            },
        )


if __name__ == "__main__":
    main()
