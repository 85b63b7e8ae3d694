"""Quantization-aware training: the network feels int8 rounding while it learns."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .quantization import check_not_quantized, import_torchao, layers_to_keep, linear_layers


def prepare_qat(model: PreTrainedModel, *, keep: Sequence[str] = ()) -> PreTrainedModel:
    """
    Makes linear layers round their weights (a scale a row) and inputs (a scale and zero point a token) to int8 in every
    forward pass, while gradients pass as if they didn't
    ([Jacob et al., 2018](https://huggingface.co/papers/1712.05877)), through torchao. Any trainer of hf_genkit trains the
    model. Parameters keep their names, so checkpoints are those of the plain model, and a run that is resumed prepares
    its model again. Afterwards [`~hf_genkit.compress.quantize`] with `int8_dynamic` turns it, or a checkpoint of it
    loaded with `from_pretrained`, into what it was trained to be.

    Use it where `quantize` alone costs accuracy, for the last part of a training with a small learning rate.

    Args:
        model (`~transformers.PreTrainedModel`): The model, which is changed in place.
        keep (sequence of `str`, *optional*): Names of modules to leave as they are, besides the head.

    Returns:
        `~transformers.PreTrainedModel`: The same model.

    Raises:
        `ValueError`: The model is quantized already or has no linear layer to quantize, or a name in `keep` is no
            module's.
        `ImportError`: torchao is not installed.

    Example:

    ```python
    >>> trainer = FineTuningTrainer(prepare_qat(model), args, train_dataset=train)
    >>> trainer.train()
    >>> quantize(trainer.model, "int8_dynamic").save_pretrained("small")
    ```
    """
    check_not_quantized(model)
    layers = set(linear_layers(model, layers_to_keep(model, keep)))
    quantization = import_torchao()
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    int8 = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    rows = IntxFakeQuantizeConfig(torch.int8, "per_channel", is_symmetric=True)
    config = QATConfig(activation_config=int8, weight_config=rows, step="prepare")
    quantization.quantize_(model, config, filter_fn=lambda _, name: name in layers)
    return model
