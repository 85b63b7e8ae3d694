"""What a training step of a model costs, measured."""

import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..arguments import check_choice
from ..trainers.finetuning_report import optimizer_bytes


OPTIMIZERS = {
    "adafactor": torch.optim.Adafactor,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class TrainingCost:
    """
    What [`training_cost`] measured.

    Args:
        trainable_parameters (`int`): How many numbers are trained.
        frozen_parameters (`int`): How many are not.
        optimizer_bytes (`int`): What the optimizer keeps between two steps.
        gradient_bytes (`int`): All gradients together.
        activation_bytes (`int`): What the forward pass keeps for the backward pass, the weights not counted.
        step_seconds (`float`): Median wall-clock time of a step.
    """

    trainable_parameters: int
    frozen_parameters: int
    optimizer_bytes: int
    gradient_bytes: int
    activation_bytes: int
    step_seconds: float

    def row(self) -> dict[str, str]:
        """The cost as columns of a table."""
        return {
            "Trainable": f"{self.trainable_parameters:,}",
            "Optimizer": f"{self.optimizer_bytes / 1e6:.1f} MB",
            "Gradients": f"{self.gradient_bytes / 1e6:.1f} MB",
            "Activations": f"{self.activation_bytes / 1e6:.1f} MB",
            "Step": f"{1000 * self.step_seconds:.1f} ms",
        }


def training_cost(
    model: nn.Module, inputs: Mapping[str, torch.Tensor], optimizer: str = "adamw", steps: int = 5
) -> TrainingCost:
    """
    Takes a few training steps with a copy of a model and measures them, to compare before and after freezing.

    Memory is counted, not estimated: the tensors in the optimizer's state, the gradients, and the tensors that autograd
    saves in one forward pass. The learning rate is 0, which costs as much as any other.

    Args:
        model (`nn.Module`): A model whose output has a `loss`; it is left as it is.
        inputs (mapping from `str` to `torch.Tensor`): A batch with labels, on the model's device.
        optimizer (`str`, *optional*, defaults to `"adamw"`): "adafactor", "adamw" or "sgd", as torch has them.
        steps (`int`, *optional*, defaults to 5): Number of timed steps, after one that is not timed.

    Returns:
        [`TrainingCost`]

    Raises:
        `ValueError`: There is no such optimizer, `steps` is below 1, all of the model is frozen, or it gives no loss.

    Example:

    ```python
    >>> before = training_cost(model, batch)
    >>> freeze_layers(model, first=5)
    >>> after = training_cost(model, batch)
    >>> print(text_table([before.row(), after.row()]))
    ```
    """
    check_choice("optimizer", optimizer, list(OPTIMIZERS))
    if steps < 1:
        raise ValueError(f"`steps` is {steps}, but it must be at least 1.")
    model = copy.deepcopy(model).train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"All of {type(model).__name__} is frozen: a step would train nothing.")
    rule = OPTIMIZERS[optimizer](trainable, lr=0.0)
    activation_bytes = _activation_bytes(model, inputs)
    seconds = []
    for _ in range(1 + steps):
        rule.zero_grad()
        start = time.perf_counter()
        _loss(model, inputs).backward()
        rule.step()
        if trainable[0].device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - start)
    count = sum(parameter.numel() for parameter in trainable)
    return TrainingCost(
        trainable_parameters=count,
        frozen_parameters=sum(parameter.numel() for parameter in model.parameters()) - count,
        optimizer_bytes=optimizer_bytes(rule),
        gradient_bytes=sum(parameter.grad.nbytes for parameter in trainable),
        activation_bytes=activation_bytes,
        step_seconds=statistics.median(seconds[1:]),
    )


def _loss(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    loss = model(**inputs).loss
    if loss is None:
        raise ValueError(f"{type(model).__name__} gives no loss for {', '.join(inputs)}: are there labels?")
    return loss


def _activation_bytes(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> int:
    """Bytes of all storages that autograd saves in a forward pass, each counted once, without the model's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    saved = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = _loss(model, inputs)  # holds the graph, so no storage's address is used twice
    del loss
    return sum(saved.values())
