"""Any vision model of the Hub, or one's own, as an extractor of picture features."""

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import nn
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedModel,
    ViTImageProcessorPil,
)
from transformers.image_processing_utils import BaseImageProcessor

from ..data.images import ArrayImageDataset
from ..data.pixels import PixelPreparer
from .pictures import to_uint8


Pictures = torch.Tensor | np.ndarray | ArrayImageDataset | Iterable[torch.Tensor | np.ndarray]

HEADED = "ForImageClassification"
SPELLINGS = {
    "dinov2": "DINOv2", "dinov3": "DINOv3", "vit": "ViT", "deit": "DeiT", "convnext": "ConvNeXt", "resnet": "ResNet",
    "tiny": "T", "small": "S", "base": "B", "large": "L", "giant": "G",
}  # fmt: skip
# What of an image processor's settings remains when `size` replaces its resizing and cropping.
KEPT_SETTINGS = ("resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


class FeatureExtractor:
    """
    Turns pictures into feature vectors with a vision model of transformers. The features are

    1. the input of the classifier, if the model has one: for small grey pictures a model that was trained to classify
       them sees more than one trained on photographs;
    2. else `pooler_output`, unless the checkpoint lacks the pooler's weights;
    3. else the class token of `last_hidden_state`, if the model has one, or the mean of its tokens or positions.

    Pictures are rounded to the 256 levels of a PNG before anything else, so saving them doesn't change a score.

    Args:
        model (`str` or `~transformers.PreTrainedModel`):
            Hub id or local folder of a model, or the model. One given as an object stays on its device.
        processor (`BaseImageProcessor`, *optional*):
            Prepares the pictures. Defaults to the one saved with the model; without one, which is so for a model given
            as an object, pictures are scaled to [-1, 1] and keep their size.
        name (`str`, *optional*):
            What scores are named after. Defaults to the last part of the model's id, such as "DINOv2-S", or its class
            and hidden size.
        size (`int`, *optional*):
            Height and width, in pixels, that pictures are resized to, without a crop, in place of the processor's own:
            a small DINOv2 is 13 times faster at 56 pixels than at 224. It becomes part of the name.
        device (`str` or `torch.device`, *optional*):
            Where the model runs. Defaults to the accelerator, if there is one, for a model given by its id.
        batch_size (`int`, *optional*, defaults to 64):
            Pictures in a forward pass.
        revision (`str`, *optional*):
            Commit, tag or branch of the model on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code that comes with the model may run.

    Raises:
        `ValueError`: if `size` or `batch_size` is below 1, or the model doesn't take pictures alone.

    Example:

    ```python
    >>> extractor = FeatureExtractor("facebook/dinov2-small", size=56)
    >>> extractor.name, extractor.slug
    ('DINOv2-S at 56 px', 'dinov2_s_56')
    >>> extractor(pixels).shape  # float64, on the CPU
    torch.Size([2000, 384])
    ```
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: BaseImageProcessor | None = None,
        *,
        name: str | None = None,
        size: int | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 64,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ):
        for option, value in (("size", size), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"`{option}` is {value}, but it must be at least 1.")
        self.has_pooler = True
        if isinstance(model, str):
            source = {"revision": revision, "trust_remote_code": trust_remote_code}
            if processor is None:
                processor = AutoImageProcessor.from_pretrained(model, **source)
            model, self.has_pooler = _load(model, source)
            device = device or default_device()
        if model.main_input_name != "pixel_values":
            raise ValueError(
                f"{type(model).__name__} takes {model.main_input_name}, but a feature extractor must take pictures "
                "(pixel_values) alone: of a model of text and pictures, give the vision part."
            )
        self.model = model if device is None else model.to(device)
        self.processor = _processor(processor, model.config.num_channels, size)
        self.batch_size = batch_size
        self.size = size
        label = name or _label(model)
        self.name = label if size is None else f"{label} at {size} px"
        self.slug = slugify(label if size is None else f"{label} {size}")
        self._prepare = PixelPreparer(self.processor)
        accepted = inspect.signature(model.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}
        self._has_class_token = any(key.endswith("cls_token") for key, _ in model.named_parameters())
        labels = model.config.num_labels
        heads = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == labels]
        self._head = heads[-1] if heads else None

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @cached_property
    def fingerprint(self) -> str:
        """A 32-character hash of the model's structure and weights and of the preparation of pictures."""
        digest = xxhash.xxh3_128(f"{self.model}{self.has_pooler}{self._options}".encode())
        digest.update(json.dumps(self.processor.to_dict(), sort_keys=True, default=str).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{key}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.no_grad()
    def __call__(self, pictures: Pictures, *, desc: str | None = "Features") -> torch.Tensor:
        """
        Features of pictures, a batch at a time.

        Args:
            pictures (`torch.Tensor`, `np.ndarray`, [`~hf_genkit.data.ArrayImageDataset`] or an iterable of the first two):
                Grey or RGB pictures of shape `[N, C, H, W]`: `uint8`, or floating point in [-1, 1]. An iterator of
                batches is never in memory as a whole. A data set's augmentation is left out.
            desc (`str`, *optional*, defaults to `"Features"`):
                Title of the progress bar, `None` for no bar.

        Returns:
            `torch.Tensor` of shape `[N, D]`: Of type `float64`, on the CPU.

        Raises:
            `ValueError`: if there is no picture, or one has another shape or type.
        """
        was_training = self.model.training
        self.model.eval()
        features = []
        total = len(pictures) if isinstance(pictures, torch.Tensor | np.ndarray | ArrayImageDataset) else None
        with tqdm(total=total, desc=desc, unit="picture", leave=False, disable=desc is None or None) as bar:
            for batch in picture_batches(pictures, self.batch_size):
                features.append(self._forward(batch).double().cpu())
                bar.update(len(batch))
        self.model.train(was_training)
        if not features:
            raise ValueError("There is no picture to take features of.")
        return torch.cat(features)

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features of a batch, of shape `[N, D]`."""
        caught = []
        hook = self._head and self._head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            inputs = self._prepare(pixels.to(self.device)).to(self.model.dtype)
            outputs = self.model(pixel_values=inputs, **self._options)
        finally:
            if hook:
                hook.remove()
        if "logits" in outputs and caught:
            return _pool(caught[-1])
        if "pooler_output" in outputs and self.has_pooler:
            return outputs["pooler_output"].flatten(1)
        if "last_hidden_state" in outputs:
            hidden = outputs["last_hidden_state"]
            return hidden[:, 0] if self._has_class_token else _pool(hidden)
        raise ValueError(
            f"{type(self.model).__name__} has no features to offer: it gives {', '.join(outputs)}, but neither "
            "pooler_output nor last_hidden_state, nor logits of a linear classifier."
        )


def default_device() -> torch.device:
    """The accelerator where one can be used, not only where PyTorch was built for one; else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def slugify(name: str) -> str:
    """A model's name as part of a metric's key: `"DINOv2-S"` becomes `"dinov2_s"`."""
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()


def picture_batches(pictures: Pictures, batch_size: int) -> Iterator[torch.Tensor]:
    """
    Pictures in batches of type `uint8`.

    Args:
        pictures (`torch.Tensor`, `np.ndarray`, [`~hf_genkit.data.ArrayImageDataset`] or an iterable of the first two):
            As a [`FeatureExtractor`] takes them.
        batch_size (`int`): The largest number of pictures in a batch.

    Raises:
        `ValueError`: if pictures have another shape or type.
    """
    if isinstance(pictures, ArrayImageDataset):
        pictures = pictures.pixels
    for part in [pictures] if isinstance(pictures, torch.Tensor | np.ndarray) else pictures:
        if not isinstance(part, torch.Tensor | np.ndarray) or part.ndim != 4 or part.shape[1] not in (1, 3):
            got = list(part.shape) if isinstance(part, torch.Tensor | np.ndarray) else type(part).__name__
            raise ValueError(f"Pictures must be tensors or arrays of shape [N, 1 or 3, H, W], got {got}.")
        for start in range(0, len(part), batch_size):
            yield to_uint8(part[start : start + batch_size])


def _load(name: str, source: dict) -> tuple[PreTrainedModel, bool]:
    """The model, and whether its pooler, if any, came with weights."""
    architectures = AutoConfig.from_pretrained(name, **source).architectures or []
    headed = any(architecture.endswith(HEADED) for architecture in architectures)
    auto_class = AutoModelForImageClassification if headed else AutoModel
    model, info = auto_class.from_pretrained(name, output_loading_info=True, **source)
    return model, not any("pooler" in key for key in info["missing_keys"])


def _processor(processor: BaseImageProcessor | None, channels: int, size: int | None) -> BaseImageProcessor:
    if processor is not None and size is None:
        return processor
    settings = {"image_mean": [0.5] * channels, "image_std": [0.5] * channels}
    if processor is not None:
        given = processor.to_dict()
        settings = {key: given[key] for key in KEPT_SETTINGS}
    resizing = {"do_resize": False} if size is None else {"size": {"height": size, "width": size}}
    return ViTImageProcessorPil(**settings, **resizing, do_convert_rgb=channels == 3)


def _label(model: PreTrainedModel) -> str:
    if model.name_or_path:
        words = re.split("[-_]", Path(model.name_or_path).name)
        return "-".join(SPELLINGS.get(word, word) for word in words)
    config = model.config.to_dict()
    width = config.get("hidden_size") or config.get("hidden_sizes", [""])[-1]
    return f"{type(model).__name__.removesuffix(HEADED).removesuffix('Model')}-{width}".strip("-")


def _pool(hidden: torch.Tensor) -> torch.Tensor:
    """Mean over the positions of a map `[N, D, H, W]` or the tokens of a sequence `[N, T, D]`; `[N, D]` as it is."""
    if hidden.ndim == 4:
        return hidden.mean((2, 3))
    return hidden.mean(1) if hidden.ndim == 3 else hidden
