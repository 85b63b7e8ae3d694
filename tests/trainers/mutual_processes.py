"""Run by test_mutual_processes.py under torchrun, and by itself: peers that teach each other, on one process or two."""

import json
import sys
from pathlib import Path

import torch

from .test_exactness import GradientRecorder
from .test_resume import StopAt
from .tiny_mutual import PAIRS, mutual_trainer, samples


GLOBAL_BATCH = 8


def main(out: Path, world: int) -> None:
    found = {"gradients": {}, "logs": {}, "metrics": {}}
    for task in PAIRS:
        recorder = GradientRecorder()
        trainer = mutual_trainer(
            task,
            out / task,
            per_device_train_batch_size=GLOBAL_BATCH // world // 2,
            gradient_accumulation_steps=2,
            callbacks=[recorder],
            eval_dataset=samples(task, 7),  # which two processes can't share evenly
            per_device_eval_batch_size=2,
        )
        trainer.train()
        assert trainer.args.world_size == world, f"asked for {world} processes, got {trainer.args.world_size}"
        found["gradients"][task] = recorder.gradient.tolist()
        log = trainer.state.log_history[0]
        found["logs"][task] = {name: value for name, value in log.items() if name.endswith("loss")}
        metrics = trainer.evaluate().items()
        found["metrics"][task] = {
            name: value for name, value in metrics if name.endswith(("loss", "accuracy", "perplexity"))
        }
    found["world"] = trainer.args.world_size

    # All processes save one checkpoint, go on from it alike, and know the best peer.
    options = {
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 1,
        "per_device_train_batch_size": GLOBAL_BATCH // world,
    }
    options |= {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": samples("texts", 7), "max_grad_norm": 0.1}
    whole = mutual_trainer("texts", out / "whole", **options)
    whole.train()
    mutual_trainer("texts", out / "cut", **options, callbacks=[StopAt(2)]).train()
    resumed = mutual_trainer("texts", out / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    found["resume_equal"] = all(torch.equal(a, b) for a, b in pairs)
    best = torch.tensor([resumed.best_peer], device=resumed.accelerator.device)
    found["best_peers"] = resumed.accelerator.gather(best).tolist()
    weights = torch.stack([p.double().sum() for p in resumed.model.parameters()]).sum()[None]
    found["weights"] = resumed.accelerator.gather(weights).tolist()
    if trainer.is_world_process_zero():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
