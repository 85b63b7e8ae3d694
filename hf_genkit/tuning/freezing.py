"""Training only the upper layers of a model, from the start or one layer after another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from ..arguments.checks import check_choice, nearest
from ..trainers.layers import layers_of, parameter_depths


@dataclass(frozen=True)
class FrozenModel:
    """
    What [`freeze_layers`] left to train.

    Args:
        layers (`int`): How many of the model's layers are frozen as a whole.
        frozen_parameters (`int`): How many numbers stay as they are.
        trainable_parameters (`int`): How many numbers are trained.
    """

    layers: int
    frozen_parameters: int
    trainable_parameters: int


def freeze_layers(
    model: nn.Module, first: int | Literal["all"] | None = None, patterns: Sequence[str] | None = None
) -> FrozenModel:
    """
    Freezes the lower part of a model, in place: what is frozen needs neither gradients nor optimizer memory, and where
    everything below a layer is frozen too, the backward pass ends there.

    BatchNorm layers with frozen weights keep their running statistics too, in `model.train()` as well: a forward hook
    puts them into evaluation mode, for as long as their weights are frozen. Dropout in frozen layers goes on, as it
    does in [`~transformers.Trainer`] everywhere: the layers above were to see its noise anyhow, and it varies what
    they learn from. Hooks are not saved: `from_pretrained` gives a plain model, all of it trainable.

    Args:
        model (`nn.Module`):
            A model with a list of layers, see [`~hf_genkit.trainers.layers.layers_of`]. What is frozen already stays so.
        first (`int` or `"all"`, *optional*):
            Freeze so many layers, counted from the input, and all that lies below them, such as the embeddings. 0
            freezes the embeddings alone, `"all"` every layer, so that only what is above the last one is trained.
        patterns (sequence of `str`, *optional*):
            Shell-style patterns such as `"*.layer.2"` or `"*LayerNorm*"`, for the names of parameters or modules. What
            matches is frozen; and where that freezes a whole layer, all that lies below it is frozen as well.

    Returns:
        [`FrozenModel`]: The counts.

    Raises:
        `ValueError`: Neither `first` nor `patterns` is given, the model has fewer layers, a pattern matches nothing, or
            nothing would be left to train. The model is left as it was.

    Example:

    ```python
    >>> model = AutoModelForImageClassification.from_pretrained("facebook/dinov2-small", num_labels=2)
    >>> freeze_layers(model, first=5)
    FrozenModel(layers=5, frozen_parameters=9629184, trainable_parameters=12428930)
    ```
    """
    if first is None and not patterns:
        raise ValueError("freeze_layers needs `first` or `patterns`: neither is given.")
    layers, depths = layers_of(model), parameter_depths(model)
    count = len(layers)
    if first is not None and first != "all" and not 0 <= first <= count:
        raise ValueError(f"`first` is {first}, but {type(model).__name__} has {count} layers: 0 to {count}, or 'all'.")
    matched = _matches(model, patterns or [])
    top = max(_highest_whole(layers, matched), count if first == "all" else -1 if first is None else first)
    frozen = {name for name, depth in depths.items() if depth <= top} | matched
    if not any(parameter.requires_grad for name, parameter in model.named_parameters() if name not in frozen):
        raise ValueError(f"This would freeze all of {type(model).__name__}: nothing would be left to train.")
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad = False
    _keep_statistics(model)
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    return FrozenModel(max(top, 0), frozen_parameters=sizes[False], trainable_parameters=sizes[True])


def _matches(model: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Names of the parameters that a pattern means, by their own name or by that of a module around them."""
    modules = {name: [f"{name}.{p}" for p, _ in module.named_parameters()] for name, module in model.named_modules()}
    modules = {name: parameters for name, parameters in modules.items() if name and parameters}
    meant = modules | {name: [name] for name, _ in model.named_parameters()}
    matched = set()
    for pattern in patterns:
        found = [name for name in meant if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(
                f"`patterns` has '{pattern}', but no module or parameter of {type(model).__name__} is called so"
                f"{nearest(pattern, list(meant))}."
            )
        matched.update(parameter for name in found for parameter in meant[name])
    return matched


def _highest_whole(layers: list[tuple[str, nn.Module]], frozen: set[str]) -> int:
    """Number of the highest layer all of whose parameters are among the frozen ones, -1 if there is none."""
    highest = -1
    for number, (name, layer) in enumerate(layers, start=1):
        if {f"{name}.{parameter}" for parameter, _ in layer.named_parameters()} <= frozen:
            highest = number
    return highest


def _keep_statistics(model: nn.Module) -> None:
    for module in model.modules():
        if (
            isinstance(module, _BatchNorm)
            and module.affine
            and _eval_if_frozen not in module._forward_pre_hooks.values()
        ):
            module.register_forward_pre_hook(_eval_if_frozen)


def _eval_if_frozen(norm: _BatchNorm, inputs: tuple) -> None:
    if not norm.weight.requires_grad:
        norm.eval()


class GradualUnfreezing(TrainerCallback):
    """
    Trains the head first, then one layer more from the top at a time, and the embeddings last, as in
    [ULMFiT (Howard & Ruder, 2018)](https://huggingface.co/papers/1801.06146), so that a new head's first, wild
    gradients don't spoil what the layers know.

    Which layers train follows from the number of optimizer steps alone, so a resumed run goes on exactly. All that the
    optimizer holds is trained in the end; what was frozen before, as by [`freeze_layers`], stays frozen. Frozen weights
    have no gradient, so weight decay doesn't move them either. When training ends, all that the optimizer holds is
    trainable again.

    Args:
        every (`float`, *optional*, defaults to 1.0): After how much training each layer follows the one above it.
        unit (`str`, *optional*, defaults to `"epochs"`): What `every` counts: "epochs", or optimizer "steps".

    Raises:
        `ValueError`: `every` is not above 0, or there is no such `unit`. When training starts: epochs of a stream, which
            has no length; several processes without `ddp_find_unused_parameters`.

    Example:

    ```python
    >>> trainer = FineTuningTrainer(model, args, ..., callbacks=[GradualUnfreezing(every=0.5)])
    ```
    """

    def __init__(self, every: float = 1.0, unit: str = "epochs"):
        check_choice("unit", unit, ["epochs", "steps"])
        if every <= 0:
            raise ValueError(f"`every` is {every}, but it must be above 0.")
        self.every, self.unit = every, unit

    def on_train_begin(self, args, state, control, model, train_dataloader, **kwargs):
        if args.world_size > 1 and not args.ddp_find_unused_parameters:
            raise ValueError("GradualUnfreezing on several processes needs ddp_find_unused_parameters=True.")
        self._steps = self.every
        if self.unit == "epochs":
            if not has_length(train_dataloader):
                raise ValueError("GradualUnfreezing counts epochs, but a stream has none: set its unit to 'steps'.")
            self._steps *= max(1, math.ceil(len(train_dataloader) / args.gradient_accumulation_steps))
        self._depths, self._top = parameter_depths(model), len(layers_of(model)) + 1
        _keep_statistics(model)

    def on_step_begin(self, args, state, control, model, optimizer, **kwargs):
        lowest = self._top - int(state.global_step / self._steps + 1e-9)
        self._train_from(lowest, model, optimizer)

    def on_train_end(self, args, state, control, model, optimizer, **kwargs):
        self._train_from(0, model, optimizer)

    def _train_from(self, lowest: int, model: nn.Module, optimizer) -> None:
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in model.named_parameters():
            if id(parameter) in trained:
                parameter.requires_grad = self._depths[name] >= lowest
