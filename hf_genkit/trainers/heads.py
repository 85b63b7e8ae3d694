"""The output head of a language model: found, described, and left out so that a loss can do its work in chunks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import logging

from ..losses.fused_head import Head
from .adapters import bare


logger = logging.get_logger(__name__)


class Captured:
    """
    What a model's head was given, see [`bypassed_head`].

    Attributes:
        hidden (`torch.Tensor` of shape `[..., H]`): The head's input in the model's last forward pass.
    """

    hidden: torch.Tensor


def head_of(model: nn.Module) -> Head | None:
    """
    The head that makes a language model's logits, with the parameters themselves and not copies of them.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Its output embedding is looked up; `final_logit_softcapping`, `logit_scale` (multiplies) and
            `logits_scaling` (divides) of its text config are honoured.

    Returns:
        [`~hf_genkit.losses.fused_head.Head`] or `None`: `None` if there is no such layer, or if it is more than a
        linear one: quantized, sharded, or with an adapter of its own.
    """
    layer = bare(model).get_output_embeddings()
    if type(layer) is not nn.Linear or type(layer.weight.data) is not torch.Tensor or layer.weight.ndim != 2:
        return None
    config = bare(model).config.get_text_config(decoder=True).to_dict()
    return Head(
        layer.weight,
        layer.bias,
        scale=(config.get("logit_scale") or 1.0) / (config.get("logits_scaling") or 1.0),
        softcap=config.get("final_logit_softcapping"),
    )


@contextmanager
def bypassed_head(model: nn.Module) -> Iterator[Captured]:
    """
    Inside, the model's logits have no classes, `[..., 0]`, and the input of its head is captured.

    The empty logits depend on the head's parameters, so `DistributedDataParallel` with `find_unused_parameters=True`
    does not take the head for unused where the loss is computed from the captured hidden states.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model that [`head_of`] finds a head of; call it without labels.

    Yields:
        [`Captured`]: Empty until the model has run.
    """
    layer, captured = bare(model).get_output_embeddings(), Captured()
    own = layer.__dict__.get("forward")  # accelerate's hooks put one there

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        captured.hidden = hidden
        return F.linear(hidden, layer.weight[:0], None if layer.bias is None else layer.bias[:0])

    layer.forward = forward
    try:
        yield captured
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own


@torch.no_grad()
def can_fuse(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> bool:
    """
    Whether [`head_of`] with the captured input of the head gives the logits that the model itself gives.

    Two forward passes in evaluation mode, which a model that makes its logits in a way of its own does not pass: the
    reason is logged, and its loss has to be computed from its logits.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Not wrapped for several processes.
        inputs (`Mapping[str, torch.Tensor]`): A small batch as its `forward` takes it, without labels.
    """
    head, name = head_of(model), type(bare(model)).__name__
    if head is None:
        logger.warning(f"The head of {name} is no plain linear layer, so its logits are computed whole.")
        return False
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        expected = model(**inputs).logits
        with bypassed_head(model) as captured:
            model(**inputs)
        found = head.logits(captured.hidden)
    except (RuntimeError, AttributeError) as error:  # logits that need all their classes, or that no head made
        logger.warning(f"{name} needs its logits itself ({error}), so they are computed whole.")
        return False
    finally:
        for part, mode in modes.items():
            part.training = mode
    tolerance = 1e-3 if expected.dtype in (torch.float32, torch.float64) else 3e-2
    same = found.shape == expected.shape and (found - expected).abs().max() <= tolerance * expected.abs().max()
    if not same:
        logger.warning(f"{name} makes its logits in a way of its own, so they are computed whole.")
    return bool(same)
