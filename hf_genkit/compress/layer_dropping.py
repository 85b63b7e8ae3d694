"""A student that starts as some of its teacher's layers."""

import copy
from collections.abc import Sequence

from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel


def student_from_teacher(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """
    Builds a shallower model of the teacher's class from the embeddings, the head and some of the transformer layers of
    the teacher, as [DistilBERT (Sanh et al., 2019)](https://arxiv.org/abs/1910.01108) initialises its student. Evenly
    spread layers are a good first choice; the student needs training before it is of use.

    Works for every architecture that stacks `config.num_hidden_layers` layers once, such as BERT, DistilBERT, RoBERTa,
    ViT, DINOv2, GPT-2, Llama and Qwen. Of a sequence-to-sequence model, such as Whisper or BART, the layers are those of
    the decoder, and the encoder is kept whole, as in [Distil-Whisper](https://huggingface.co/papers/2311.00430).

    Args:
        teacher (`~transformers.PreTrainedModel`):
            The model to take the weights from. It is left as it is.
        layers (sequence of `int`):
            Indices of the layers to keep, counted from 0, in increasing order.

    Returns:
        `~transformers.PreTrainedModel`: a model with its own copy of the weights, all of them trainable, with the
        teacher's dtype, device and training mode, that saves and loads like any other. What its configuration says for
        each layer (such as `layer_types`) is kept for these layers alone, and the stages of a backbone are reset to
        the last one.

    Raises:
        `ValueError`: if the layers are not distinct, increasing and within range, or the teacher has no single stack
            of interchangeable layers.

    Example:

    ```python
    >>> student = student_from_teacher(teacher, layers=[0, 5])
    >>> student.config.num_hidden_layers
    2
    ```
    """
    name = _name_of_depth(teacher.config)
    depth = getattr(teacher.config, name, None)
    stack = _find_stack(teacher, name, depth)
    layers = list(layers)
    if not layers or layers != sorted(set(layers)) or not set(layers) <= set(range(depth)):
        raise ValueError(f"layers must be one or more increasing indices from 0 to {depth - 1}, got {layers}.")

    student = rebuild(
        teacher,
        _config_of_layers(teacher.config, name, layers),
        _renumber(teacher.state_dict(), stack, layers),
        refusal=f"cannot be reduced to the layers {layers}: its layers are not interchangeable",
    )
    if student.can_generate() and "alignment_heads" in student.generation_config.to_dict():
        _renumber_alignment_heads(student.generation_config, layers)
    return student


def rebuild(model: PreTrainedModel, config: PreTrainedConfig, weights: dict, refusal: str) -> PreTrainedModel:
    """
    A model of the same class, dtype, device and training mode with another configuration and these weights.

    Args:
        model (`~transformers.PreTrainedModel`): The model to take all else from.
        config (`PreTrainedConfig`): The new model's configuration.
        weights (`dict[str, torch.Tensor]`): The new model's state dict.
        refusal (`str`): What the error says of the model where the weights don't fit the configuration.

    Returns:
        `~transformers.PreTrainedModel`: The new model, all of it trainable.

    Raises:
        `ValueError`: if the weights don't fit the configuration.
    """
    new = (
        type(model)
        ._from_config(config, dtype=model.dtype, attn_implementation=model.config._attn_implementation)
        .to(model.device)
    )
    mismatched = {(name, weight.shape) for name, weight in weights.items()} ^ {
        (name, weight.shape) for name, weight in new.state_dict().items()
    }
    if mismatched:
        raise ValueError(f"{type(model).__name__} {refusal} (see {min(mismatched)[0]}).")
    new.load_state_dict(weights)
    if model.can_generate():
        new.generation_config = copy.deepcopy(model.generation_config)
    return new.train(model.training)


def _name_of_depth(config: PreTrainedConfig) -> str:
    """What the configuration calls the number of layers, of a sequence-to-sequence model those of its decoder."""
    if not config.is_encoder_decoder:
        return "num_hidden_layers"
    return "num_decoder_layers" if "num_decoder_layers" in config.to_dict() else "decoder_layers"


def _find_stack(teacher: PreTrainedModel, depth_name: str, depth: int | None) -> str:
    """Name of the outermost list of modules that has as many entries as the configuration has layers."""
    encoder = teacher.get_encoder() if teacher.config.is_encoder_decoder else None
    stacks, passed_over = [], []
    for name, module in teacher.named_modules():
        if module is encoder:
            passed_over.append(name)
        nested = any(name.startswith(f"{outer}.") for outer in (*stacks, *passed_over))
        if isinstance(module, nn.ModuleList) and len(module) == depth and not nested:
            stacks.append(name)
    if len(stacks) != 1:
        raise ValueError(
            f"{type(teacher).__name__} needs exactly one stack of config.{depth_name} ({depth}) layers to choose "
            f"from, found {' and '.join(stacks) or 'none'}."
        )
    return stacks[0]


def _config_of_layers(config: PreTrainedConfig, depth_name: str, layers: list[int]) -> PreTrainedConfig:
    depth = getattr(config, depth_name)
    values = {
        name: [value[layer] for layer in layers] if "layer" in name and _has_length(value, depth) else value
        for name, value in config.to_dict().items()
        if name not in ("stage_names", "out_features", "out_indices")
    }
    values[config.attribute_map.get(depth_name, depth_name)] = len(layers)
    return type(config).from_dict(values)


def _has_length(value: object, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _renumber_alignment_heads(config: GenerationConfig, layers: list[int]) -> None:
    """Whisper's heads that tell when a word was said, as (layer, head): those of the chosen layers, if there are any."""
    heads = [[layers.index(layer), head] for layer, head in config.alignment_heads if layer in layers]
    del config.alignment_heads
    if heads:
        config.alignment_heads = heads


def _renumber(weights: dict, stack: str, layers: list[int]) -> dict:
    """The weights outside the stack, and those of the chosen layers under their new numbers."""
    position = {layer: index for index, layer in enumerate(layers)}
    renumbered = {}
    for name, weight in weights.items():
        if name.startswith(f"{stack}."):
            layer, _, rest = name.removeprefix(f"{stack}.").partition(".")
            if int(layer) not in position:
                continue
            name = f"{stack}.{position[int(layer)]}.{rest}"
        renumbered[name] = weight
    return renumbered
