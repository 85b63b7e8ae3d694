"""Weights in 8 or 4 bits, saved so that plain `from_pretrained` loads them again."""

import tempfile
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import diffusers
import torch
from diffusers import ModelMixin
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig
from transformers.utils import is_bitsandbytes_available

from ..arguments.checks import check_choice, nearest


TORCHAO = ("int8_dynamic", "int8_weight_only", "int4_weight_only")
BITSANDBYTES = ("int8_bnb", "nf4")
MULTIPLES = {"int4_weight_only": 32, "nf4": 64}
"""Of these the widths of a layer must be: weights that share a scale lie in one row."""


def quantize(
    model: PreTrainedModel | ModelMixin, method: str, *, embeddings: bool = False, keep: Sequence[str] = ()
) -> PreTrainedModel | ModelMixin:
    """
    Returns a copy of a model with its linear layers quantized, which saves and loads like any other: `config.json` says
    how it was done, the weights are safetensors, and `from_pretrained` needs no further argument.

    | method             | weights                   | activations      | file of the layers | library      | runs on  |
    |--------------------|---------------------------|------------------|--------------------|--------------|----------|
    | `int8_dynamic`     | int8, a scale a row       | int8, each token | 1 byte a weight    | torchao      | CPU, GPU |
    | `int8_weight_only` | int8, a scale a row       | as they were     | 1 byte a weight    | torchao      | CPU, GPU |
    | `int4_weight_only` | int4, a scale per 32      | as they were     | 1 byte a weight    | torchao      | CPU, GPU |
    | `int8_bnb`         | int8, a scale a row       | int8, each token | 1 byte a weight    | bitsandbytes | CPU, GPU |
    | `nf4`              | 4-bit normal float        | as they were     | half a byte        | bitsandbytes | CPU, GPU |

    torchao packs two 4-bit weights into a byte for some GPUs only, so `int4_weight_only` shows what 4 bits do to a
    model; `nf4` ([QLoRA, Dettmers et al., 2023](https://huggingface.co/papers/2305.14314)) is the one that is smaller.
    Save it before its first pass: on a CPU that changes the scales of what bitsandbytes 0.50 saves afterwards. `int8_bnb`
    ([LLM.int8(), Dettmers et al., 2022](https://huggingface.co/papers/2208.07339)) computes in float16, in
    which the rest of the model is stored.

    The head of a model with a head stays as it is, as do convolutions and layers with a width that is no multiple of 32
    for `int4_weight_only`, of 64 for `nf4`. These forms save bytes; on a CPU core none of them is reliably faster than float32. For
    speed, and for int8 with calibrated activations, which `from_pretrained` has no form for, use
    [`~hf_genkit.compress.export_onnx`].

    Networks of diffusers take the torchao methods. diffusers loads what is quantized in bfloat16 unless `from_pretrained`
    is given `dtype=torch.float32`, which its own `DDPMPipeline` needs to draw arrays or pictures.

    Args:
        model (`~transformers.PreTrainedModel` or `~diffusers.ModelMixin`):
            The model. It is left as it is. One that [`~hf_genkit.compress.prepare_qat`] has prepared becomes what it was
            trained to be, with the method `int8_dynamic` and the same `keep`.
        method (`str`):
            One of the table's.
        embeddings (`bool`, *optional*, defaults to `False`):
            Whether the table of token embeddings, half the weights of a small text model, is quantized to int8 too;
            with torchao's methods only. torchao unpacks the whole table at every pass, which takes time.
        keep (sequence of `str`, *optional*):
            Names of further modules to leave as they are.

    Returns:
        `~transformers.PreTrainedModel` or `~diffusers.ModelMixin`: the quantized model, in evaluation mode.

    Raises:
        `ValueError`: The model is quantized already or has nothing to quantize, the method is unknown or does not
            support this model, or a name in `keep` is no module's.
        `ImportError`: torchao or bitsandbytes is not installed.

    Example:

    ```python
    >>> small = quantize(model, "int8_dynamic")
    >>> small.save_pretrained("small")
    >>> AutoModelForSequenceClassification.from_pretrained("small")
    ```
    """
    _check_method(model, method, embeddings)
    kept = layers_to_keep(model, keep, MULTIPLES.get(method, 1))
    if method in BITSANDBYTES:
        config = _bitsandbytes_config(method, kept)
    elif isinstance(model, PreTrainedModel):
        config = TorchAoConfig(_torchao_config(model, method, embeddings, kept), modules_to_not_convert=kept)
    else:
        config = diffusers.TorchAoConfig(torchao_scheme(method), modules_to_not_convert=kept)
    dtype = torch.float16 if method == "int8_bnb" else model.dtype
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, quantization_config=config, dtype=dtype).to(model.device)


