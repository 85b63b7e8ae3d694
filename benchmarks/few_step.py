"""
Few-step students of a diffusion model against their teacher and against DPM++: Fashion-MNIST, FD over DINOv2-small.

    python benchmarks/few_step.py                        # small UNet, 3 seeds, about 12 minutes of CPU time
    python benchmarks/few_step.py --pack data/few_step   # what a machine without a network needs, in 46 MiB
    python benchmarks/few_step.py --full --minutes 7 --data data/few_step    # a DiT, 10,000 pictures; for one GPU

One teacher draws by class, without guidance. Its progressive student learns with several seeds to do in one step what
the teacher does in 8 of 32 steps of DDIM; with one seed there are a student of 8 steps, two that halve the 4 to 2 and
to 1, and one that learned by consistency. For each seed the student's pictures in 4 steps are paired with the teacher's
in 4 steps of DPM++ and in 50 steps of DDIM, which begin with the same noise. All are judged against the test images; as
many training images are the floor. Of the teacher's samplers in 50 steps the better one is what students are held against.

DINOv2-small: python benchmarks/real_data.py dinov2_small data/dinov2-small, or --dinov2 facebook/dinov2-small. `--pack`
rounds its weights to 8 bits.
"""

import argparse
import lzma
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import write_result
from real_data import fashion_mnist_arrays
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from hf_genkit import DiffusionConfig, DiffusionTrainer
from hf_genkit.data import ArrayImageDataset, image_processor_for
from hf_genkit.evaluation import FeatureExtractor, PictureJudge, mean_interval, paired_difference, save_grid
from hf_genkit.pipelines import ClassConditionalPipeline, make_sampler
from hf_genkit.trainers.diffusion_distillation_config import DiffusionDistillationConfig
from hf_genkit.trainers.diffusion_distillation_trainer import DiffusionDistillationTrainer
from hf_genkit.trainers.diffusion_models import new_network


FOLDER = Path("outputs/few_step")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS = (8, 4, 2, 1)
MARGIN, OVERHEAD, PROBE = 20, 8, 30  # seconds that stay free and that a training takes to begin; steps to time
SHORT = {
    "network": {"block_out_channels": [16, 32, 32], "layers_per_block": 1},
    "batch": 64, "student_batch": 32, "teacher": 540, "student": 120, "consistency": 120, "fewer": 80, "more": 60,
    "pictures": 400, "seeds": 3, "reference": 2000, "learning_rate": 2e-3, "student_learning_rate": 1e-3, "ema_decay": 0.99,
}  # fmt: skip
PROGRESSIVE = {"teacher_steps": 32, "student_steps": 4, "stage_factor": 8}
SHARES = {
    "teacher": 0.33,
    "student": 0.09,
    "consistency": 0.06,
    "fewer": 0.04,
    "more": 0.03,
}  # of the minutes of a full run
FULL = {
    "network": {
        "_class_name": "DiTTransformer2DModel", "num_layers": 6, "num_attention_heads": 6, "attention_head_dim": 32,
    },
    "batch": 1024, "student_batch": 512, "pictures": 10_000, "seeds": 3, "reference": 10_000, "learning_rate": 1e-3,
    "student_learning_rate": 5e-4, "ema_decay": 0.999, "torch_compile": True,
}  # fmt: skip


