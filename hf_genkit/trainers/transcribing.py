"""What a model of speech writes down: its word error rate, with an interval over the clips, and the time it takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import normalise_transcript
from ..evaluation import Interval, ratio_interval, word_errors
from .base import GenkitTrainer


@dataclass
class Transcription:
    """
    How well, and how fast, the clips of a data set were written down.

    Args:
        errors (`list[int]`): Wrong words of each clip.
        words (`list[int]`): Spoken words of each clip.
        seconds (`float`): What all clips took: of the CPU's time on a CPU, else of the clock's.
    """

    errors: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def interval(self) -> Interval:
        """The word error rate with its 95 % interval over the clips."""
        return ratio_interval(self.errors, self.words)

    @property
    def wer(self) -> float:
        return sum(self.errors) / sum(self.words)

    @property
    def seconds_per_clip(self) -> float:
        return self.seconds / len(self.words)


@torch.no_grad()
def transcribe(trainer: GenkitTrainer, dataset, model: PreTrainedModel | None = None) -> Transcription:
    """
    Writes down the clips of a data set by greedy search, and compares.

    Args:
        trainer ([`GenkitTrainer`]): The trainer of a model of speech, on any number of processes.
        dataset ([`~hf_genkit.data.SpeechDataset`]): Clips and their transcripts.
        model (`PreTrainedModel`, *optional*): Another model with the same processor, such as the teacher.

    Raises:
        `ValueError`: The transcripts hold no word.
    """
    model = (trainer.accelerator.unwrap_model(trainer.model) if model is None else model).eval()
    tokenizer, normalise = trainer.processing_class.tokenizer, normaliser_of(model)
    found = Transcription()
    for batch in trainer.get_test_dataloader(dataset):
        batch = trainer._prepare_inputs(batch)
        texts, seconds = write_down(model, tokenizer, batch["input_features"])
        rows = [(*pair, seconds / len(texts)) for pair in zip(texts, spoken(tokenizer, batch["labels"]), strict=True)]
        written, said, spent = zip(*trainer.accelerator.gather_for_metrics(rows, use_gather_object=True), strict=True)
        errors, words = word_errors(written, said, normalise)
        found.errors += errors
        found.words += words
        found.seconds += sum(spent)
    if sum(found.words) == 0:
        raise ValueError("The transcripts hold no word, so there is no word error rate.")
    return found


def normaliser_of(model: PreTrainedModel) -> Callable[[str], str]:
    """How transcripts in the language of a model are written before they are compared."""
    language = getattr(model.generation_config, "language", None)  # which models of English alone lack
    return partial(normalise_transcript, english=language in (None, "en", "english"))


@torch.no_grad()
def write_down(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, features: torch.Tensor
) -> tuple[list[str], float]:
    """
    What a model hears in a batch of clips, by greedy search.

    Args:
        model (`PreTrainedModel`): A model of speech, in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        features (`torch.Tensor`): Of shape `[clips, bins, frames]`.

    Returns:
        `tuple[list[str], float]`: The texts, and the seconds: of the CPU's time on a CPU, else of the clock's.
    """
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    start = clock()
    features = features.to(model.device, model.dtype)
    tokens = model.generate(input_features=features, num_beams=1, do_sample=False).cpu()
    seconds = clock() - start
    return tokenizer.batch_decode(tokens, skip_special_tokens=True), seconds


def spoken(tokenizer: PreTrainedTokenizerBase, labels: torch.Tensor) -> list[str]:
    """The transcripts that labels, -100 for none, stand for."""
    return tokenizer.batch_decode(labels.masked_fill(labels == -100, tokenizer.pad_token_id), skip_special_tokens=True)
