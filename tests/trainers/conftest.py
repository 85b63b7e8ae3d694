import pytest
from transformers.utils import logging

from hf_genkit import DistillationConfig, DistillationTrainer

from .tiny import Samples, pad, tiny_model


logging.disable_progress_bar()


@pytest.fixture
def make_trainer(tmp_path):
    """Builds a tiny DistillationTrainer; keywords go to its config, a few to the trainer itself."""

    def make(
        kind="vit", *, token_level=False, teacher="default", folder="run", trainer_class=DistillationTrainer, **options
    ):
        trainer_options = {
            name: options.pop(name)
            for name in ("train_dataset", "eval_dataset", "callbacks", "compute_metrics", "model", "data_collator",
                         "processing_class", "teacher_processing_class")
            if name in options
        }  # fmt: skip
        if teacher == "default":
            teacher = tiny_model(kind, seed=1, token_level=token_level, scale=4.0)
        defaults = {
            "output_dir": str(tmp_path / folder),
            "per_device_train_batch_size": 4,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "disable_tqdm": True,
            "use_cpu": True,
            "save_strategy": "no",
            "logging_steps": 1,
        }
        return trainer_class(
            **{
                "model": tiny_model(kind, token_level=token_level),
                "teacher_model": teacher,
                "args": DistillationConfig(**{**defaults, **options}),
                "train_dataset": Samples(kind, token_level=token_level),
                "data_collator": pad,
                **trainer_options,
            }
        )

    return make