def common_arguments(length: dict, steps: int, seed: int, batch: int, learning_rate: float) -> dict:
    return {
        "seed": seed, "max_steps": steps, "per_device_train_batch_size": batch,
        "learning_rate": learning_rate, "lr_scheduler_type": "cosine", "warmup_steps": 0.05,
        "ema_decay": length["ema_decay"], "bf16": DEVICE == "cuda", "torch_compile": length.get("torch_compile", False),
        "dataloader_drop_last": True, "save_strategy": "no", "logging_steps": max(1, steps // 10),
        "num_sample_pictures": 0, "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip


class StepTimer(TrainerCallback):
    """The seconds of an optimizer step, the first ones of a run left out."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.time())

    @property
    def step(self) -> float:
        half = len(self.times) // 2
        return (self.times[-1] - self.times[-half]) / (half - 1)


def run(trainer, timer: StepTimer | None = None) -> float:
    """Trains, and gives the seconds."""
    trainer.remove_callback(PrinterCallback)
    if timer is not None:
        trainer.add_callback(timer)
    start = time.time()
    trainer.train()
    return time.time() - start


def train_teacher(
    length: dict, steps: int, data: ArrayImageDataset, timer: StepTimer | None = None
) -> tuple[ClassConditionalPipeline, float]:
    """A class-conditional model that predicts v, along the cosine schedule with min-SNR weights, and its seconds."""
    set_seed(0)
    side = data.pixels.shape[-1]
    network = new_network(length["network"], {"sample_size": side, "in_channels": 1, "out_channels": 1}, 10)
    with tempfile.TemporaryDirectory() as folder:
        args = DiffusionConfig(
            folder, prediction_type="v", noise_schedule="cosine", weighting="min_snr",
            **common_arguments(length, steps, 0, length["batch"], length["learning_rate"]),
        )  # fmt: skip
        trainer = DiffusionTrainer(
            network, args=args, train_dataset=data, processing_class=image_processor_for(1, side)
        )
        seconds = run(trainer, timer)
        return trainer.pipeline(), seconds


def train_student(
    teacher: ClassConditionalPipeline,
    length: dict,
    steps: int,
    seed: int,
    data: ArrayImageDataset,
    timer: StepTimer | None = None,
    **options,
) -> tuple[dict[int, ClassConditionalPipeline], float]:
    """Students by their numbers of steps, and the seconds they took."""
    with tempfile.TemporaryDirectory() as folder:
        args = DiffusionDistillationConfig(
            folder,
            **common_arguments(length, steps, seed, length["student_batch"], length["student_learning_rate"]),
            **options,
        )
        trainer = DiffusionDistillationTrainer(
            teacher, args, train_dataset=data, processing_class=image_processor_for(1, data.pixels.shape[-1])
        )
        seconds = run(trainer, timer)
        students = {args.stages[-1][1]: trainer.pipeline()}
        for stage, (_, few) in enumerate(args.stages[:-1]):
            students[few] = ClassConditionalPipeline.from_pretrained(trainer.stage_folder(stage))
        return students, seconds


def draw(pipeline: ClassConditionalPipeline, count: int, steps: int, seed: int) -> tuple[np.ndarray, float]:
    """Grey levels of pictures, `[count, 1, side, side]`, all classes in turns, and the seconds they took."""
    pipeline.to(DEVICE).set_progress_bar_config(disable=True)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
        start = time.time()
        images = pipeline(
            [index % 10 for index in range(count)], guidance_scale=1.0, num_inference_steps=steps,
            generator=torch.Generator(DEVICE).manual_seed(seed), batch_size=2000 if DEVICE == "cuda" else 100,
            output_type="pt",
        ).images  # fmt: skip
        pixels = images.float().mul(255).round().byte().cpu().numpy()
        return pixels, time.time() - start


def sampled_by(pipeline: ClassConditionalPipeline, sampler: str) -> ClassConditionalPipeline:
    return ClassConditionalPipeline(pipeline.unet, make_sampler(pipeline.scheduler, sampler))


def pack(folder: Path, dinov2: str) -> None:
    """Writes the images, compressed, and DINOv2-small, its matrices rounded to 8 bits by row."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        pixels, labels = fashion_mnist_arrays(split)
        content = labels.astype(np.uint8).tobytes() + pixels.tobytes()
        (folder / f"{split}.xz").write_bytes(lzma.compress(content, preset=9))
    rounded = {}
    for name, value in load_file(Path(dinov2, "model.safetensors")).items():
        if value.ndim not in (2, 4):
            rounded[name] = value.half()
            continue
        scale = value.flatten(1).abs().amax(1).clamp(min=1e-8) / 127
        rounded[name] = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8)
        rounded[f"{name}.scale"] = scale
    save_file(rounded, folder / "dinov2.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copyfile(Path(dinov2, name), folder / name)
    print(f"{sum(path.stat().st_size for path in folder.iterdir()) / 2**20:.1f} MiB in {folder}")


def unpack_dinov2(folder: Path, target: Path) -> None:
    rounded = load_file(folder / "dinov2.safetensors")
    weights = {}
    for name, value in rounded.items():
        if f"{name}.scale" in rounded:
            value = value.float() * rounded[f"{name}.scale"].view(-1, *[1] * (value.ndim - 1))
        if not name.endswith(".scale"):
            weights[name] = value.float()
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copyfile(folder / name, target / name)


def images(split: str, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[N, 1, 28, 28]` and labels, of the Debian package or of a folder that `--pack` made."""
    if folder is None:
        pixels, labels = fashion_mnist_arrays(split)
        return pixels[:, None], labels
    content = np.frombuffer(lzma.decompress((folder / f"{split}.xz").read_bytes()), np.uint8)
    count = len(content) // (28 * 28 + 1)
    return content[count:].reshape(count, 1, 28, 28), content[:count].astype(np.int64)


class Measurement:
    """One benchmark: its clock, and what was trained and judged."""

    def __init__(self, args: argparse.Namespace, data: ArrayImageDataset, judge: PictureJudge, start: float):
        self.args, self.data, self.judge, self.start = args, data, judge, start
        self.length = (FULL if args.full else SHORT) | ({} if args.seeds is None else {"seeds": args.seeds})
        self.scores: dict[str, list[float]] = {}
        self.seconds: dict[str, float] = {}
        self.trained: dict[str, dict] = {}
        self.shown: dict[str, np.ndarray] = {}
        self.step = 0.0

    def say(self, text: str) -> None:
        print(f"{time.time() - self.start:.0f} s: {text}", flush=True)

    def steps_for(self, name: str, train: Callable | None = None, calls: int = 2) -> int:
        """Optimizer steps: as many as fit into a share of the minutes, by a short run or by the student's step (8 calls)."""
        if not self.args.full:
            return self.length[name]
        step = self.step * (3 + calls) / (3 + 8)
        if train is not None:
            timer = StepTimer()
            train(PROBE, timer)
            step = self.step = timer.step
        steps = int((SHARES[name] * 60 * self.args.minutes - OVERHEAD) / step)
        self.say(f"{name}: {1000 * step:.1f} ms a step, {steps} steps")
        return max(steps, PROBE)

    def has_time(self, name: str) -> bool:
        """Whether a training ends in time, the pictures of its students drawn."""
        left = self.start + 60 * self.args.minutes - time.time() - MARGIN
        return not self.args.full or left > SHARES[name] * 60 * self.args.minutes + OVERHEAD

    def distil(self, name: str, steps: int, seed: int, teacher, timer=None, **options) -> dict:
        students, seconds = train_student(teacher, self.length, steps, seed, self.data, timer, **options)
        if timer is None:
            self.trained[f"{name}, seed {seed}"] = {"steps": steps, "seconds": round(seconds, 1)}
            self.say(f"{name} has learned, seed {seed}, {seconds:.0f} s")
        return students

    def score(self, name: str, pipeline: ClassConditionalPipeline, steps: int, seed: int) -> None:
        pixels, seconds = draw(pipeline, self.length["pictures"], steps, seed)
        key = f"{name}, {steps}"
        fd = self.judge(pixels)[f"fd_{self.judge.extractor.slug}"]
        self.scores.setdefault(key, []).append(fd)
        self.seconds.setdefault(key, round(seconds, 2))
        self.shown.setdefault(key, pixels[:20])
        self.say(f"{key} steps, seed {seed}: FD {fd:.2f}, drawn in {seconds:.1f} s")

    def run(self) -> None:
        def teach(steps: int, timer=None):
            return train_teacher(self.length, steps, self.data, timer)

        steps = self.steps_for("teacher", teach)
        teacher, seconds = teach(steps)
        self.trained["teacher"] = {"steps": steps, "seconds": round(seconds, 1)}
        self.say(f"the teacher has learned, {seconds:.0f} s")
        self.parameters = teacher.unet.num_parameters()
        samplers = {name: sampled_by(teacher, name) for name in ("ddim", "dpm++")}
        for name, pipeline in samplers.items():
            self.score(name, pipeline, 50, 0)
        self.best = min(samplers, key=lambda name: self.scores[f"{name}, 50"][0])

        def learn(steps: int, timer=None, seed: int = 0):
            return self.distil("progressive", steps, seed, teacher, timer, **PROGRESSIVE)

        steps = self.steps_for("student", learn)
        learned = []
        for seed in range(self.length["seeds"]):
            learned.append(learn(steps, seed=seed))
            self.score("progressive", learned[-1][4], 4, seed)
            self.score("dpm++", samplers["dpm++"], 4, seed)
            if seed > 0:
                self.score(self.best, samplers[self.best], 50, seed)
            if seed > 0 and not self.has_time("student"):
                break
        self.write()
        self.run_others(teacher, learned[0][4], samplers)
        self.write()

    def run_others(self, teacher, student: ClassConditionalPipeline, samplers: dict) -> None:
        """The other numbers of steps and the other method, with one seed, as far as there is time."""
        for few in (8, 2, 1):
            self.score("dpm++", samplers["dpm++"], few, 0)
        self.score("ddim", samplers["ddim"], 4, 0)
        if self.has_time("consistency"):
            options = {"method": "consistency", "teacher_steps": 50}
            found = self.distil("consistency", self.steps_for("consistency"), 0, teacher, **options)
            for few in STEPS:
                self.score("consistency", found[4], few, 0)
        if self.has_time("fewer"):
            options = {"teacher_steps": 4, "student_steps": 1}
            found = self.distil("progressive, to 2 and 1", self.steps_for("fewer"), 0, student, **options)
            for few, pipeline in sorted(found.items()):
                self.score("progressive", pipeline, few, 0)
        if self.has_time("more"):
            options = PROGRESSIVE | {"student_steps": 8}
            found = self.distil("progressive, 8", self.steps_for("more", calls=4), 0, teacher, **options)
            self.score("progressive", found[8], 8, 0)

    def write(self) -> None:
        """Prints a table and writes both claims."""
        floor = self.judge.floor[f"fd_{self.judge.extractor.slug}"]
        lines = ["| Pictures by | Steps | FD (DINOv2-S), mean | Seeds | Seconds |", "|---|---|---|---|---|"]
        for key, values in self.scores.items():
            name, steps = key.rsplit(", ", 1)
            shown = f"{sum(values) / len(values):.2f} | {len(values)} | {self.seconds[key]}"
            lines.append(f"| {name} | {steps} | {shown} |")
        lines.append(f"| real images | | {floor:.2f} | | |")
        print("\n".join(lines), flush=True)
        titles = dict(sorted(self.shown.items()))
        grid = np.concatenate(list(titles.values()))
        save_grid(grid, FOLDER / "pictures.png", columns=20, scale=2, row_labels=list(titles))
        student, many = self.scores["progressive, 4"], self.scores[f"{self.best}, 50"]
        gain = paired_difference(self.scores["dpm++, 4"], student)
        ratios = [a / b for a, b in zip(student, many, strict=True)]
        details = {
            **self.length,
            "data": "Fashion-MNIST: 60,000 training images, the test images as the reference",
            "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU, one thread",
            "dinov2": "weights rounded to 8 bits" if self.args.data else "float32",
            "floor": floor,
            "markdown": "\n".join(lines),
            "parameters": self.parameters,
            "scores": self.scores,
            "seconds_of_drawing": self.seconds,
            "teacher": f"v, cosine schedule, min-SNR; its better sampler in 50 steps is {self.best}",
            "trained": self.trained,
        }
        suffix = "_gpu" if self.args.full else ""
        shared = {"seconds": time.time() - self.start, "details": details}
        write_result(
            f"few_step-dpmpp{suffix}",
            claim=f"FD (DINOv2-S) of DPM++ minus that of a student, 4 steps{', on a GPU' if suffix else ''}",
            value=gain.mean,
            bar=0.0,
            at_least=True,
            spread=(gain.low, gain.high),
            spread_kind=f"95 % interval over {gain.n} paired seeds",
            unit="FD",
            **shared,
        )
        write_result(
            f"few_step-teacher{suffix}",
            claim=f"FD of a 4-step student against its teacher's in 50 steps{', on a GPU' if suffix else ''}",
            value=mean_interval(ratios).mean,
            bar=1.1,
            at_least=False,
            spread=(min(ratios), max(ratios)),
            spread_kind=f"lowest and highest of {len(ratios)} seeds",
            **shared,
        )


def main() -> None:
    start = time.time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="A DiT and 10,000 pictures; for a GPU.")
    parser.add_argument("--minutes", type=float, default=7, help="All the time that --full may take.")
    parser.add_argument("--seeds", type=int, help="Seeds of the 4-step student, instead of 3.")
    parser.add_argument("--data", type=Path, help="A folder that --pack made, in place of packages.")
    parser.add_argument("--pack", type=Path, help="Write images and DINOv2-small to this folder, and end.")
    parser.add_argument("--dinov2", default="data/dinov2-small", help="DINOv2-small: a folder or Hub id.")
    args = parser.parse_args()
    if args.pack is not None:
        pack(args.pack, args.dinov2)
        return
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    dinov2 = args.dinov2
    if args.data is not None:
        dinov2 = str(FOLDER / "dinov2")
        Path(dinov2).mkdir(exist_ok=True)
        unpack_dinov2(args.data, Path(dinov2))
    data = ArrayImageDataset(*images("train", args.data))
    extractor = FeatureExtractor(dinov2, name="DINOv2-S", size=56, batch_size=1000 if DEVICE == "cuda" else 64)
    most = (FULL if args.full else SHORT)["reference"]
    options = {"metrics": ["fd"], "cache_dir": FOLDER / "features", "max_samples": most}
    judge = PictureJudge(extractor, images("test", args.data)[0], floor_set=data, **options)
    Measurement(args, data, judge, start).run()


if __name__ == "__main__":
    main()
