"""Trainers, their arguments, and what they stand on."""

from .adversarial_distillation_config import AdversarialDistillationConfig
from .adversarial_distillation_trainer import AdversarialDistillationTrainer
from .anomaly_detection import anomaly_pictures, anomaly_results, check_anomaly_score, judge_anomalies
from .checkpointing import last_whole_checkpoint
from .diffusion_config import DiffusionConfig
from .diffusion_distillation_config import DiffusionDistillationConfig
from .diffusion_distillation_trainer import DiffusionDistillationTrainer
from .diffusion_models import diffusion_components, with_captions
from .diffusion_trainer import DiffusionTrainer
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationTrainer
from .finetuning_config import FineTuningConfig
from .finetuning_report import finish_fine_tuning, judge_fine_tuning
from .finetuning_trainer import FineTuningTrainer
from .gan_config import GANTrainingConfig
from .gan_trainer import GANTrainer
from .generation_report import finish_run
from .generative_models import generative_model, picture_judges
from .mutual_config import MutualDistillationConfig
from .mutual_trainer import MutualDistillationTrainer
from .report import ComparisonReport
from .self_distillation_config import SelfDistillationConfig
from .self_distillation_trainer import SelfDistillationTrainer
from .vae_config import VAETrainingConfig
from .vae_trainer import VAETrainer


__all__ = [
    "AdversarialDistillationConfig",
    "AdversarialDistillationTrainer",
    "ComparisonReport",
    "DiffusionConfig",
    "DiffusionDistillationConfig",
    "DiffusionDistillationTrainer",
    "DiffusionTrainer",
    "DistillationConfig",
    "DistillationTrainer",
    "FineTuningConfig",
    "FineTuningTrainer",
    "GANTrainer",
    "GANTrainingConfig",
    "MutualDistillationConfig",
    "MutualDistillationTrainer",
    "SelfDistillationConfig",
    "SelfDistillationTrainer",
    "VAETrainer",
    "VAETrainingConfig",
    "anomaly_pictures",
    "anomaly_results",
    "check_anomaly_score",
    "diffusion_components",
    "finish_fine_tuning",
    "finish_run",
    "generative_model",
    "judge_anomalies",
    "judge_fine_tuning",
    "last_whole_checkpoint",
    "picture_judges",
    "with_captions",
]
