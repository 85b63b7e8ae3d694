"""Which layers a model is made of, from its input to its head, and learning rates that follow them."""

from collections.abc import Iterator

from torch import nn
from transformers import Trainer


# What transformers calls the lists of equal blocks that make up a trunk.
STACK_NAMES = {"block", "blocks", "h", "layer", "layers", "stages"}


def layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """
    The blocks of a model's trunk, from input to head.

    Works for every architecture that keeps its blocks in lists, as those of transformers do: BERT, DistilBERT, MiniLM,
    ViT, DINOv2, MobileNetV2, GPT-2 and Llama; ResNet, ConvNeXt and Swin, whose stages are taken apart into their
    blocks; Whisper and T5, with the encoder's layers before the decoder's. A peft model has the layers of the model
    inside it.

    Args:
        model (`nn.Module`): The model, with or without a head.

    Returns:
        `list[tuple[str, nn.Module]]`: Each layer's dotted name and the layer itself.

    Raises:
        `ValueError`: The model has no such list of layers.

    Example:

    ```python
    >>> [name for name, _ in layers_of(model)]
    ['bert.encoder.layer.0', 'bert.encoder.layer.1']
    ```
    """
    layers = list(_layers_below(model, ""))
    if not layers:
        raise ValueError(f"{type(model).__name__} has no list of layers by which its depth could be told.")
    return layers


def _layers_below(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if name in STACK_NAMES and isinstance(child, nn.ModuleList | nn.Sequential):
            yield from _layers_in(child, f"{prefix}{name}.")
        else:
            yield from _layers_below(child, f"{prefix}{name}.")


def _layers_in(stack: nn.ModuleList | nn.Sequential, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for index, block in stack.named_children():
        if "Stage" in type(block).__name__:
            yield from _layers_below(block, f"{prefix}{index}.")
        elif isinstance(block, nn.ModuleList):  # one list of blocks for each stage
            yield from _layers_in(block, f"{prefix}{index}.")
        elif any(True for _ in block.children()):  # else it is one operation out of a head
            yield f"{prefix}{index}", block


def parameter_depths(model: nn.Module) -> dict[str, int]:
    """
    How far up in the model each parameter stands.

    What stands between two layers belongs to the upper one, such as the downsampling before a stage or the embeddings
    of a decoder. The order is the one in which the modules are declared, which is the order of the forward pass almost
    everywhere. A weight that is used twice, such as an embedding that is the head too, counts where it stands first.

    Args:
        model (`nn.Module`): A model that [`layers_of`] knows.

    Returns:
        `dict[str, int]`: The name of every parameter to 0 if it stands below the first layer (embeddings, stem),
        1 to n for the n layers, n + 1 above the last one (final norm, pooler, head).

    Raises:
        `ValueError`: The model has no list of layers.
    """
    layers = layers_of(model)
    layer_of = {
        id(parameter): number for number, (_, layer) in enumerate(layers, start=1) for parameter in layer.parameters()
    }
    depths, reached = {}, 0
    for name, parameter in model.named_parameters():
        depth = layer_of.get(id(parameter))
        if depth is None:
            depths[name] = reached + 1 if reached else 0
        else:
            depths[name] = reached = depth
    return depths


def layer_learning_rates(
    model: nn.Module, learning_rate: float, decay: float, weight_decay: float = 0.0
) -> list[dict]:
    """
    Optimizer groups whose learning rate falls from the head to the embeddings, as in
    [ULMFiT (Howard & Ruder, 2018)](https://huggingface.co/papers/1801.06146): `learning_rate * decay ** k` for what
    stands k layers below the head.

    Args:
        model (`nn.Module`): A model that [`layers_of`] knows. Frozen parameters get no group.
        learning_rate (`float`): The rate of the head and of all else above the last layer.
        decay (`float`): The ratio of the rates of two neighbouring layers, above 0 and at most 1.
        weight_decay (`float`, *optional*, defaults to 0.0):
            Weight decay of matrices and filters; biases and norms get none, as in [`~transformers.Trainer`].

    Returns:
        `list[dict]`: Groups with `params`, `lr` and `weight_decay`, from the input to the head.

    Raises:
        `ValueError`: `decay` is out of range, or the model has no list of layers.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"`decay` is {decay}, but it must be above 0 and at most 1.")
    depths = parameter_depths(model)
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    top = len(layers_of(model)) + 1
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((depths[name], name in decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * decay ** (top - depth),
            "weight_decay": weight_decay if is_decayed else 0.0,
        }
        for (depth, is_decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
