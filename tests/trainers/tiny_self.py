"""Tiny students that are their own teachers."""

import torch
from transformers import ResNetConfig, ResNetForImageClassification

from hf_genkit.models.early_exit import EarlyExitForImageClassification, EarlyExitForSequenceClassification
from hf_genkit.trainers.self_distillation_config import SelfDistillationConfig
from hf_genkit.trainers.self_distillation_trainer import SelfDistillationTrainer
from hf_genkit.tuning.lora import add_lora

from .tiny import IMAGE_MODELS, Samples, tiny_model
from .tiny_finetuning import MODELS, finetuning_model, pad_any, samples


def resnet():
    torch.manual_seed(0)
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    config.num_labels = 3
    return ResNetForImageClassification(config)


def early_exit(kind: str, exits=(0,)):
    base = tiny_model(kind, scale=4.0)
    kind = EarlyExitForImageClassification if kind in IMAGE_MODELS else EarlyExitForSequenceClassification
    torch.manual_seed(3)
    model = kind.from_base(base, list(exits))
    for head in model.exit_heads:  # which have opinions, too
        head[1].weight.data.mul_(20)
    return model


def adapted(kind: str, dropout: float = 0.0, **options):
    model = finetuning_model(kind) if kind in MODELS else tiny_model(kind)
    torch.manual_seed(5)
    return add_lora(model, rank=2, dropout=dropout, **options)


def self_trainer(model, folder, *, kind: str = "vit", **options) -> SelfDistillationTrainer:
    """A trainer on eight samples for that kind of model; keywords go to its config, a few to the trainer itself."""
    rows = samples(kind) if kind in ("gpt2", "llama", "masked") else Samples(kind, unlabelled=2).rows
    own = {"train_dataset": rows, "data_collator": pad_any}
    names = ("callbacks", "eval_dataset", "train_dataset", "model_init", "processing_class")
    own |= {name: options.pop(name) for name in names if name in options}
    defaults = {
        "per_device_train_batch_size": 4, "max_steps": 4, "learning_rate": 1e-2, "use_cpu": True, "save_strategy": "no",
        "disable_tqdm": True, "logging_steps": 1,
    }  # fmt: skip
    return SelfDistillationTrainer(model, SelfDistillationConfig(str(folder), **{**defaults, **options}), **own)


def set_dropout(model, share: float):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
    return model
