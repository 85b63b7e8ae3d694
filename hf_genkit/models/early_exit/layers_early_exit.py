"""The layers of any classifier, how wide they are, and what an exit reads of them."""

from collections.abc import Iterator

import torch
from torch import nn


# What transformers calls the lists of equal blocks that make up a trunk.
STACK_NAMES = {"block", "blocks", "h", "layer", "layers", "stages"}


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model's trunk, from input to head; those of stages one by one."""
    return list(_layers_below(model))


def _layers_below(module: nn.Module) -> Iterator[nn.Module]:
    for name, child in module.named_children():
        if name in STACK_NAMES and isinstance(child, nn.ModuleList | nn.Sequential):
            yield from _layers_in(child)
        else:
            yield from _layers_below(child)


def _layers_in(stack: nn.ModuleList | nn.Sequential) -> Iterator[nn.Module]:
    for block in stack.children():
        if "Stage" in type(block).__name__:
            yield from _layers_below(block)
        elif isinstance(block, nn.ModuleList):  # one list of blocks for each stage
            yield from _layers_in(block)
        elif any(True for _ in block.children()):  # else it is one operation out of a head
            yield block


def width_of(layer: nn.Module) -> int:
    """How many channels a layer gives: the length of its last parameter, which is a norm's or the last bias."""
    return [parameter.shape[0] for parameter in layer.parameters()][-1]


def pooled(output: torch.Tensor | tuple, mask: torch.Tensor | None) -> torch.Tensor:
    """
    The mean over what a layer gives for all positions, `(batch, channels)`.

    Args:
        output (`torch.Tensor` or `tuple`): Maps `(batch, channels, height, width)` or tokens `(batch, tokens, channels)`;
            of a tuple, its first part.
        mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for the tokens that count.
    """
    hidden = output[0] if isinstance(output, tuple) else output
    if hidden.ndim == 4:
        return hidden.mean((2, 3))
    if mask is None:
        return hidden.mean(1)
    mask = mask.to(hidden.dtype)[..., None]
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
