"""Tiny peers for every task of MutualDistillationTrainer, of two architectures where there are two."""

import torch
from transformers import AutoModelForMaskedLM, WhisperForConditionalGeneration

from hf_genkit.trainers.mutual_config import MutualDistillationConfig
from hf_genkit.trainers.mutual_trainer import MutualDistillationTrainer

from .tiny import CONFIGS, tiny_model
from .tiny_distillation import HEADS, collate, rows
from .tiny_finetuning import MODELS, whisper_config


PAIRS = {
    "images": (lambda: tiny_model("vit"), lambda: tiny_model("convnext")),
    "texts": (lambda: tiny_model("bert"), lambda: tiny_model("distilbert")),
    "tokens": (lambda: tiny_model("bert", token_level=True), lambda: tiny_model("roberta", token_level=True)),
    "language": (MODELS["gpt2"], MODELS["llama"]),
    "masked": (MODELS["masked"], lambda: AutoModelForMaskedLM.from_config(CONFIGS["roberta"]())),
    "speech": (MODELS["whisper"], lambda: WhisperForConditionalGeneration(whisper_config())),
    "text-to-text": (HEADS["t5"],) * 2,
    "frames": (HEADS["ctc"],) * 2,
}
KINDS = {
    "images": "convnext",
    "texts": "bert",
    "tokens": "bert-tokens",
    "language": "llama",
    "masked": "masked",
    "speech": "whisper",
    "text-to-text": "t5",
    "frames": "ctc",
}


def peers(task: str) -> list:
    """Peers with other weights each, large enough for opinions."""
    models = []
    for seed, build in enumerate(PAIRS[task]):
        torch.manual_seed(seed)
        model = build()
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        models.append(model)
    return models


def samples(task: str, size: int = 8) -> list[dict]:
    """Rows for `collate`; labels are unevenly spread, and some samples have none."""
    found = rows(KINDS[task], size)
    if task == "frames":
        found[1]["labels"] = torch.full_like(found[1]["labels"], -100)
    return found


def mutual_trainer(task: str, folder, **options) -> MutualDistillationTrainer:
    own = {"models": peers(task), "train_dataset": samples(task), "data_collator": collate}
    names = (*own, "eval_dataset", "callbacks", "processing_class", "compute_metrics", "model_init")
    own |= {name: options.pop(name) for name in names if name in options}
    defaults = {
        "per_device_train_batch_size": 8, "max_steps": 1, "max_grad_norm": 0.0, "learning_rate": 1e-2, "use_cpu": True,
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1,
    }  # fmt: skip
    return MutualDistillationTrainer(args=MutualDistillationConfig(str(folder), **{**defaults, **options}), **own)
