"""Units of a network that pruning can remove: which slices of which tensors belong to one unit."""

import copy
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .masking import input_dim


@dataclass(frozen=True)
class Part:
    """
    Where units lie in one tensor.

    Args:
        tensor (`str`): Its name in the state dict.
        dim (`int`): The dimension along which the units follow each other, in blocks of equal size.
        copies (`int`, *optional*, defaults to 1): How many times all units follow each other along it.
    """

    tensor: str
    dim: int
    copies: int = 1


@dataclass(frozen=True)
class Units:
    """
    Units that are alike, of which some stay: the channels of a stage, the heads of a layer.

    Args:
        count (`int`): How many there are.
        kept (`int`): How many of them stay.
        parts (`list[Part]`): Every place where they lie.
    """

    count: int
    kept: int
    parts: list[Part]

    def apart(self, tensor: torch.Tensor, part: Part) -> torch.Tensor:
        """The tensor as `[count, everything of one unit]`."""
        return tensor.unflatten(part.dim, (part.copies, self.count, -1)).movedim(part.dim + 1, 0).flatten(1)

    def select(self, tensor: torch.Tensor, part: Part, indices: torch.Tensor) -> torch.Tensor:
        """The tensor with the units of these indices alone, in their order."""
        blocks = tensor.unflatten(part.dim, (part.copies, self.count, -1))
        return blocks.index_select(part.dim + 1, indices).flatten(part.dim, part.dim + 2)


@dataclass(frozen=True)
class Transformer:
    """
    What a family of transformers calls the widths that can be pruned.

    Args:
        writes (`tuple[str, ...]`): Ends of the names of the layers whose outputs are the heads side by side.
        reads (`str`): End of the name of the layer that reads the heads.
        intermediate (`str`, *optional*): The configuration's width of the feed-forward layers, or its ratio to hidden.
        grouped (`bool`, *optional*): Whether a key-value head may serve several heads.
        head_dim (`bool`, *optional*): Whether heads may be of another size than `hidden_size / num_attention_heads`.
    """

    writes: tuple[str, ...] = (".q_proj", ".k_proj", ".v_proj")
    reads: str = ".o_proj"
    intermediate: str = "intermediate_size"
    grouped: bool = False
    head_dim: bool = True


_BERT = Transformer((".self.query", ".self.key", ".self.value"), ".attention.output.dense", head_dim=False)
_LLAMA = Transformer(grouped=True)
TRANSFORMERS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "distilbert": Transformer((".q_lin", ".k_lin", ".v_lin"), ".out_lin", "hidden_dim", head_dim=False),
    "vit": Transformer(),
    "deit": Transformer(),
    "dinov2": Transformer(intermediate="mlp_ratio"),
    "gpt2": Transformer((".attn.c_attn",), ".attn.c_proj", "n_inner", head_dim=False),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
CONVOLUTIONAL = {"resnet": ("embedding_size", "hidden_sizes"), "convnext": ("hidden_sizes",)}


