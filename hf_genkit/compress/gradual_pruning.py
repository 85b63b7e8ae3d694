"""Pruning while training: weights become zero little by little, and stay zero."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..arguments.checks import check_choice
from .masking import SCOPES, check_sparsity, magnitude_masks, prunable_layers


class GradualPruning(TrainerCallback):
    """
    Prunes a model by magnitude while any `Trainer` trains it, along the cubic schedule of
    [Zhu & Gupta, 2017](https://huggingface.co/papers/1710.01878): sparsity rises fast at first and slowly towards its
    final value, and the rest of the training heals the model. Without a `sparsity` it only keeps what is zero already
    at zero, to heal a model after [`prune_weights`] or [`prune_n_m`] and [`make_permanent`].

    The model stays a plain one: there is no parametrization, pruned weights are exactly zero after each optimizer step
    and in each checkpoint, and their gradients are zero too, so that they don't count when gradients are clipped. The
    zeros are the whole state: a resumed run reads them off the checkpoint's weights and goes on bit for bit. All
    processes hold the same weights and so find the same zeros; FSDP and DeepSpeed's ZeRO-3, which shard the weights,
    are not supported.

    Args:
        sparsity (`float`, *optional*):
            Share of the weights that are zero at the end, from 0 to below 1. `None` keeps the zeros that are there.
        start (`float`, *optional*, defaults to 0.0): When pruning begins, as a share of all optimizer steps.
        end (`float`, *optional*, defaults to 0.75): When the final sparsity is reached, at least `start`, at most 1.
        every (`int`, *optional*, defaults to 100): Number of optimizer steps between two rises of the sparsity.
        scope (`str`, *optional*, defaults to `"global"`): "global" or "layer"; see [`prune_weights`].
        exclude, include_head (*optional*): Which layers; see [`prunable_layers`].

    Raises:
        `ValueError`: A value is out of range or unknown; on training, `load_best_model_at_end` is set beside a
            `sparsity`, as the best checkpoint may be one from before it was reached.

    Example:

    ```python
    >>> trainer = DistillationTrainer(student, teacher, args, callbacks=[GradualPruning(0.8)], ...)
    ```
    """

    def __init__(
        self,
        sparsity: float | None = None,
        start: float = 0.0,
        end: float = 0.75,
        every: int = 100,
        scope: str = "global",
        exclude: Sequence[str] = (),
        include_head: bool = False,
    ):
        if sparsity is not None:
            check_sparsity(sparsity)
        if not 0 <= start <= end <= 1:
            raise ValueError(f"`start` is {start} and `end` is {end}, but they must be in order and from 0 to 1.")
        if every < 1:
            raise ValueError(f"`every` is {every}, but it must be at least 1.")
        check_choice("scope", scope, SCOPES)
        self.sparsity, self.start, self.end, self.every, self.scope = sparsity, start, end, every, scope
        self.exclude, self.include_head = tuple(exclude), include_head
        self._weights: dict[str, torch.nn.Parameter] = {}
        self._zeros: dict[str, torch.Tensor] = {}
        self._hooks: list = []

    def sparsity_at(self, step: int, max_steps: int) -> float:
        """
        The sparsity that the schedule has reached after a number of optimizer steps.

        Args:
            step (`int`): Steps done.
            max_steps (`int`): Steps of the whole training.

        Returns:
            `float`: The share of zero weights, which rises every `every` steps.
        """
        first, last = round(self.start * max_steps), round(self.end * max_steps)
        if step < first:
            return 0.0
        if step >= last:
            return self.sparsity
        done = (step - first) // self.every * self.every
        return self.sparsity * (1 - (1 - done / (last - first)) ** 3)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **kwargs
    ) -> None:
        if self.sparsity is not None and args.load_best_model_at_end:
            raise ValueError(
                "`load_best_model_at_end` is set, but the best checkpoint may be one from before the final sparsity."
            )
        layers = prunable_layers(model, self.exclude, self.include_head)
        self._weights = {name: layer.weight for name, layer in layers.items()}
        self._zeros = {}
        self._hooks = [
            weight.register_hook(lambda gradient, name=name: self._without_pruned(name, gradient))
            for name, weight in self._weights.items()
            if weight.requires_grad
        ]
        self._prune(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        self._prune(state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _prune(self, state: TrainerState) -> None:
        for name, zeros in self._zeros.items():
            self._weights[name].masked_fill_(zeros, 0)
        if self.sparsity is not None:
            reached = self.sparsity_at(state.global_step, state.max_steps)
            if reached == 0:
                return
            if reached > self.sparsity_at(state.global_step - 1, state.max_steps) or not self._zeros:
                for name, mask in magnitude_masks(self._weights, reached, self.scope).items():
                    self._weights[name].masked_fill_(mask == 0, 0)
        # What an optimizer step happens to set to zero is pruned too, so that the weights alone tell what is.
        self._zeros = {name: weight == 0 for name, weight in self._weights.items()}

    def _without_pruned(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.masked_fill(self._zeros[name], 0) if self._zeros else gradient
