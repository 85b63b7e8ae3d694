"""Pictures on their way from a page to a model and back."""

import math
from collections.abc import Sequence

import torch
from PIL import Image

from ..data.decoding import to_array
from ..evaluation.pictures import draw_grid


LARGE, SMALL = 384, 112
"""About as many pixels a picture gets on the page, alone and among others."""


def generators(count: int, seed: int) -> list[torch.Generator]:
    """One for each picture: picture i is drawn with `seed + i`, however many are drawn."""
    return [torch.Generator().manual_seed(seed + index) for index in range(count)]


def shown(pictures: torch.Tensor, *, columns: int | None = None, titles: Sequence[str] | None = None) -> Image.Image:
    """
    Pictures as one picture with hard edges.

    Args:
        pictures (`torch.Tensor` of shape `[N, C, H, W]`): In [-1, 1].
        columns (`int`, *optional*): Pictures in a row, see [`~hf_genkit.evaluation.save_grid`].
        titles (sequence of `str`, *optional*): A text above each, or above each column.
    """
    side = LARGE if len(pictures) == 1 else SMALL
    scale = max(1, round(side / max(pictures.shape[2:])))
    padding = 0 if len(pictures) == 1 else 4
    return draw_grid(pictures.float().cpu(), columns=columns, scale=scale, padding=padding, titles=titles)


def read_picture(
    image: Image.Image | None, channels: int, size: tuple[int, int], name: str = "picture"
) -> torch.Tensor:
    """
    A picture of any size and mode as a model was given its pictures in training: cropped to the model's proportions,
    resized with antialiasing. One that was enlarged with hard edges becomes exactly what it was.

    Args:
        image (`PIL.Image.Image`, *optional*): The picture; `None` where a person gave none.
        channels (`int`): 1 or 3.
        size (`tuple[int, int]`): Height and width.
        name (`str`, *optional*, defaults to `"picture"`): What it is called on the page.

    Returns:
        `torch.Tensor` of shape `[1, channels, height, width]`: In [-1, 1].

    Raises:
        `ValueError`: There is none.
    """
    if image is None:
        raise ValueError(f"There is no {name}: upload one, or choose an example.")
    height, width = size
    if image.width > width and image.width * height == image.height * width:
        smallest = image.resize((width, height), Image.Resampling.NEAREST)
        if smallest.resize(image.size, Image.Resampling.NEAREST).tobytes() == image.tobytes():
            image = smallest
    pixels = torch.from_numpy(to_array(image, channels, size, crop=True).copy())
    return pixels[None].float() / 127.5 - 1


def in_rows(pictures: torch.Tensor, names: Sequence[str] = ()) -> Image.Image:
    """
    Drawn pictures as one picture, in rows that a phone can show.

    Args:
        pictures (`torch.Tensor` of shape `[N, C, H, W]`): In [-1, 1].
        names (sequence of `str`, *optional*): The classes that took turns, which stand above the pictures.
    """
    count = len(pictures)
    fewest = math.ceil(math.sqrt(count))
    columns = next((columns for columns in range(fewest, 9) if count % columns == 0), min(fewest, 8))
    titles = [names[index % len(names)] for index in range(count)] if names else None
    return shown(pictures, columns=min(5, count) if names else columns, titles=titles)