def _check_method(model: PreTrainedModel | ModelMixin, method: str, embeddings: bool) -> None:
    if method == "int8_static":
        raise ValueError(
            "`method` is 'int8_static', which `from_pretrained` can't load: use `export_onnx(..., int8=\"static\")`."
        )
    check_choice("method", method, [*TORCHAO, *BITSANDBYTES])
    check_not_quantized(model)
    if isinstance(model, PreTrainedModel):
        if embeddings and method in BITSANDBYTES:
            raise ValueError(f"`embeddings` is True, but '{method}' quantizes linear layers only: use {TORCHAO[0]}.")
    elif method in BITSANDBYTES or embeddings:
        raise ValueError(
            f"A {type(model).__name__} of diffusers can be quantized with {', '.join(TORCHAO)} only, without `embeddings`."
        )


def check_not_quantized(model: PreTrainedModel | ModelMixin) -> None:
    """Raises a `ValueError` if the model's configuration says that it is quantized."""
    config = model.config.to_dict() if isinstance(model, PreTrainedModel) else model.config
    if "quantization_config" in config:
        raise ValueError(f"The {type(model).__name__} is quantized already: start from its full-precision weights.")


def layers_to_keep(model: PreTrainedModel | ModelMixin, keep: Sequence[str] = (), multiple: int = 1) -> list[str]:
    """
    Names of the modules that quantization leaves alone: the head, `keep`, and linear layers one of whose widths is no
    multiple of `multiple`.

    Raises:
        `ValueError`: A name in `keep` is no module's, or no linear layer is left to quantize.
    """
    modules = dict(model.named_modules())
    for name in keep:
        if name not in modules:
            raise ValueError(f"`keep` has '{name}', but no module has that name{nearest(name, [*modules])}.")
    kept = [*keep]
    if isinstance(model, PreTrainedModel) and model.base_model is not model:
        kept += [name for name, _ in model.named_children() if name != model.base_model_prefix]
    kept += [
        name
        for name in linear_layers(model, kept)
        if modules[name].in_features % multiple or modules[name].out_features % multiple
    ]
    if not linear_layers(model, kept):
        raise ValueError(
            f"The {type(model).__name__} has no linear layer to quantize besides its head: for convolutions, use"
            ' `export_onnx(..., int8="static")`.'
        )
    return kept


def linear_layers(model: nn.Module, kept: Sequence[str]) -> list[str]:
    """Names of the linear layers that are in none of the modules `kept`."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not _is_in(name, kept)]


def torchao_scheme(method: str) -> Any:
    """torchao's configuration of a method; an `ImportError` says how to install torchao."""
    quantization = import_torchao()
    if method == "int8_weight_only":
        return quantization.Int8WeightOnlyConfig()
    if method == "int4_weight_only":
        return quantization.IntxWeightOnlyConfig(torch.int4, quantization.PerGroup(MULTIPLES[method]))
    return quantization.Int8DynamicActivationInt8WeightConfig(quantization.MappingType.ASYMMETRIC)


def import_torchao() -> ModuleType:
    """`torchao.quantization`, or an `ImportError` that says how to install it."""
    try:
        import torchao.quantization
    except ImportError as error:
        raise ImportError('This quantization needs torchao: pip install "hf-genkit[quantize]"') from error
    return torchao.quantization


def _bitsandbytes_config(method: str, kept: list[str]) -> BitsAndBytesConfig:
    if not is_bitsandbytes_available():
        raise ImportError(f"'{method}' needs bitsandbytes: pip install \"hf-genkit[bnb]\"")
    return BitsAndBytesConfig(
        load_in_4bit=method == "nf4",
        load_in_8bit=method == "int8_bnb",
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=kept,
    )


def _torchao_config(model: PreTrainedModel, method: str, embeddings: bool, kept: list[str]) -> Any:
    """One scheme for all linear layers or, with the embeddings, one for each layer by its name."""
    scheme = torchao_scheme(method)
    try:
        table = model.get_input_embeddings()
    except NotImplementedError as error:
        raise ValueError(
            f"A {type(model).__name__} has no `get_input_embeddings`, which transformers needs for '{method}': use"
            " int8_bnb or nf4."
        ) from error
    if not embeddings:
        return scheme
    head = model.get_output_embeddings()
    if not isinstance(table, nn.Embedding) or (head is not None and head.weight is table.weight):
        raise ValueError(
            f"`embeddings` is True, but the {type(model).__name__} has no table of embeddings of its own: it has none"
            " or shares it with its head."
        )
    quantization = import_torchao()
    schemes = {f"{name}.weight": scheme for name in linear_layers(model, kept)}
    schemes |= {
        f"{name}.weight": quantization.IntxWeightOnlyConfig()
        for name, module in model.named_modules()
        if module is table
    }
    return quantization.FqnToConfig(schemes)


def _is_in(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
