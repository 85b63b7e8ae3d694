"""What a model's head is for, found through the Auto classes, and how its logits line up with labels."""

from collections.abc import Iterable

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForSpeechSeq2Seq,
    AutoModelForTokenClassification,
    PreTrainedConfig,
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
TEXT_TO_TEXT = "text2text-generation"
CTC = "ctc"  # speech recognition, too, by labels of frames
SEQ2SEQ = (SPEECH, TEXT_TO_TEXT)
# What can be distilled.
DISTILLED = {**AUTO_CLASSES, TEXT_TO_TEXT: AutoModelForSeq2SeqLM, CTC: AutoModelForCTC}


def task_of(model: torch.nn.Module, tasks: Iterable[str] = AUTO_CLASSES) -> str:
    """
    The pipeline tag of a model, found by its head.

    Args:
        model (`torch.nn.Module`):
            A model of one of the Auto classes in `DISTILLED`, a custom one that is registered for one of them, or
            one of these with an adapter of peft.
        tasks (`Iterable[str]`, *optional*): Which of the keys of `DISTILLED` will do; defaults to those of `AUTO_CLASSES`.

    Returns:
        `str`: A key of `DISTILLED`.

    Raises:
        `ValueError`: The model has no such head.
    """
    network = bare(model)
    tasks = list(tasks)
    if isinstance(network, PreTrainedModel):
        for task in tasks:
            mapping = DISTILLED[task]._model_mapping
            if type(network.config) in mapping and isinstance(network, _as_tuple(mapping[type(network.config)])):
                return task
    heads = ", ".join(DISTILLED[task].__name__ for task in tasks)
    raise ValueError(
        f"{type(network).__name__} has no head for {', '.join(tasks)}: load the model with one of {heads}."
    )


def tasks_of_config(config: PreTrainedConfig, tasks: Iterable[str] = AUTO_CLASSES) -> list[str]:
    """
    The pipeline tags that a model's class is for, before it is loaded: none where its config names no such class.

    Args:
        config (`PreTrainedConfig`): As it was saved, with `architectures`.
        tasks (`Iterable[str]`, *optional*): Which of the keys of `DISTILLED` to look for; defaults to those of `AUTO_CLASSES`.
    """
    mappings = {task: DISTILLED[task]._model_mapping for task in tasks}
    heads = {task: _as_tuple(found[type(config)]) for task, found in mappings.items() if type(config) in found}
    names = config.architectures or []
    return [task for task, classes in heads.items() if any(each.__name__ in names for each in classes)]


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


def decoder_inputs(config: PreTrainedConfig, labels: torch.Tensor) -> torch.Tensor:
    """
    The labels moved right by one behind the start token: what a decoder has read before each of them.

    Args:
        config (`PreTrainedConfig`): Of a sequence-to-sequence model.
        labels (`torch.Tensor`): `[batch, tokens]`, -100 where there is none.
    """
    start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
    return torch.cat([start, labels[:, :-1].masked_fill(labels[:, :-1] == -100, config.pad_token_id)], dim=1)


def _as_tuple(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)
