"""Structured pruning: whole heads, units, channels and layers go, and the model becomes smaller and faster."""

from collections.abc import Iterable, Mapping, Sequence

from torch.nn.utils import prune
from transformers import PreTrainedConfig, PreTrainedModel

from ..arguments.checks import check_choice
from .importance import magnitude_scores, taylor_scores
from .layer_dropping import rebuild, student_from_teacher
from .units import CONVOLUTIONAL, TRANSFORMERS, Transformer, units_of_convolutions, units_of_transformer, with_values


IMPORTANCES = ["magnitude", "taylor"]


def prune_structure(
    model: PreTrainedModel,
    *,
    intermediate: float = 0.0,
    heads: float = 0.0,
    hidden: float = 0.0,
    channels: float = 0.0,
    layers: Sequence[int] | None = None,
    importance: str = "magnitude",
    batches: Iterable[Mapping] | None = None,
    multiple_of: int = 8,
) -> PreTrainedModel:
    """
    Builds a smaller model of the same class from the most important parts of a model. Each layer becomes equally
    narrow, as a configuration can say no other, and keeps the units that matter most in it.

    | family | structures |
    |---|---|
    | BERT, RoBERTa, XLM-RoBERTa, DistilBERT, GPT-2 | `intermediate`, `hidden`, `layers` |
    | ViT, DeiT, DINOv2, Llama, Mistral, Qwen2, Qwen3 | `intermediate`, `heads`, `hidden`, `layers` |
    | ResNet, ConvNeXt (needs torch-pruning) | `channels` |

    Units of feed-forward layers, heads, and the channels of a ResNet go without a trace: the result computes what the
    model computes with them zeroed. Removing hidden width or a ConvNeXt's channels also changes the statistics of layer
    normalisation, and costs more quality. The result needs training in any case, best with the whole model as its
    teacher ([`~hf_genkit.DistillationTrainer`]).

    Args:
        model (`PreTrainedModel`): The model, which is left as it is.
        intermediate (`float`, *optional*, defaults to 0.0):
            Share of the feed-forward layers' units to remove, from 0 to below 1. DINOv2 can only have whole multiples
            of the hidden width.
        heads (`float`, *optional*, defaults to 0.0):
            Share of the attention heads to remove, each with its size kept; where heads share keys and values, such
            groups of heads.
        hidden (`float`, *optional*, defaults to 0.0):
            Share of the heads to remove together with the same share of the width that all layers share. For
            architectures whose heads fill the hidden width this is the way to remove heads.
        channels (`float`, *optional*, defaults to 0.0): Share of each stage's channels to remove.
        layers (sequence of `int`, *optional*): Indices of the layers to keep; see [`student_from_teacher`].
        importance (`str`, *optional*, defaults to `"magnitude"`):
            "magnitude" is the L2 norm of a unit's weights, which needs no data; "taylor" is the first-order change of
            the loss on `batches`.
        batches (iterable of `Mapping`, *optional*): Inputs with labels, such as a `DataLoader` over training samples.
        multiple_of (`int`, *optional*, defaults to 8):
            What feed-forward widths and channels are rounded to a multiple of, for the sake of fast kernels.

    Returns:
        `PreTrainedModel`: A new model with the old one's dtype, device and training mode, that saves and loads like
        any other.

    Raises:
        `ValueError`: The family can't be pruned so, a value is out of range, or nothing would be removed.
        `ImportError`: `channels` is set, and torch-pruning is not installed.

    Example:

    ```python
    >>> small = prune_structure(model, intermediate=0.5, layers=[0, 2, 4])
    ```
    """
    shares = {"intermediate": intermediate, "heads": heads, "hidden": hidden, "channels": channels}
    shares = {name: share for name, share in shares.items() if share != 0}
    _check(model, shares, layers, importance, batches, multiple_of)
    if layers is not None:
        model = student_from_teacher(model, layers)
    if not shares:
        return model
    kind = model.config.model_type
    if kind in CONVOLUTIONAL:
        target = _narrower_stages(model.config, channels, multiple_of)
        groups = units_of_convolutions(model, target)
    else:
        target = _narrower_layers(model.config, TRANSFORMERS[kind], shares, multiple_of)
        groups = units_of_transformer(model, TRANSFORMERS[kind], target)
    scores = magnitude_scores(model, groups) if importance == "magnitude" else taylor_scores(model, groups, batches)
    weights = model.state_dict()
    for group, score in zip(groups, scores, strict=True):
        kept = score.topk(group.kept).indices.sort().values
        for part in group.parts:
            weights[part.tensor] = group.select(weights[part.tensor], part, kept)
    return rebuild(model, target, weights, refusal=f"can't be narrowed by {shares}: its widths depend on each other")


