"""What a model's head is for, found through the Auto classes, and how its logits line up with labels."""

from collections.abc import Iterable

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForSpeechSeq2Seq,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from .adapters import bare


# Pipeline tag of the Hub -> Auto class.
CLASSIFICATION = {
    "image-classification": AutoModelForImageClassification,
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}
SPEECH = "automatic-speech-recognition"
LANGUAGE = {
    "text-generation": AutoModelForCausalLM,
    "fill-mask": AutoModelForMaskedLM,
    SPEECH: AutoModelForSpeechSeq2Seq,
}
AUTO_CLASSES = {**CLASSIFICATION, **LANGUAGE}


def task_of(model: torch.nn.Module, tasks: Iterable[str] = AUTO_CLASSES) -> str:
    """
    The pipeline tag of a model, found by its head.

    Args:
        model (`torch.nn.Module`):
            A model of one of the Auto classes in `AUTO_CLASSES`, a custom one that is registered for one of them, or
            one of these with an adapter of peft.
        tasks (`Iterable[str]`, *optional*): Which of the keys of `AUTO_CLASSES` will do; defaults to all.

    Returns:
        `str`: A key of `AUTO_CLASSES`.

    Raises:
        `ValueError`: The model has no such head.
    """
    network = bare(model)
    tasks = list(tasks)
    if isinstance(network, PreTrainedModel):
        for task in tasks:
            mapping = AUTO_CLASSES[task]._model_mapping
            if type(network.config) in mapping and isinstance(network, _as_tuple(mapping[type(network.config)])):
                return task
    heads = ", ".join(AUTO_CLASSES[task].__name__ for task in tasks)
    raise ValueError(
        f"{type(network).__name__} has no head for {', '.join(tasks)}: load the model with one of {heads}."
    )


def shifts_labels(task: str) -> bool:
    """Whether position i of the logits is about label i + 1: in a causal language model, which predicts what comes next."""
    return task == "text-generation"


def line_up(task: str, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Logits and the labels they are about.

    Args:
        task (`str`): A key of `AUTO_CLASSES`.
        logits (`torch.Tensor`): `[batch, classes]` or `[batch, tokens, classes]`.
        labels (`torch.Tensor`): `[batch]` or `[batch, tokens]`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: The same, one position shorter where the model predicts the next token.
    """
    return (logits[:, :-1], labels[:, 1:]) if shifts_labels(task) else (logits, labels)


def _as_tuple(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)
