"""What a distillation loss is a mean over: samples, tokens or frames, with their labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from .inputs import own_of_teacher
from .tasks import CTC, SEQ2SEQ, shifts_labels


PER_TOKEN = ("token-classification", "fill-mask", "text-generation", *SEQ2SEQ, CTC)


@dataclass(frozen=True)
class Items:
    """
    The items of one micro-batch, at the positions of the logits that [`lined_up`] returns.

    Args:
        labels (`torch.Tensor`, *optional*): `[batch]` or `[batch, positions]`, -100 where there is none.
        soft (`torch.Tensor`): Which items the soft term covers, boolean, of the same shape.
        hard (`torch.Tensor`, *optional*):
            Which items the hard term covers; all of them are among the soft ones, but for frames (CTC), where it is
            `[batch]`: which samples have a transcript.
        paired (`torch.Tensor`, *optional*):
            Of the soft items, those that have a counterpart in the teacher's own tokens, where it has other tokens than the
            student: the i-th of a sample with the i-th.
        theirs (`torch.Tensor`, *optional*): Those counterparts: boolean, of the shape of the teacher's tokens.
    """

    labels: torch.Tensor | None
    soft: torch.Tensor
    hard: torch.Tensor | None
    paired: torch.Tensor | None = None
    theirs: torch.Tensor | None = None

    @property
    def counts(self) -> dict[str, torch.Tensor]:
        """How many items each term is a mean over."""
        soft = self.taught.sum()
        return {"kd_loss": soft, "ce_loss": torch.zeros_like(soft) if self.hard is None else self.hard.sum()}

    @property
    def taught(self) -> torch.Tensor:
        """Which items a teacher says something of."""
        return self.soft if self.paired is None else self.paired

    @property
    def samples(self) -> torch.Tensor:
        """For each soft item, in order, the index of its sample: `[items]`."""
        return self.soft.nonzero()[:, 0]

    @property
    def item_labels(self) -> torch.Tensor:
        """The soft items' labels `[items]`, -100 where there is none."""
        if self.labels is None or self.labels.shape != self.soft.shape:
            return torch.full((int(self.soft.sum()),), -100, device=self.soft.device)
        return self.labels[self.soft]

    def per_sample(self, values: torch.Tensor) -> torch.Tensor:
        """Sums of the soft items' values, `[items]`, over each sample: `[batch]`."""
        return values.new_zeros(len(self.soft)).index_add(0, self.samples, values)


def items_of(task: str, inputs: Mapping[str, torch.Tensor], model: PreTrainedModel) -> Items:
    """
    The items of a micro-batch.

    A sample without a label teaches through the soft term alone. Where items are tokens, the soft term covers the
    labelled ones, or, in a sequence without any, all that are attended to; a boolean `soft_mask` `[batch, tokens]`
    among the inputs overrules both. Where the inputs hold `teacher_labels`, which are about `teacher_input_ids`, the
    student's and the teacher's items are paired by their order.

    Args:
        task (`str`): A key of `hf_genkit.trainers.tasks.DISTILLED`.
        inputs (`Mapping[str, torch.Tensor]`): A batch with or without `labels`.
        model (`PreTrainedModel`): The student, which knows its main input and how long its frames are.

    Raises:
        `ValueError`: A sequence-to-sequence model gets no labels, without which its decoder has nothing to read.
    """
    labels = inputs.get("labels")
    hard = None if labels is None else labels != -100
    if task not in PER_TOKEN:
        main = inputs[model.main_input_name]
        return Items(labels, torch.ones(len(main), dtype=torch.bool, device=main.device), hard)
    if task == CTC:
        return Items(labels, _frames(inputs, model), None if hard is None else hard.any(dim=-1))
    if task in SEQ2SEQ:
        if labels is None:
            raise ValueError(
                "A sequence-to-sequence model is distilled on labels, which its decoder reads; there are none."
            )
        return Items(labels, hard, hard)
    tokens = inputs["input_ids"]
    attended = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(tokens).bool()
    soft = inputs.get("soft_mask")
    if shifts_labels(task):
        attended = attended[:, 1:]
        labels, hard, soft = (None if value is None else value[:, 1:] for value in (labels, hard, soft))
    if soft is None:
        soft = attended if hard is None else torch.where(hard.any(dim=-1, keepdim=True), hard, attended)
    if "teacher_labels" not in inputs:
        return Items(labels, soft, hard)
    theirs = items_of(task, own_of_teacher(inputs), model).soft
    return Items(labels, soft, hard, _first(soft, theirs.sum(1)), _first(theirs, soft.sum(1)))


def lined_up(task: str, values: torch.Tensor) -> torch.Tensor:
    """Logits or hidden states `[batch, positions, ...]` without the last position, where the model predicts the next token."""
    return values[:, :-1] if shifts_labels(task) else values


def _first(mask: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The first so many of a mask's true places, for each sample."""
    return mask & (mask.cumsum(-1) <= counts[:, None])


def _frames(inputs: Mapping[str, torch.Tensor], model: PreTrainedModel) -> torch.Tensor:
    """Which frames of a CTC model hold sound: `[batch, frames]`."""
    main = inputs[model.main_input_name]
    mask = inputs.get("attention_mask")
    samples = torch.full((len(main),), main.shape[1], device=main.device) if mask is None else mask.sum(-1)
    length = model._get_feat_extract_output_lengths
    frames = torch.arange(int(length(torch.tensor(main.shape[1]))), device=main.device)
    return frames < length(samples)[:, None]
