"""Run by test_two_processes.py under torchrun, and by itself: the same optimizer steps on one process or two."""

import json
import sys
from pathlib import Path
from unittest import mock

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset

from hf_genkit import DistillationConfig, DistillationTrainer, add_lora
from hf_genkit.data import ArrayImageDataset, Augmentation, image_processor_for
from hf_genkit.trainers.teacher import Teacher

from .test_exactness import GradientRecorder
from .test_teacher_cache import CountingTeacher
from .tiny import CONFIGS, Samples, pad, tiny_model
from .tiny_distillation import HEADS, distiller
from .tiny_finetuning import MODELS, finetuning_model, finetuning_trainer
from .tiny_finetuning import samples as finetuning_samples


GLOBAL_BATCH = 8


class Ordered(Dataset):
    """Rows that a sampler's shuffling can't deal out differently: every optimizer step sees them all."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def trainer_for(kind, folder, world, token_level=False, accumulation=1, **options):
    model = tiny_model(kind, token_level=token_level)
    trainer_options = {
        name: options.pop(name) for name in ("train_dataset", "eval_dataset", "callbacks", "processing_class")
        if name in options
    }  # fmt: skip
    teacher = tiny_model(kind, seed=1, scale=4.0, token_level=token_level)
    config = {
        "per_device_train_batch_size": GLOBAL_BATCH // world // accumulation,
        "gradient_accumulation_steps": accumulation,
        "max_steps": 1,
        "max_grad_norm": 0.0,
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        **options,
    }
    trainer_options.setdefault("train_dataset", Ordered(Samples(kind, size=GLOBAL_BATCH, unlabelled=3).rows))
    args = DistillationConfig(str(folder), **config)
    return DistillationTrainer(model, teacher, args, data_collator=pad, **trainer_options), CountingTeacher(teacher)


def images():
    pixels = torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24).remainder(3)
    return ArrayImageDataset(pixels.numpy(), labels.numpy(), augmentation=Augmentation(flip=True, shift=2), seed=4)


def sharded_teacher(accelerator) -> dict:
    """A teacher as it is placed beside a student under FSDP2: split over the processes, with the same logits."""
    model, inputs = tiny_model("vit", seed=1, scale=4.0).eval(), pad(Samples("vit").rows)
    with torch.no_grad():
        expected = model(pixel_values=inputs["pixel_values"]).logits
    with mock.patch.object(Accelerator, "is_fsdp2", True):
        teacher = Teacher(model, tiny_model("vit"), accelerator)
    sharded = all(isinstance(parameter, DTensor) for parameter in model.parameters())
    difference = (teacher.logits(inputs) - expected).abs().max().item()
    return {"sharded": sharded, "difference": difference}


def main(out: Path, world: int) -> None:
    found = {"gradients": {}, "resume": {}}
    for kind in CONFIGS:
        for accumulation in (1, 2):
            recorder = GradientRecorder()
            trainer, _ = trainer_for(
                kind, out / f"{kind}-{accumulation}", world, accumulation=accumulation, callbacks=[recorder]
            )
            trainer.train()
            found["gradients"][f"{kind}-{accumulation}"] = recorder.gradient.tolist()
            log = trainer.state.log_history[0]
            found["gradients"][f"{kind}-{accumulation}-logged"] = [log["loss"], log["kd_loss"], log["ce_loss"]]
    assert trainer.args.world_size == world, f"asked for {world} processes, got {trainer.args.world_size}"
    found["world"] = trainer.args.world_size

    # Fine-tuning: labels are unevenly spread over the processes, and of an adapter some weights have no gradient.
    found["finetuning"] = {}
    for kind in (*MODELS, "adapter"):
        model = finetuning_model("llama" if kind == "adapter" else kind)
        if kind == "adapter":
            torch.manual_seed(0)
            model = add_lora(model, rank=2)
        recorder, rows = GradientRecorder(), finetuning_samples("llama" if kind == "adapter" else kind)
        options = {"per_device_train_batch_size": GLOBAL_BATCH // world, "callbacks": [recorder]}
        trainer = finetuning_trainer(model, out / f"finetuning-{kind}", rows, **options)
        trainer.train()
        metrics = {name: value for name, value in trainer.evaluate().items() if name.endswith(("loss", "accuracy"))}
        found["finetuning"][kind] = {"gradient": recorder.gradient.tolist(), "metrics": metrics}

    # Distillation of every other head, with heads fused into their loss, and with projectors.
    found["distillation"] = {}
    for kind in (*HEADS, "projectors", "top-k"):
        head_kind = "llama" if kind in ("projectors", "top-k") else kind
        options = {"projectors": {"feature_loss": "mse", "projector": "always"}, "top-k": {"teacher_top_k": 4}}
        torch.manual_seed(0)
        recorder = GradientRecorder()
        options = {
            **options.get(kind, {}),
            "per_device_train_batch_size": GLOBAL_BATCH // world,
            "callbacks": [recorder],
        }
        trainer = distiller(head_kind, out / f"distillation-{kind}", **options)
        trainer.train()
        metrics = {name: value for name, value in trainer.evaluate().items() if name.endswith(("loss", "agreement"))}
        found["distillation"][kind] = {"gradient": recorder.gradient.tolist(), "metrics": metrics}

    # Evaluation of a number of samples that the processes can't share evenly.
    trainer, _ = trainer_for(
        "bert", out / "eval", world, eval_dataset=Samples("bert", size=7), per_device_eval_batch_size=2
    )
    metrics = trainer.evaluate()
    found["metrics"] = {k: v for k, v in metrics.items() if k.endswith(("_loss", "accuracy", "agreement"))}
    found["teacher"] = trainer.evaluate_teacher()

    # Sequences of other lengths on each process, in the check of the teacher and in training.
    tokens = Samples("bert", size=GLOBAL_BATCH, token_level=True)
    trainer, _ = trainer_for(
        "bert", out / "tokens", world, True, train_dataset=Ordered(tokens.rows), eval_dataset=tokens
    )
    found["token_teacher"] = trainer.evaluate_teacher()
    trainer.train()
    found["token_metrics"] = {k: v for k, v in trainer.evaluate().items() if k.endswith(("_loss", "accuracy"))}

    # The best model, on every process.
    options = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 3}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_kd_loss", "greater_is_better": False}
    options |= {"eval_dataset": Samples("vit", size=6), "learning_rate": 0.5, "save_total_limit": 1}
    trainer, _ = trainer_for("vit", out / "best", world, **options)
    trainer.train()
    weight = torch.tensor([p.double().sum() for p in trainer.model.parameters()]).sum()[None]
    found["best_weights"] = trainer.accelerator.gather(weight).tolist()
    found["best"] = [trainer.evaluate()["eval_kd_loss"], trainer.state.best_metric]

    # The cache: the second epoch, in another order, finds what the other process stored.
    samples = Samples("vit", size=24, unlabelled=0)
    options = {"train_dataset": samples, "max_steps": -1, "num_train_epochs": 3, "max_grad_norm": 1.0}
    trainer, counter = trainer_for("vit", out / "cache", world, **options)
    trainer.train()
    found["teacher_calls"] = counter.calls
    found["cached_losses"] = [log["loss"] for log in trainer.state.log_history if "kd_loss" in log]
    trainer, _ = trainer_for("vit", out / "no-cache", world, teacher_cache="off", **options)
    trainer.train()
    found["plain_losses"] = [log["loss"] for log in trainer.state.log_history if "kd_loss" in log]

    # Augmentation by (seed, epoch, index), and a resume in the middle of an epoch.
    options = {
        "train_dataset": images(), "processing_class": image_processor_for(1, 8), "max_steps": 5, "save_steps": 2,
        "save_strategy": "steps",
    }  # fmt: skip
    trainer, _ = trainer_for("vit", out / "augmented", world, **options)
    trainer.train()
    whole = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    found["augmented_losses"] = [log["loss"] for log in trainer.state.log_history if "kd_loss" in log]
    trainer, _ = trainer_for("vit", out / "augmented", world, **options)
    trainer.train(resume_from_checkpoint=True)
    found["resume_equal"] = all(torch.equal(whole[name], v) for name, v in trainer.model.state_dict().items())
    if world > 1:
        found["sharded_teacher"] = sharded_teacher(trainer.accelerator)
    if trainer.is_world_process_zero():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
