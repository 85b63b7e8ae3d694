"""One image of a data set -> one uint8 array."""

import datasets
import numpy as np
from PIL import Image, ImageOps


GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_DECODER = datasets.Image()


def open_image(encoded: dict | Image.Image, index: int, column: str) -> Image.Image:
    """
    Decode an image as `datasets` stores it, with its EXIF orientation applied.

    Args:
        encoded (`dict` or `PIL.Image.Image`): The file as `{"bytes": ..., "path": ...}`, or an image already decoded.
        index (`int`): The row, for the error message.
        column (`str`): The column, for the error message.

    Raises:
        `ValueError`: If it is missing, unreadable, or holds no whole numbers of up to 16 bits; the message names the
            row.
    """
    if encoded is None:
        raise ValueError(f"Image {index} of the column {column!r} is missing.")
    try:
        image = _DECODER.decode_example(encoded)
        if image.mode == "F" or (
            image.mode == "I" and not 0 <= min(image.getextrema()) <= max(image.getextrema()) < 2**16
        ):
            raise ValueError(f"its mode is {image.mode} with values {image.getextrema()}, not 8 or 16 bits a channel")
        return image
    except Exception as error:
        raise ValueError(f"Image {index} of the column {column!r} can't be read: {error}") from error


def to_array(image: Image.Image, channels: int, size: tuple[int, int] | None = None, crop: bool = False) -> np.ndarray:
    """
    An image's pixels. Palettes are resolved, transparency is laid over white (as transformers' image processors do),
    16-bit grey keeps its upper 8 bits, colour becomes grey by ITU-R 601 luma.

    Args:
        image (`PIL.Image.Image`): An image from [`open_image`].
        channels (`int`): 1 for grey, 3 for RGB.
        size (`tuple[int, int]`, *optional*): Height and width to resize to, bilinear with antialiasing.
        crop (`bool`, *optional*, defaults to `False`):
            Keep the proportions and cut what sticks out, instead of stretching.

    Returns:
        `np.ndarray`: Pixels of type `uint8`, of shape `[channels, height, width]`.
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None:
        resize = ImageOps.fit if crop else Image.Image.resize
        image = resize(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, channels).transpose(2, 0, 1)