def _check(model, shares, layers, importance, batches, multiple_of) -> None:
    name = type(model).__name__
    if not shares and layers is None:
        raise ValueError("Nothing is to be removed: set `intermediate`, `heads`, `hidden`, `channels` or `layers`.")
    for structure, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"`{structure}` is {share}, but it must be at least 0 and below 1.")
    check_choice("importance", importance, IMPORTANCES)
    if importance == "taylor" and batches is None:
        raise ValueError("`importance` is 'taylor', which needs `batches` of inputs with labels.")
    if multiple_of < 1:
        raise ValueError(f"`multiple_of` is {multiple_of}, but it must be at least 1.")
    if prune.is_pruned(model):
        raise ValueError(f"This {name} has masks: burn them in with make_permanent first.")
    structures = _structures(model.config.model_type)
    for structure in shares:
        if structure not in structures:
            raise ValueError(
                f"{name} can't be pruned by `{structure}`: of the structures of a '{model.config.model_type}' model, "
                f"{', '.join(structures) or 'only layers'} can be."
            )
    if "heads" in shares and "hidden" in shares:
        raise ValueError("`heads` and `hidden` are both set, but `hidden` removes heads as well: set one of them.")


def _structures(kind: str) -> list[str]:
    if kind in CONVOLUTIONAL:
        return ["channels"]
    if kind not in TRANSFORMERS:
        return []
    return ["intermediate", *(["heads"] if TRANSFORMERS[kind].head_dim else []), "hidden"]


def _narrower_stages(config: PreTrainedConfig, share: float, multiple_of: int) -> PreTrainedConfig:
    values = {}
    for name in CONVOLUTIONAL[config.model_type]:
        width = getattr(config, name)
        narrower = [_kept(each, share, multiple_of) for each in ([width] if isinstance(width, int) else width)]
        values[name] = narrower[0] if isinstance(width, int) else narrower
    if all(getattr(config, name) == value for name, value in values.items()):
        raise ValueError(f"`channels` is {share}, which removes nothing in multiples of {multiple_of}.")
    return with_values(config, values)


def _narrower_layers(
    config: PreTrainedConfig, family: Transformer, shares: dict, multiple_of: int
) -> PreTrainedConfig:
    width = getattr(config, family.intermediate) or 4 * config.hidden_size
    values = {family.intermediate: width}
    if "intermediate" in shares and family.intermediate == "mlp_ratio":
        ratio = width * (1 - shares["intermediate"])
        values["mlp_ratio"] = int(ratio) if ratio == int(ratio) else ratio
    elif "intermediate" in shares:
        values[family.intermediate] = _kept(width, shares["intermediate"], multiple_of)
        if values[family.intermediate] == width:
            raise ValueError(
                f"`intermediate` is {shares['intermediate']}, which removes nothing of {width} units in multiples of "
                f"{multiple_of}."
            )
    for structure in shares.keys() & {"heads", "hidden"}:
        heads = config.num_attention_heads
        units = config.num_key_value_heads if family.grouped else heads
        kept = _kept(units, shares[structure], 1)
        if kept == units:
            raise ValueError(f"`{structure}` is {shares[structure]}, which removes none of {units} heads.")
        values["num_attention_heads"] = heads // units * kept
        if family.grouped:
            values["num_key_value_heads"] = kept
        if structure == "hidden":
            values["hidden_size"] = config.hidden_size // units * kept
        else:
            values["head_dim"] = config.to_dict().get("head_dim") or config.hidden_size // heads
    return with_values(config, values)


def _kept(width: int, share: float, multiple_of: int) -> int:
    return min(width, max(multiple_of, round(width * (1 - share) / multiple_of) * multiple_of))
