"""Run by test_self_processes.py under torchrun, and by itself: self-distillation on one process or two."""

import json
import sys
from pathlib import Path

import torch

from .test_exactness import GradientRecorder
from .tiny import Samples, tiny_model
from .tiny_self import adapted, early_exit, resnet, self_trainer


GLOBAL_BATCH = 8
SEVEN = {"eval_dataset": Samples("vit", size=7), "per_device_eval_batch_size": 2}
RUNS = {
    "ema": ("vit", lambda: tiny_model("vit"), {"alpha": 0.9, **SEVEN}),
    "batch_norm": ("vit", resnet, {}),
    "deep_supervision": ("vit", lambda: early_exit("vit"), {"feature_hint": 0.5, **SEVEN}),
    "texts": ("bert", lambda: early_exit("bert"), {"self_teacher": "deep_supervision"}),
    "adapter_off": ("llama", lambda: adapted("llama"), {"learning_rate": 1.0}),
    "born_again": ("vit", None, {"generations": 2, "model_init": lambda: tiny_model("vit"), **SEVEN}),
}


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def main(out: Path, world: int) -> dict:
    found = {}
    for name, (kind, build, options) in RUNS.items():
        recorder = GradientRecorder()
        teacher = {"self_teacher": name if name in ("adapter_off", "born_again", "deep_supervision") else "ema"}
        options = {**teacher, "optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "max_steps": 3, **options}
        trainer = self_trainer(
            None if build is None else build(), out / name, kind=kind, callbacks=[recorder],
            per_device_train_batch_size=GLOBAL_BATCH // world, **options,
        )  # fmt: skip
        trainer.train()
        own = [flat(trainer.model.parameters())]
        if options["self_teacher"] == "ema":
            own.append(flat([*trainer.teacher.model.parameters(), *trainer.teacher.model.buffers()]))
        everyone = trainer.accelerator.gather(torch.cat(own)[None]).view(world, -1)
        metrics = trainer.evaluate() if "eval_dataset" in options else {}
        found[name] = {
            "world": trainer.args.world_size,
            "equal": all(torch.equal(everyone[0], other) for other in everyone),
            "weights": everyone[0].tolist(),
            "gradient": recorder.gradient.tolist(),
            "logs": [log[key] for log in trainer.state.log_history for key in sorted(log) if key.endswith("loss")],
            "metrics": {key: value for key, value in metrics.items() if key.endswith(("loss", "accuracy"))},
        }
    if trainer.is_world_process_zero():
        (out / "found.json").write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
