"""Unstructured and N:M pruning: weights set to zero, through `torch.nn.utils.prune`."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..arguments.checks import check_choice, nearest


SCOPES = ["global", "layer"]


def prunable_layers(
    model: PreTrainedModel, exclude: Sequence[str] = (), include_head: bool = False
) -> dict[str, nn.Module]:
    """
    The layers whose weights pruning may set to zero: `Linear`, `Conv1d`, `Conv2d` and GPT-2's `Conv1D`, without those
    that make embeddings (by their name) and without the head, which is all that stands outside `model.base_model`.

    Args:
        model (`PreTrainedModel`): The model.
        exclude (sequence of `str`, *optional*):
            Names of layers or of modules that hold layers to leave out, in full or in part: "layer.0", "attention".
        include_head (`bool`, *optional*, defaults to `False`): Whether the head is pruned as well.

    Returns:
        `dict[str, nn.Module]`: Name to layer, in the model's order.

    Raises:
        `ValueError`: A name of `exclude` fits no layer, no layer is left, or the head shares its weights with the
            embeddings.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | Conv1D) and "embed" not in name
    }
    for entry in exclude:
        if not any(_is_part(entry, name) for name in layers):
            parts = sorted({part for name in layers for part in name.split(".")} | set(layers))
            raise ValueError(f"`exclude` has '{entry}', but no layer's name has it{nearest(entry, parts)}.")
    body = f"{model.base_model_prefix}." if model.base_model is not model else ""
    output = model.get_output_embeddings()
    head = {name for name, layer in layers.items() if not name.startswith(body) or layer is output}
    chosen = {
        name: layer
        for name, layer in layers.items()
        if (include_head or name not in head) and not any(_is_part(entry, name) for entry in exclude)
    }
    if not chosen:
        raise ValueError(f"`exclude` and `include_head` leave no layer of this {type(model).__name__} to prune.")
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, layer in chosen.items():
        if id(layer.weight) in embeddings:
            raise ValueError(f"`include_head` is set, but '{name}' shares its weights with the embeddings.")
    return chosen


def prune_weights(
    model: PreTrainedModel,
    sparsity: float = 0.5,
    scope: str = "global",
    exclude: Sequence[str] = (),
    include_head: bool = False,
) -> PreTrainedModel:
    """
    Masks the smallest weights of a model in place ([Han et al., 2015](https://huggingface.co/papers/1506.02626)). This
    makes a model that compresses better, not a faster one: dense kernels multiply zeros as well. For speed see
    [`prune_structure`], and call [`make_permanent`] before the model is saved or trained by a `Trainer`.

    Args:
        model (`PreTrainedModel`): The model. What is masked already stays masked.
        sparsity (`float`, *optional*, defaults to 0.5): Share of the weights that become zero, from 0 to below 1.
        scope (`str`, *optional*, defaults to `"global"`):
            "global" compares the weights of all layers with each other, so that some layers lose more than others;
            "layer" takes the same share from each.
        exclude, include_head (*optional*): Which layers; see [`prunable_layers`].

    Returns:
        `PreTrainedModel`: The same model, with `weight_orig` and `weight_mask` in place of `weight`.

    Raises:
        `ValueError`: A value is out of range or unknown.
    """
    check_sparsity(sparsity)
    check_choice("scope", scope, SCOPES)
    layers = prunable_layers(model, exclude, include_head)
    masks = magnitude_masks({name: layer.weight for name, layer in layers.items()}, sparsity, scope)
    for name, layer in layers.items():
        prune.custom_from_mask(layer, "weight", masks[name])
    return model


