"""Other trainers for exactness.py, each on a model, data and an optimizer that are those of the other cases."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from datasets import Dataset
from exactness_cases import HEADS, OPTIONS, Case, gradients_of
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments

from tests.trainers.tiny_distillation import collate


LLAMA = HEADS["Llama, language"]
# What TRL turns on by default, and what all others leave off.
PLAIN = {"bf16": False, "gradient_checkpointing": False, "report_to": "none"}


def peer_cases(folder: str | None) -> Iterator[Case]:
    """
    The trainers of other packages.

    Args:
        folder (`str`, *optional*): Where trl and modelopt are installed; stock `Trainer` alone without it.
    """
    for name in ("BERT, texts", "Llama, texts", "Llama, language"):
        yield Case(name, "stock Trainer, the model's own loss", _stock(name), judged=False)
    if folder is not None:
        sys.path.append(folder)
        yield Case("Llama, language", "TRL GKDTrainer", _gkd, judged=False)
        yield Case("Llama, language", "TRL DistillationTrainer", _trl_distillation, judged=False)
        yield Case("Llama, language", "ModelOpt KDTrainer", _modelopt, judged=False)


def _stock(name: str) -> Callable:
    def train(folder: Path, **options) -> list[torch.Tensor]:
        args = TrainingArguments(str(folder), **{**OPTIONS, **options})
        head = HEADS[name]
        return gradients_of(Trainer(head.model(), args, train_dataset=head.rows, data_collator=collate))

    return train


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({f"t{i}": i for i in range(60)}, unk_token="t4"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="t0", eos_token="t1", bos_token="t2", padding_side="left"
    )


def _lists() -> Dataset:
    return Dataset.from_list([{name: value.tolist() for name, value in row.items()} for row in LLAMA.rows])


def _collate_lists(features: list[dict]) -> dict[str, torch.Tensor]:
    names = ("input_ids", "labels")
    return collate([{name: torch.tensor(row[name]) for name in names} for row in features])


def _gkd(folder: Path, **options) -> list[torch.Tensor]:
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    args = GKDConfig(str(folder), **{**OPTIONS, **PLAIN, **options}, lmbda=0.0, beta=0.0)
    return gradients_of(
        GKDTrainer(
            LLAMA.model(),
            LLAMA.model(seed=1, scale=3.0),
            args,
            data_collator=_collate_lists,
            train_dataset=_lists(),
            processing_class=_tokenizer(),
        )
    )


def _trl_distillation(folder: Path, **options) -> list[torch.Tensor]:
    from trl import DistillationConfig, DistillationTrainer

    class GivenCompletions(DistillationTrainer):
        """Its completions are not drawn, so that each cut of the batch has the same ones."""

        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            return [[5 + (ids[0] + i) % 50 for i in range(1 + sum(ids) % 7)] for ids in prompt_ids]

    prompts = [" ".join(f"t{i}" for i in row["input_ids"].tolist()) for row in LLAMA.rows]
    args = DistillationConfig(str(folder), **{**OPTIONS, **PLAIN, **options}, beta=0.0, max_completion_length=8)
    return gradients_of(
        GivenCompletions(
            LLAMA.model(),
            LLAMA.model(seed=1, scale=3.0),
            args,
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            processing_class=_tokenizer(),
        )
    )


def _modelopt(folder: Path, **options) -> list[torch.Tensor]:
    from modelopt.torch.distill.plugins.huggingface import KDTrainer

    args = TrainingArguments(str(folder), **{**OPTIONS, **options})
    return gradients_of(
        KDTrainer(
            model=LLAMA.model(),
            args=args,
            train_dataset=LLAMA.rows,
            data_collator=collate,
            distill_args={"teacher_model": LLAMA.model(seed=1, scale=3.0)},
        )
    )
