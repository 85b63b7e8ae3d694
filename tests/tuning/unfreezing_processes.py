"""Run by test_freezing_processes.py under torchrun, and by itself: gradual unfreezing on one process or two."""

import sys
from pathlib import Path

from safetensors.torch import save_file

from hf_genkit.trainers.finetuning_config import FineTuningConfig
from hf_genkit.trainers.finetuning_trainer import FineTuningTrainer
from hf_genkit.tuning import GradualUnfreezing
from tests.trainers.tiny import Samples, pad, tiny_model


def main(out: Path, world: int) -> None:
    config = FineTuningConfig(
        str(out / "run"),
        per_device_train_batch_size=8 // world,
        max_steps=6,
        learning_rate=1e-2,
        weight_decay=0.5,
        ddp_find_unused_parameters=True,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    data = Samples("vit", size=8, unlabelled=0)
    trainer = FineTuningTrainer(
        tiny_model("vit"),
        config,
        train_dataset=data,
        data_collator=pad,
        callbacks=[GradualUnfreezing(every=2, unit="steps")],
    )
    trainer.train()
    assert trainer.args.world_size == world, f"asked for {world} processes, got {trainer.args.world_size}"
    rank = trainer.args.process_index
    save_file(trainer.accelerator.unwrap_model(trainer.model).state_dict(), out / f"rank-{rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
