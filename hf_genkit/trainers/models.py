"""Models with a classification head for a data set's classes, from a name or from a config."""

from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_utils import BaseImageProcessor

from ..arguments import check_choice
from ..data import ClassificationData
from .quantized_loading import in_few_bits
from .tasks import AUTO_CLASSES


def load_processor(
    name: str, task: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> BaseImageProcessor | PreTrainedTokenizerBase:
    """The image processor or tokenizer that belongs to a model."""
    loader = AutoImageProcessor if task == "image-classification" else AutoTokenizer
    return loader.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


def classifier_from_pretrained(
    name: str,
    data: ClassificationData,
    *,
    revision: str | None = None,
    bits: int | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """
    Loads a model for fine-tuning; a head for other classes than the data's is replaced by a new one.

    Args:
        name (`str`): Hub id or local folder.
        data ([`~hf_genkit.data.ClassificationData`]): Says the task and the classes.
        revision (`str`, *optional*): Commit, tag or branch.
        bits (`int`, *optional*): 4 or 8 to hold it, but for its head, with bitsandbytes.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the repo.

    Returns:
        `PreTrainedModel`: In float32, in eval mode.
    """
    return AUTO_CLASSES[data.task].from_pretrained(
        name,
        id2label=data.id2label,
        label2id=data.label2id,
        revision=revision,
        trust_remote_code=trust_remote_code,
        ignore_mismatched_sizes=True,
        dtype="float32",
        **in_few_bits(bits),
    )


def new_config(options: dict, defaults: dict | None = None) -> PreTrainedConfig:
    """
    A config made of a command line's options.

    Args:
        options (`dict`): `model_type`, such as "vit", and whatever differs from that config's defaults.
        defaults (`dict`, *optional*): What the data decide unless `options` do; of these the config takes those it knows.

    Raises:
        `ValueError`: There is no such `model_type`, or its config has no option of that name.
    """
    options = dict(options)
    model_type = str(options.pop("model_type", None))
    check_choice("model_type", model_type, sorted(CONFIG_MAPPING.keys()))
    known = AutoConfig.for_model(model_type).to_dict()
    for name in options:
        check_choice(f"option of a '{model_type}' config", name, sorted(known))
    decided = {name: value for name, value in (defaults or {}).items() if name in known}
    return AutoConfig.for_model(model_type, **{**decided, **options})


def classifier_from_config(
    options: dict, data: ClassificationData, processor: BaseImageProcessor | PreTrainedTokenizerBase
) -> PreTrainedModel:
    """
    Builds a model with random weights. What the data decide (classes, channels, image size, vocabulary) is filled in.

    Args:
        options (`dict`): As for [`new_config`].
        data ([`~hf_genkit.data.ClassificationData`]): Says the task and the classes.
        processor (`BaseImageProcessor` or `PreTrainedTokenizerBase`): The model's image processor or tokenizer.

    Raises:
        `ValueError`: There is no such `model_type`, or its config has no option of that name.
    """
    if isinstance(processor, BaseImageProcessor):
        from_data = {"num_channels": len(processor.image_mean), "image_size": processor.size["height"]}
    else:
        from_data = {"vocab_size": len(processor), "pad_token_id": processor.pad_token_id}
    config = new_config(options, from_data)
    config.id2label, config.label2id = data.id2label, data.label2id
    return AUTO_CLASSES[data.task].from_config(config)
