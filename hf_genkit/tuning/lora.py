"""Low-rank adapters (LoRA) of diffusion networks, through peft."""

import copy
from collections.abc import Sequence

from diffusers import DiffusionPipeline
from torch import nn


TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_out_1", "proj_out_2", "linear_1", "linear_2")


def _peft():
    try:
        import peft
    except ImportError as error:
        raise ImportError('LoRA needs peft: pip install "hf-genkit[peft]"') from error
    return peft


def add_lora(
    network: nn.Module,
    *,
    rank: int = 8,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    base: str | None = None,
    revision: str | None = None,
) -> nn.Module:
    """
    Adds an adapter to a network of diffusers and freezes everything else; [`~hf_genkit.DiffusionTrainer`] then trains and
    saves the adapter alone ([Hu et al., 2022](https://huggingface.co/papers/2106.09685)).

    Args:
        network (`nn.Module`): The `unet` of a pipeline.
        rank (`int`, *optional*, defaults to 8): Rank of each layer's change.
        alpha (`float`, *optional*): The change is scaled by `alpha / rank`; defaults to the rank.
        targets (sequence of `str`, *optional*):
            Ends of the names of the layers to adapt. By default attention projections, the convolutions of residual
            blocks and the embedding of time, as far as the network has them.
        base, revision (`str`, *optional*):
            Hub id or folder of the pipeline and its commit, tag or branch, which the adapter records.

    Returns:
        `peft.PeftModel`: The network with its adapter.

    Raises:
        `ValueError`: The rank is below 1, or a target is no layer's name.
        `ImportError`: peft is not installed.
    """
    peft = _peft()
    if rank < 1:
        raise ValueError(f"`rank` is {rank}, but it must be at least 1.")
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    found = {target for target in targets or TARGETS if any(f".{name}".endswith(f".{target}") for name in layers)}
    for target in targets or ():
        if target not in found:
            raise ValueError(f"`targets` has '{target}', but no linear or convolution layer's name ends so.")
    config = peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=sorted(found))
    model = peft.get_peft_model(network, config)
    model.peft_config["default"].base_model_name_or_path = base
    model.peft_config["default"].revision = revision
    return model


def load_lora(
    pipeline: DiffusionPipeline, adapter: str, *, merge: bool = True, revision: str | None = None
) -> DiffusionPipeline:
    """
    Puts an adapter onto a pipeline's network, in place.

    Args:
        pipeline (`DiffusionPipeline`): The pipeline that the adapter was trained on.
        adapter (`str`): Hub id or local folder of the adapter.
        merge (`bool`, *optional*, defaults to `True`):
            Whether the network becomes a plain one again, as fast as before and ready for `save_pretrained`; else it is a
            `PeftModel`, whose adapter can be taken off with `pipeline.unet.unload()`.
        revision (`str`, *optional*): Commit, tag or branch of the adapter.

    Returns:
        `DiffusionPipeline`: The same pipeline.

    Raises:
        `ValueError`: There is no such adapter, or it doesn't fit the network, which is left as it was.
        `ImportError`: peft is not installed.
    """
    peft = _peft()
    try:
        base = peft.PeftConfig.from_pretrained(adapter, revision=revision).base_model_name_or_path
    except (OSError, ValueError) as error:
        raise ValueError(f"'{adapter}' is no adapter, neither here nor on the Hub.") from error
    try:  # on a copy, which peft changes even where it fails
        network = peft.PeftModel.from_pretrained(copy.deepcopy(pipeline.unet), adapter, revision=revision)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"The adapter '{adapter}' is one of '{base}' and doesn't fit this network.") from error
    pipeline.unet = network.merge_and_unload() if merge else network
    return pipeline