def units_of_transformer(model: PreTrainedModel, family: Transformer, target: PreTrainedConfig) -> list[Units]:
    """
    Finds the units by asking the configuration: what is smaller under `target` is made of them.

    Args:
        model (`PreTrainedModel`): The model to prune.
        family (`Transformer`): Its family.
        target (`PreTrainedConfig`): The smaller model's configuration.

    Returns:
        `list[Units]`: Feed-forward units and heads of each layer, and the hidden width that all layers share.
    """
    config = model.config
    now, then = _shapes(model, config), _shapes(model, target)
    changed = _differences(now, then)
    wider = {family.intermediate: (getattr(config, family.intermediate) or 4 * config.hidden_size) + 1}
    intermediate = changed & _differences(now, _shapes(model, with_values(config, wider)))
    readers, writers = _places_of_heads(model, family)
    heads = changed & (readers | writers)
    hidden = changed - intermediate - heads

    def units(places: set[tuple[str, int]], count: int, width: int) -> Units:
        name, dim = min(places)
        parts = [Part(tensor, d, copies=max(1, now[tensor][d] // width)) for tensor, d in sorted(places)]
        return Units(count, kept=count * then[name][dim] // now[name][dim], parts=parts)

    found = []
    for places in _by_layer(intermediate):
        name, dim = min(places)
        found.append(units(places, now[name][dim], now[name][dim]))
    for places in _by_layer(heads):
        name, dim = min(places & readers)
        count = config.num_key_value_heads if family.grouped else config.num_attention_heads
        found.append(units(places, count, now[name][dim]))
    if hidden:
        found.append(units(hidden, config.hidden_size, config.hidden_size))
    return found


def units_of_convolutions(model: PreTrainedModel, target: PreTrainedConfig) -> list[Units]:
    """
    Finds the channels that depend on each other with the dependency graph of torch-pruning
    ([Fang et al., 2023](https://huggingface.co/papers/2301.12900)).

    Args:
        model (`PreTrainedModel`): The model to prune, which takes images of any size.
        target (`PreTrainedConfig`): The smaller model's configuration.

    Returns:
        `list[Units]`: The channels that a stage shares, and those inside each block.

    Raises:
        `ImportError`: torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise ImportError('Pruning channels needs torch-pruning: pip install "hf-genkit[prune]"') from error
    then = _shapes(model, target)
    traced = copy.deepcopy(model).eval().requires_grad_(True)
    names = {id(module): name for name, module in traced.named_modules()}
    loose = {id(parameter): name for name, parameter in traced.named_parameters()}
    parameters = [(parameter, parameter.ndim - 1) for module in traced.modules() for parameter in _loose(module)]
    image = torch.zeros(1, model.config.num_channels, 64, 64, dtype=model.dtype, device=model.device)
    graph = torch_pruning.DependencyGraph().build_dependency(
        traced, example_inputs={"pixel_values": image}, unwrapped_parameters=parameters
    )
    found = []
    for group in graph.get_all_groups():
        parts, count = [], len(group[0].idxs)
        for dependency, _ in group:
            module = dependency.target.module
            if isinstance(module, nn.Parameter):
                parts.append(Part(loose[id(module)], module.ndim - 1))
            elif id(module) in names:
                outputs = graph.is_out_channel_pruning_fn(dependency.handler)
                parts += _parts_of_layer(names[id(module)], module, outputs)
        first = parts[0]
        width = traced.get_parameter(first.tensor).shape[first.dim]
        kept = count * then[first.tensor][first.dim] // width
        if kept < count:
            found.append(Units(count, kept, parts))
    return found


def with_values(config: PreTrainedConfig, values: Mapping[str, object]) -> PreTrainedConfig:
    """
    A copy of a configuration with some values changed.

    Raises:
        `ValueError`: The configuration's class can't have such values.
    """
    renamed = {config.attribute_map.get(name, name): value for name, value in values.items()}
    try:
        return type(config).from_dict(config.to_dict() | renamed)
    except StrictDataclassError as error:
        reason = str(error).splitlines()[-1].partition("Error: ")[2]
        raise ValueError(f"No {type(config).__name__} can have the values {renamed}: {reason}") from error


def _shapes(model: PreTrainedModel, config: PreTrainedConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in type(model)(copy.deepcopy(config)).state_dict().items()}


def _differences(shapes: dict[str, torch.Size], others: dict[str, torch.Size]) -> set[tuple[str, int]]:
    """Tensors and dimensions that are of another size."""
    return {
        (name, dim) for name, shape in shapes.items() for dim, size in enumerate(shape) if others[name][dim] != size
    }


def _places_of_heads(model: PreTrainedModel, family: Transformer) -> tuple[set, set]:
    """Tensors and dimensions along which heads are read, and along which they are written."""
    readers, writers = set(), set()
    for name, module in model.named_modules():
        if name.endswith(family.reads):
            readers.add((f"{name}.weight", input_dim(module)))
        elif name.endswith(family.writes):
            writers |= {(f"{name}.weight", 1 - input_dim(module)), (f"{name}.bias", 0)}
    return readers, writers


def _by_layer(places: set[tuple[str, int]]) -> Iterable[set[tuple[str, int]]]:
    """The places of each layer: those whose names agree up to the first number."""
    layers = defaultdict(set)
    for name, dim in sorted(places):
        layers[re.match(r".*?\.\d+\.", name)[0]].add((name, dim))
    return layers.values()


def _loose(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that stand beside a module's layers, such as the scale of a residual branch."""
    return [parameter for parameter in module.parameters(recurse=False) if list(module.children())]


def _parts_of_layer(name: str, layer: nn.Module, outputs: bool) -> list[Part]:
    """Where a layer's output channels lie, or its input channels."""
    tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
    return [
        Part(f"{name}.{tensor_name}", 0 if outputs else 1)
        for tensor_name, tensor in tensors
        if tensor.ndim > (0 if outputs else 1)
    ]