def prune_n_m(
    model: PreTrainedModel, n: int = 2, m: int = 4, exclude: Sequence[str] = (), include_head: bool = False
) -> PreTrainedModel:
    """
    Masks all but the `n` largest of each `m` neighbouring weights along the input dimension, in place: 2:4 is what
    sparse tensor cores of GPUs run faster ([Mishra et al., 2021](https://huggingface.co/papers/2104.08378)); a CPU
    gains nothing.

    Args:
        model (`PreTrainedModel`): The model. What is masked already stays masked.
        n (`int`, *optional*, defaults to 2): How many weights of each group stay, at least 1 and below `m`.
        m (`int`, *optional*, defaults to 4): The size of a group.
        exclude, include_head (*optional*): Which layers; see [`prunable_layers`].

    Returns:
        `PreTrainedModel`: The same model, with `weight_orig` and `weight_mask` in place of `weight`.

    Raises:
        `ValueError`: `n` and `m` don't fit each other, or a layer's number of inputs is no multiple of `m`.
    """
    if not 1 <= n < m:
        raise ValueError(f"`n` is {n} and `m` is {m}, but `n` must be at least 1 and below `m`.")
    layers = prunable_layers(model, exclude, include_head)
    for name, layer in layers.items():
        width = layer.weight.shape[input_dim(layer)]
        if width % m:
            raise ValueError(
                f"'{name}' has {width} inputs, which can't be divided into groups of {m}: name it in `exclude`."
            )
    for layer in layers.values():
        groups = layer.weight.detach().abs().movedim(input_dim(layer), -1).unflatten(-1, (-1, m))
        kept = torch.zeros_like(groups).scatter_(-1, groups.topk(n, dim=-1).indices, 1.0)
        prune.custom_from_mask(layer, "weight", kept.flatten(-2).movedim(-1, input_dim(layer)))
    return model


def make_permanent(model: PreTrainedModel) -> PreTrainedModel:
    """
    Burns the masks of [`prune_weights`] and [`prune_n_m`] into the weights, in place: what was masked is exactly zero,
    the names of the weights are the ones they had before, and the model saves and loads like any other.

    Args:
        model (`PreTrainedModel`): The model; one without masks is left as it is.

    Returns:
        `PreTrainedModel`: The same model.
    """
    for module in model.modules():
        if "weight_mask" in dict(module.named_buffers(recurse=False)):
            prune.remove(module, "weight")
    return model


def sparsity_of(model: PreTrainedModel, exclude: Sequence[str] = (), include_head: bool = False) -> dict:
    """
    What share of a model's weights is zero.

    Args:
        model (`PreTrainedModel`): The model, with masks or without.
        exclude, include_head (*optional*): Which layers; see [`prunable_layers`].

    Returns:
        `dict`: `layers`, from each layer's name to the share of its weights; `total`, the share over these layers;
        and `model`, the share over all parameters of the model, embeddings and biases included.
    """
    layers = prunable_layers(model, exclude, include_head)
    zeros = {name: int((layer.weight == 0).sum()) for name, layer in layers.items()}
    weights = {name: layer.weight.numel() for name, layer in layers.items()}
    inside = {id(parameter) for layer in layers.values() for parameter in layer.parameters(recurse=False)}
    outside = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    outside += [layer.bias for layer in layers.values() if layer.bias is not None]
    all_zeros = sum(zeros.values()) + sum(int((parameter == 0).sum()) for parameter in outside)
    return {
        "layers": {name: zeros[name] / weights[name] for name in layers},
        "total": sum(zeros.values()) / sum(weights.values()),
        "model": all_zeros / sum(parameter.numel() for parameter in model.parameters()),
    }


def check_sparsity(sparsity: float) -> None:
    """Raises a `ValueError` unless the share is at least 0 and below 1."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"`sparsity` is {sparsity}, but it must be at least 0 and below 1.")


def magnitude_masks(weights: dict[str, torch.Tensor], sparsity: float, scope: str) -> dict[str, torch.Tensor]:
    """
    Masks that hide the smallest weights.

    Args:
        weights (`dict[str, torch.Tensor]`): Name to weights of any shape.
        sparsity (`float`): Share of the weights to hide; rounded to the nearest whole number of weights.
        scope (`str`): "global" to compare all of them, "layer" to take the share from each tensor.

    Returns:
        `dict[str, torch.Tensor]`: Name to a mask of the weights' shape, 0 where a weight is hidden and 1 elsewhere.
    """
    if scope == "layer":
        return {name: _mask(weight.detach().flatten(), sparsity).view_as(weight) for name, weight in weights.items()}
    together = _mask(torch.cat([weight.detach().flatten() for weight in weights.values()]), sparsity)
    parts = together.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


def input_dim(layer: nn.Module) -> int:
    """The dimension of a layer's weight along which its inputs lie."""
    return 0 if isinstance(layer, Conv1D) else 1


def _mask(weights: torch.Tensor, sparsity: float) -> torch.Tensor:
    amount = round(sparsity * weights.numel())
    return prune.L1Unstructured(amount).compute_mask(weights, torch.ones_like(weights))


def _is_part(entry: str, name: str) -> bool:
    return f".{entry}." in f".{name}."
