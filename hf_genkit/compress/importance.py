"""How much a network's units matter."""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .masking import input_dim
from .units import Part, Units


def magnitude_scores(model: PreTrainedModel, groups: list[Units]) -> list[torch.Tensor]:
    """
    The L2 norm of all weights of a unit ([Li et al., 2017](https://huggingface.co/papers/1608.08710)).

    Args:
        model (`PreTrainedModel`): The model.
        groups (`list[Units]`): Its units.

    Returns:
        `list[torch.Tensor]`: For each entry of `groups` the scores `[count]`, the least important lowest.
    """
    weights = {name: parameter.detach().float() for name, parameter in model.named_parameters()}
    return [
        sum(
            group.apart(weights[part.tensor], part).square().sum(1) for part in group.parts if part.tensor in weights
        ).sqrt()
        for group in groups
    ]


def taylor_scores(model: PreTrainedModel, groups: list[Units], batches: Iterable[Mapping]) -> list[torch.Tensor]:
    """
    How much the loss changes, to first order, when a unit falls silent: the square of the loss's derivative by a gate
    on the unit, summed over batches ([Molchanov et al., 2019](https://huggingface.co/papers/1906.10771), for heads
    [Michel et al., 2019](https://huggingface.co/papers/1905.10650)). The derivative is the sum of weight times
    gradient over the weights that read the unit.

    Args:
        model (`PreTrainedModel`): The model, which is left as it is; dropout is off.
        groups (`list[Units]`): Its units.
        batches (iterable of `Mapping`): Inputs of the model with labels. Several small batches tell more than a large
            one, in which the derivatives of different samples cancel out.

    Returns:
        `list[torch.Tensor]`: For each entry of `groups` the scores `[count]`, the least important lowest.

    Raises:
        `ValueError`: There is no batch, or the model gives no loss for one.
    """
    model = copy.deepcopy(model).eval().requires_grad_(True)
    inputs = {
        f"{name}.weight": input_dim(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | Conv1D)
    }
    readers = [[part for part in group.parts if inputs.get(part.tensor) == part.dim] for group in groups]
    scores = [torch.zeros(group.count, device=model.device) for group in groups]
    used = 0
    for batch in batches:
        loss = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss
        if loss is None:
            raise ValueError(f"`batches` has one without labels for which {type(model).__name__} gives a loss.")
        model.zero_grad()
        loss.backward()
        for score, group, parts in zip(scores, groups, readers, strict=True):
            gates = [_weight_times_gradient(model.get_parameter(part.tensor), group, part) for part in parts]
            score += sum(gates).square()
        used += 1
    if not used:
        raise ValueError("`batches` is empty, but the importance 'taylor' needs at least one batch.")
    return scores


def _weight_times_gradient(weight: nn.Parameter, group: Units, part: Part) -> torch.Tensor:
    return group.apart(weight.detach().float() * weight.grad.float(), part).sum(1)
