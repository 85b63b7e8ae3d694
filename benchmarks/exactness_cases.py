"""What exactness.py trains: every head with every method, tiny models with random weights, labels unevenly spread."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback

from hf_genkit.trainers.adversarial_distillation_trainer import AdversarialDistillationTrainer
from hf_genkit.trainers.mutual_config import MutualDistillationConfig
from hf_genkit.trainers.mutual_trainer import MutualDistillationTrainer
from hf_genkit.trainers.self_distillation_config import SelfDistillationConfig
from hf_genkit.trainers.self_distillation_trainer import SelfDistillationTrainer
from tests.trainers.tiny import Samples, tiny_model
from tests.trainers.tiny_distillation import collate, distiller, head, rows
from tests.trainers.tiny_self import early_exit


GLOBAL_BATCH = 8
CUTS = {"8x1": 1, "4x2": 2, "2x4": 4}  # the batch in so many parts
OPTIONS = {
    "max_steps": 1, "max_grad_norm": 0.0, "learning_rate": 0.1, "optim": "sgd", "use_cpu": True, "save_strategy": "no",
    "disable_tqdm": True, "logging_strategy": "no",
}  # fmt: skip


@dataclass
class Head:
    """
    An architecture with a head.

    Args:
        model (`Callable`): Makes a model from a seed and a factor for its weights.
        rows (`list[dict]`): Eight samples; some have no label, or fewer than others.
        fusable (`bool`, *optional*, defaults to `False`): Whether the head can be computed with its loss.
        exits (`str`, *optional*): What it is called among the models that can have early exits.
    """

    model: Callable[..., PreTrainedModel]
    rows: list[dict]
    fusable: bool = False
    exits: str | None = None


@dataclass
class Case:
    """
    A method on a head.

    Args:
        head, method (`str`): Their names.
        train (`Callable`): Called with a folder and options, it trains and returns the trainer with its gradients.
        step (`int`): Which optimizer step's gradient counts.
        judged (`bool`): Whether it must be exact; terms that relate the samples of a micro-batch can't be.
    """

    head: str
    method: str
    train: Callable[..., list[torch.Tensor]]
    step: int = 0
    judged: bool = True

    @property
    def name(self) -> str:
        return f"{self.head} | {self.method}"


def _classifier(name: str) -> Head:
    samples = Samples(name, unlabelled=3).rows
    return Head(lambda seed=0, scale=1.0: tiny_model(name, seed=seed, scale=scale), samples, exits=name)


def _other(name: str, fusable: bool = True) -> Head:
    return Head(lambda seed=0, scale=1.0: head(name, seed, scale), rows(name), fusable)


HEADS = {
    "ViT, images": _classifier("vit"),
    "ConvNeXt, images": _classifier("convnext"),
    "BERT, texts": _classifier("bert"),
    "RoBERTa, texts": _classifier("roberta"),
    "DistilBERT, texts": _classifier("distilbert"),
    "Llama, texts": _classifier("llama"),
    "BERT, tokens": Head(
        lambda seed=0, scale=1.0: tiny_model("bert", seed=seed, scale=scale, token_level=True),
        Samples("bert", token_level=True, unlabelled=3).rows,
    ),
    "GPT-2, language": _other("gpt2"),
    "Llama, language": _other("llama"),
    "BERT, masked language": _other("masked"),
    "Whisper, speech": _other("whisper"),
    "T5, text to text": _other("t5"),
    "wav2vec2, frames": _other("ctc", fusable=False),
}
WITH_RELATIONS = ("ViT, images", "BERT, texts", "Llama, language")


class Gradients(TrainerCallback):
    """Keeps the gradient of each optimizer step, as one vector."""

    def __init__(self):
        self.found: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))


def gradients_of(trainer: Trainer) -> list[torch.Tensor]:
    """Trains, and returns the gradient of each optimizer step."""
    kept = Gradients()
    trainer.add_callback(kept)
    trainer.train()
    return kept.found


def _offline(head: Head, teachers: int = 1, trainer_class=None, **more) -> Callable:
    def train(folder: Path, **options) -> list[torch.Tensor]:
        models = [head.model(seed=seed, scale=3.0) for seed in range(1, teachers + 1)]
        chosen = {} if trainer_class is None else {"trainer_class": trainer_class}
        options = {**OPTIONS, **options, "temperature": 2.0, "teacher_cache": "off", **more}
        torch.manual_seed(0)  # projectors
        return gradients_of(
            distiller("", folder, model=head.model(), teacher=models, data=head.rows, **chosen, **options)
        )

    return train


def _mutual(head: Head) -> Callable:
    def train(folder: Path, **options) -> list[torch.Tensor]:
        args = MutualDistillationConfig(str(folder), **{**OPTIONS, **options})
        models = [head.model(seed=seed, scale=2.0) for seed in (0, 1, 2)]
        return gradients_of(
            MutualDistillationTrainer(models=models, args=args, train_dataset=head.rows, data_collator=collate)
        )

    return train


def _self(head: Head, make: Callable[[], PreTrainedModel], **more) -> Callable:
    def train(folder: Path, **options) -> list[torch.Tensor]:
        args = SelfDistillationConfig(str(folder), **{**OPTIONS, **options, **more})
        return gradients_of(SelfDistillationTrainer(make(), args, train_dataset=head.rows, data_collator=collate))

    return train


def cases() -> Iterator[Case]:
    """Every method on every head that it is for."""
    for name, own in HEADS.items():
        yield Case(name, "kl", _offline(own))
        if own.fusable:
            yield Case(name, "kl, logits of the whole batch at once", _offline(own, fused_head=False))
        yield Case(name, "dkd", _offline(own, loss_type="dkd"))
        yield Case(name, "features: mse", _offline(own, feature_loss="mse", projector="always"))
        yield Case(name, "features: attention", _offline(own, feature_loss="attention"))
        yield Case(name, "two teachers by confidence", _offline(own, teachers=2, teacher_weights="confidence"))
        yield Case(name, "mutual, three peers", _mutual(own))
        average = {"self_teacher": "ema", "alpha": 0.9, "max_steps": 3}
        yield Case(name, "self: moving average", _self(own, own.model, **average), step=2)
        if own.exits is not None:
            hint = 0.0 if name == "ConvNeXt, images" else 0.1  # its layers differ in width
            supervised = {"self_teacher": "deep_supervision", "feature_hint": hint}
            yield Case(name, "self: deep supervision", _self(own, lambda own=own: early_exit(own.exits), **supervised))
        against = _offline(
            own,
            trainer_class=AdversarialDistillationTrainer,
            max_steps=2,
            discriminator_hidden_size=8,
            adversarial_weight=1.0,
        )
        yield Case(name, "adversarial: discriminator", against, step=0)
        yield Case(name, "adversarial: student", against, step=1)
        if name in WITH_RELATIONS:
            yield Case(name, "dist", _offline(own, loss_type="dist"), judged=False)
            yield Case(name, "relations: rkd_distance", _offline(own, relation_loss="rkd_distance"), judged=False)
            yield Case(name, "features: cka", _offline(own, feature_loss="cka"), judged=False)
