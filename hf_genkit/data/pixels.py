"""What an image processor does to one image, done to a whole uint8 batch on the batch's device."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import ViTImageProcessorPil
from transformers.image_processing_utils import BaseImageProcessor


INTERPOLATION = {
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}
TRIAL_SIZES = (40, 56), (67, 45)


class PixelPreparer:
    """
    A batch version of an image processor: channels, resizing, centre crop, and rescaling fused with normalisation into
    one multiply-add. When it is made it compares itself with the processor on two images; where they disagree by more
    than one grey level on average, because the processor does something of its own, every batch goes through the
    processor, which is slower and always right.

    Args:
        processor (`BaseImageProcessor`): An image processor of transformers; later changes to it are not seen.
    """

    def __init__(self, processor: BaseImageProcessor):
        self.processor = processor
        self.settings = settings = processor.to_dict()
        mean, std = (settings["image_mean"], settings["image_std"]) if settings.get("do_normalize") else (0.0, 1.0)
        factor = settings["rescale_factor"] if settings.get("do_rescale") else 1.0
        self.channels = len(mean) if isinstance(mean, (list, tuple)) else 3 if settings.get("do_convert_rgb") else None
        mean, std = (torch.tensor(value, dtype=torch.float64).view(-1, 1, 1) for value in (mean, std))
        self.scale = (factor / std).float().expand(self.channels or 1, 1, 1).contiguous()
        self.shift = (-mean / std).float().expand(self.channels or 1, 1, 1).contiguous()
        self.agrees = self._agrees_with_processor()

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Args:
            pixel_values (`torch.Tensor`):
                Images of type `uint8` and shape `[B, C, H, W]`. Grey images are repeated, colour turned to grey by
                ITU-R 601 luma, where the processor normalises another number of channels than `C`.

        Returns:
            `torch.Tensor`: The model's input of type `float32` and shape `[B, C', H', W']`, on the same device.
        """
        if self.channels == 1 and pixel_values.shape[1] == 3:
            red, green, blue = pixel_values.int().split(1, dim=1)
            pixel_values = ((red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16).byte()
        return self._prepare(pixel_values) if self.agrees else self._call_processor(pixel_values)

    def _prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.scale.device != pixels.device:
            self.scale, self.shift = self.scale.to(pixels.device), self.shift.to(pixels.device)
        if self.settings.get("do_resize"):
            pixels = self._resize(pixels)
        if self.settings.get("do_center_crop"):
            pixels = centre_crop(pixels, self.settings["crop_size"]["height"], self.settings["crop_size"]["width"])
        return (pixels * self.scale).add_(self.shift)  # broadcasting repeats a grey channel

    def _resize(self, pixels: torch.Tensor) -> torch.Tensor:
        size, resample = self.settings["size"], self.settings["resample"]
        if "height" in size:
            return resize(pixels, size["height"], size["width"], resample)
        edge, crop_fraction = size["shortest_edge"], self.settings.get("crop_pct")
        if crop_fraction is None:
            return resize(pixels, *fit_shortest_edge(pixels, edge), resample)
        if edge >= 384:  # ConvNext's rule: large inputs are warped, small ones cropped
            return resize(pixels, edge, edge, resample)
        return centre_crop(resize(pixels, *fit_shortest_edge(pixels, int(edge / crop_fraction)), resample), edge, edge)

    def _call_processor(self, pixels: torch.Tensor) -> torch.Tensor:
        arrays = pixels.expand(-1, self.channels or -1, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        images = [Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array) for array in arrays]
        return self.processor(images, return_tensors="pt")["pixel_values"].to(pixels.device)

    def _agrees_with_processor(self) -> bool:
        settings = self.settings
        if settings.get("do_resize") and (
            set(settings.get("size") or {}) not in ({"height", "width"}, {"shortest_edge"})
            or settings["resample"] not in INTERPOLATION
        ):
            return False
        if settings.get("do_center_crop") and set(settings["crop_size"]) != {"height", "width"}:
            return False
        for height, width in TRIAL_SIZES:
            noise = np.random.default_rng(0).integers(0, 256, (1, self.channels or 3, height, width), dtype=np.uint8)
            pixels = torch.from_numpy(noise)
            expected, prepared = self._call_processor(pixels), self._prepare(pixels)
            if prepared.shape != expected.shape or ((prepared - expected).abs() / self.scale).mean() > 1:
                return False
        return True


def resize(pixels: torch.Tensor, height: int, width: int, resample: int) -> torch.Tensor:
    """
    Resize as Pillow does: antialiased, first along the rows and then along the columns, rounded to 0..255 each time.
    Most pixels are Pillow's, the others within one grey level, or within a few in the bicubic shrinking of upright
    images, where Pillow may begin with the columns.

    Args:
        pixels (`torch.Tensor`): Images of type `uint8`, of shape `[B, C, H, W]`.
        height (`int`): The new height.
        width (`int`): The new width.
        resample (`int`): Pillow's number for bilinear or bicubic.
    """
    if pixels.shape[2:] == (height, width):
        return pixels
    if pixels.device.type == "cpu":
        return F.interpolate(pixels, (height, width), mode=INTERPOLATION[resample], antialias=True)
    return resize_in_float(pixels, height, width, resample)


def resize_in_float(pixels: torch.Tensor, height: int, width: int, resample: int) -> torch.Tensor:
    """[`resize`] for devices whose interpolation takes no `uint8`; the result holds whole numbers as `float32`."""
    for size in ((pixels.shape[2], width), (height, width)):
        if pixels.shape[2:] != size:
            pixels = (
                F.interpolate(pixels.float(), size, mode=INTERPOLATION[resample], antialias=True)
                .round_()
                .clamp_(0, 255)
            )
    return pixels


def fit_shortest_edge(pixels: torch.Tensor, edge: int) -> tuple[int, int]:
    """Height and width when the shorter side becomes `edge` and the proportions stay."""
    height, width = pixels.shape[2:]
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def centre_crop(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The middle of each image, with a black margin where the image is smaller."""
    top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
    return F.pad(pixels, (-left, width - pixels.shape[3] + left, -top, height - pixels.shape[2] + top))


@lru_cache(maxsize=8)
def _preparer(processor: BaseImageProcessor) -> PixelPreparer:
    return PixelPreparer(processor)


def prepare_pixels(pixel_values: torch.Tensor, processor: BaseImageProcessor) -> torch.Tensor:
    """[`PixelPreparer`] as a function; a processor's settings are read at its first use."""
    return _preparer(processor)(pixel_values)


def image_processor_for(
    channels: int, size: int | tuple[int, int], mean: float = 0.5, std: float = 0.5
) -> ViTImageProcessorPil:
    """
    An image processor for a model that is built from a config. It is saved as a plain `ViTImageProcessor`, which
    `AutoImageProcessor` loads with or without torchvision.

    Args:
        channels (`int`): 1 for grey, 3 for RGB; a processor with 3 takes grey images too.
        size (`int` or `tuple[int, int]`): The side, or height and width, that images are resized to.
        mean (`float`, *optional*, defaults to 0.5): Subtracted from pixels in 0..1.
        std (`float`, *optional*, defaults to 0.5): Divides what remains.
    """
    height, width = (size, size) if isinstance(size, int) else size
    return ViTImageProcessorPil(
        size={"height": height, "width": width},
        image_mean=[mean] * channels,
        image_std=[std] * channels,
        do_convert_rgb=channels == 3,
    )
