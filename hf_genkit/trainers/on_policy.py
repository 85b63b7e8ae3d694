"""A language model that learns on what it writes itself: a teacher's word on its own mistakes."""

from collections.abc import Iterator, Mapping

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..data.token_samples import end_id, padding_id
from .checkpointing import preserved_rng
from .noise import generator_for, uniform_noise


class OnPolicyMixin:
    """
    On-policy steps, as in [GKD (Agarwal et al., 2024)](https://arxiv.org/abs/2306.13649): in a share `args.on_policy` of
    the optimizer steps, a causal language model goes on from the prompts of its batches, and learns from the teacher on
    the tokens that it wrote.

    A prompt is what stands before the first labelled token, or the first half of a text that is labelled throughout or
    not at all. The student draws from its whole distribution at temperature 1, at most `args.on_policy_tokens` tokens, which
    must fit into its context behind the prompt. Which steps are on policy, and what is drawn in them, follows from the
    seed, the step and the process: a resumed run writes the same.
    """

    def check_before_training(self) -> None:
        if self.args.on_policy > 0:
            self._check_writer()
        super().check_before_training()

    def _check_writer(self) -> None:
        share = f"`on_policy` is {self.args.on_policy}, but"
        if self.task != "text-generation":
            raise ValueError(f"{share} only a causal language model can write: the student's task is '{self.task}'.")
        if not isinstance(self.processing_class, PreTrainedTokenizerBase):
            raise ValueError(f"{share} the end of what is written is unknown: pass the tokenizer as processing_class.")
        if self.args.alpha == 0:
            raise ValueError(f"{share} `alpha` is 0, and from what it writes it learns by its teacher alone.")
        if self._has_sharded_state:
            raise ValueError(f"{share} a model that FSDP or DeepSpeed shard can't write while it trains.")
        if self.args.loss_type == "uld":
            raise ValueError(
                f"{share} `loss_type` 'uld' is for other tokens, in which the teacher can't read what is written."
            )
        end_id(self.processing_class)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        if self.args.on_policy > 0:
            draw = uniform_noise(self.args.seed, self.state.global_step, torch.zeros(1).long(), "on policy", ())
            if draw < self.args.on_policy:
                epoch_iterator = (self.write(batch, number) for number, batch in enumerate(epoch_iterator))
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    @torch.no_grad()
    def write(self, batch: Mapping[str, torch.Tensor], number: int = 0) -> dict[str, torch.Tensor]:
        """
        Lets the student go on from the prompts of a batch.

        Args:
            batch (`Mapping[str, torch.Tensor]`): `input_ids` `[batch, tokens]`, `attention_mask` and `labels`, if any.
            number (`int`, *optional*, defaults to 0): Which of the optimizer step's micro-batches it is.

        Returns:
            `dict[str, torch.Tensor]`: Prompts and what was written, padded on the right: `input_ids`, `attention_mask`,
            `labels` (all -100), and `soft_mask`, which is true for the written tokens up to the end token.
        """
        padding, end = padding_id(self.processing_class), end_id(self.processing_class)
        prompts = [ids[kept] for ids, kept in zip(batch["input_ids"], _prompts(batch), strict=True)]
        mask = [torch.ones_like(ids) for ids in prompts]
        ids = pad_sequence(prompts, batch_first=True, padding_value=padding, padding_side="left")
        settings = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=self.args.on_policy_tokens,
            pad_token_id=padding,
            eos_token_id=end,
            use_cache=True,
        )
        student = self.accelerator.unwrap_model(self.model)
        training = student.training
        place = torch.tensor([number * self.args.world_size + self.args.process_index])
        # The first step after a resume is drawn before Trainer restores the global generators.
        with preserved_rng():
            torch.manual_seed(generator_for(self.args.seed, self.state.global_step, place).initial_seed())
            sequences = student.eval().generate(
                input_ids=ids,
                attention_mask=pad_sequence(mask, batch_first=True, padding_side="left"),
                generation_config=settings,
            )
        student.train(training)
        written = sequences[:, ids.shape[1] :]
        ends = written == end
        counted = ends.cumsum(-1) - ends.long() == 0
        texts = [torch.cat([prompt, row[kept]]) for prompt, row, kept in zip(prompts, written, counted, strict=True)]
        soft = [
            torch.arange(len(text), device=ids.device) >= len(prompt)
            for text, prompt in zip(texts, prompts, strict=True)
        ]
        new = pad_sequence(texts, batch_first=True, padding_value=padding)
        return {
            "input_ids": new,
            "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
            "labels": torch.full_like(new, -100),
            "soft_mask": pad_sequence(soft, batch_first=True),
        }


def _prompts(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Which tokens are prompts: boolean `[batch, tokens]`, at least one of each text."""
    attended = batch["attention_mask"] if "attention_mask" in batch else torch.ones_like(batch["input_ids"])
    labelled = batch["labels"] != -100 if "labels" in batch else torch.zeros_like(attended).bool()
    attended = attended.bool()
    before = (attended & (labelled.cumsum(-1) == 0)).sum(-1)
    count = attended.sum(-1)
    half = (count // 2).clamp(min=1)
    length = torch.where((before == 0) | (before == count), half, before)
    return attended & (attended.cumsum(-1) <= length[:, None])
