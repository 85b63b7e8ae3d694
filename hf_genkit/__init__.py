"""
hf_genkit: train, shrink, adapt, judge and share models on the Hugging Face stack.

Importing the package registers its models with the Auto classes. The names below are imported when they are first
used, so that `import hf_genkit` stays quick.
"""

import importlib
from typing import TYPE_CHECKING

from . import models  # noqa: F401


__version__ = "0.1.0"

_MODULE_OF = {
    "AdaptationArguments": "arguments",
    "AdversarialDistillationConfig": "trainers.adversarial_distillation_config",
    "AdversarialDistillationTrainer": "trainers.adversarial_distillation_trainer",
    "AnomalyArguments": "arguments",
    "DataArguments": "arguments",
    "DiffusionConfig": "trainers.diffusion_config",
    "DiffusionDistillationConfig": "trainers.diffusion_distillation_config",
    "DiffusionDistillationTrainer": "trainers.diffusion_distillation_trainer",
    "DiffusionModelArguments": "arguments",
    "DiffusionTrainer": "trainers.diffusion_trainer",
    "DistillationConfig": "trainers.distillation_config",
    "DistillationTrainer": "trainers.distillation_trainer",
    "EarlyExitConfig": "models.early_exit",
    "EarlyExitForImageClassification": "models.early_exit",
    "EarlyExitForSequenceClassification": "models.early_exit",
    "FineTuningConfig": "trainers.finetuning_config",
    "FineTuningDataArguments": "arguments",
    "FineTuningModelArguments": "arguments",
    "FineTuningTrainer": "trainers.finetuning_trainer",
    "GANConfig": "models.gan",
    "GANModel": "models.gan",
    "GANTrainer": "trainers.gan_trainer",
    "GANTrainingConfig": "trainers.gan_config",
    "GenerativeModelArguments": "arguments",
    "GenkitParser": "arguments",
    "MutualDistillationConfig": "trainers.mutual_config",
    "MutualDistillationTrainer": "trainers.mutual_trainer",
    "SamplingArguments": "arguments",
    "SelfDistillationConfig": "trainers.self_distillation_config",
    "SelfDistillationTrainer": "trainers.self_distillation_trainer",
    "TeacherStudentArguments": "arguments",
    "VAEConfig": "models.vae",
    "VAEModel": "models.vae",
    "VAETrainer": "trainers.vae_trainer",
    "VAETrainingConfig": "trainers.vae_config",
    "VQVAEConfig": "models.vq_vae",
    "VQVAEModel": "models.vq_vae",
    "add_lora": "tuning.lora",
    "analyze_gan_stability": "evaluation.gan_stability",
    "freeze_layers": "tuning.freezing",
    "load_adapter": "tuning.adapters",
    "merge_adapters": "tuning.adapters",
    "student_from_teacher": "compress.layer_dropping",
}

__all__ = [
    "AdaptationArguments",
    "AdversarialDistillationConfig",
    "AdversarialDistillationTrainer",
    "AnomalyArguments",
    "DataArguments",
    "DiffusionConfig",
    "DiffusionDistillationConfig",
    "DiffusionDistillationTrainer",
    "DiffusionModelArguments",
    "DiffusionTrainer",
    "DistillationConfig",
    "DistillationTrainer",
    "EarlyExitConfig",
    "EarlyExitForImageClassification",
    "EarlyExitForSequenceClassification",
    "FineTuningConfig",
    "FineTuningDataArguments",
    "FineTuningModelArguments",
    "FineTuningTrainer",
    "GANConfig",
    "GANModel",
    "GANTrainer",
    "GANTrainingConfig",
    "GenerativeModelArguments",
    "GenkitParser",
    "MutualDistillationConfig",
    "MutualDistillationTrainer",
    "SamplingArguments",
    "SelfDistillationConfig",
    "SelfDistillationTrainer",
    "TeacherStudentArguments",
    "VAEConfig",
    "VAEModel",
    "VAETrainer",
    "VAETrainingConfig",
    "VQVAEConfig",
    "VQVAEModel",
    "__version__",
    "add_lora",
    "analyze_gan_stability",
    "freeze_layers",
    "load_adapter",
    "merge_adapters",
    "student_from_teacher",
]

if TYPE_CHECKING:
    from .arguments import (
        AdaptationArguments,
        AnomalyArguments,
        DataArguments,
        DiffusionModelArguments,
        FineTuningDataArguments,
        FineTuningModelArguments,
        GenerativeModelArguments,
        GenkitParser,
        SamplingArguments,
        TeacherStudentArguments,
    )
    from .compress.layer_dropping import student_from_teacher
    from .evaluation.gan_stability import analyze_gan_stability
    from .models.early_exit import EarlyExitConfig, EarlyExitForImageClassification, EarlyExitForSequenceClassification
    from .models.gan import GANConfig, GANModel
    from .models.vae import VAEConfig, VAEModel
    from .models.vq_vae import VQVAEConfig, VQVAEModel
    from .trainers.adversarial_distillation_config import AdversarialDistillationConfig
    from .trainers.adversarial_distillation_trainer import AdversarialDistillationTrainer
    from .trainers.diffusion_config import DiffusionConfig
    from .trainers.diffusion_distillation_config import DiffusionDistillationConfig
    from .trainers.diffusion_distillation_trainer import DiffusionDistillationTrainer
    from .trainers.diffusion_trainer import DiffusionTrainer
    from .trainers.distillation_config import DistillationConfig
    from .trainers.distillation_trainer import DistillationTrainer
    from .trainers.finetuning_config import FineTuningConfig
    from .trainers.finetuning_trainer import FineTuningTrainer
    from .trainers.gan_config import GANTrainingConfig
    from .trainers.gan_trainer import GANTrainer
    from .trainers.mutual_config import MutualDistillationConfig
    from .trainers.mutual_trainer import MutualDistillationTrainer
    from .trainers.self_distillation_config import SelfDistillationConfig
    from .trainers.self_distillation_trainer import SelfDistillationTrainer
    from .trainers.vae_config import VAETrainingConfig
    from .trainers.vae_trainer import VAETrainer
    from .tuning.adapters import load_adapter, merge_adapters
    from .tuning.freezing import freeze_layers
    from .tuning.lora import add_lora


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hf_genkit' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
