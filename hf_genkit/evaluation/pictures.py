"""Pictures as PNG files: sample grids, interpolations, reconstructions."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont


BACKGROUND, INK = (236, 236, 236), (20, 20, 20)
CELL = 80  # about as many screen pixels a picture gets by default
FONT_SIZE = 12
TEXT_MARGIN = 4

Pixels = torch.Tensor | np.ndarray


def to_uint8(pixels: Pixels) -> torch.Tensor:
    """
    Pictures as the grey levels that a PNG holds.

    Args:
        pixels (`torch.Tensor` or `np.ndarray`):
            Of any shape: `uint8`, returned as it is, or floating point in [-1, 1]. What lies outside is cut, as
            decoders may overshoot.

    Returns:
        `torch.Tensor`: The same shape, of type `uint8`, on the same device.

    Raises:
        `ValueError`: if the type is another one, a value is not finite, or floats look like grey levels 0..255.
    """
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(pixels.copy())  # of a file that is mapped read-only, too
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise ValueError(f"Pictures must be uint8 or floating point in [-1, 1], got {pixels.dtype}.")
    pixels = pixels.detach().float()
    if not pixels.isfinite().all():
        raise ValueError("Pictures hold values that are not finite (NaN or infinity).")
    if pixels.numel() and pixels.min() >= 0 and pixels.max() > 2:
        raise ValueError(
            f"Pictures in floating point must lie in [-1, 1], but these reach from {pixels.min():g} to "
            f"{pixels.max():g}: give grey levels as uint8."
        )
    return pixels.clamp(-1, 1).add(1).mul(127.5).round().byte()


def draw_grid(
    pixels: Pixels,
    *,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = 2,
    titles: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
) -> Image.Image:
    """
    Pictures side by side, row by row, as one picture. Arguments as in [`save_grid`].

    Returns:
        `PIL.Image.Image`: Of mode "RGB".
    """
    pixels = to_uint8(pixels).cpu()
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or len(pixels) == 0:
        raise ValueError(f"A grid needs pictures of shape [N, 1 or 3, H, W], got {list(pixels.shape)}.")
    if columns is None:
        columns = math.ceil(math.sqrt(len(pixels)))
    if scale is None:
        scale = max(1, round(CELL / max(pixels.shape[2:])))
    if columns < 1 or scale < 1 or padding < 0:
        raise ValueError(
            f"A grid needs columns and scale of at least 1 and padding of at least 0, got {columns}, {scale} and "
            f"{padding}."
        )
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    if titles is not None and len(titles) not in (columns, len(pixels)):
        raise ValueError(
            f"titles must be one for each of the {columns} columns or of the {len(pixels)} pictures, got {len(titles)}."
        )
    if row_labels is not None and len(row_labels) != rows:
        raise ValueError(f"row_labels must be one for each of the {rows} rows, got {len(row_labels)}.")

    cells = pixels.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy().repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = cells.shape[1:3]
    font = ImageFont.load_default(FONT_SIZE)
    line = FONT_SIZE + TEXT_MARGIN
    label_width = math.ceil(max(map(font.getlength, row_labels))) + 2 * TEXT_MARGIN if row_labels else 0
    titled_rows = math.ceil(len(titles) / columns) if titles else 0

    canvas = Image.new(
        "RGB",
        (
            label_width + columns * (width + padding) + padding,
            rows * (height + padding) + padding + titled_rows * line,
        ),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(canvas)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        left = label_width + padding + column * (width + padding)
        top = padding + row * (height + padding) + min(row + 1, titled_rows) * line
        canvas.paste(Image.fromarray(cell), (left, top))
        if row < titled_rows:
            text = _shorten(titles[index], width, font)
            draw.text((left + width / 2, top - line / 2), text, INK, font, anchor="mm")
        if row_labels and column == 0:
            draw.text((TEXT_MARGIN, top + height / 2), row_labels[row], INK, font, anchor="lm")
    return canvas


def save_grid(
    pixels: Pixels,
    path: str | os.PathLike,
    *,
    columns: int | None = None,
    scale: int | None = None,
    padding: int = 2,
    titles: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
) -> Path:
    """
    Writes pictures side by side, row by row, into one file. The file appears at `path` once it is whole, so a reader
    of a training folder never sees half of it.

    Args:
        pixels (`torch.Tensor` or `np.ndarray` of shape `[N, C, H, W]`):
            Grey or RGB pictures: floating point in [-1, 1] or `uint8`.
        path (`str`):
            The file to write, such as samples.png; its folder is made if need be.
        columns (`int`, *optional*, defaults to the square root of `N`, rounded up):
            Pictures in a row.
        scale (`int`, *optional*):
            Each pixel becomes a square of so many screen pixels. By default small pictures are enlarged to about 80
            screen pixels.
        padding (`int`, *optional*, defaults to 2):
            Screen pixels between pictures.
        titles (sequence of `str`, *optional*):
            Text above each of the `N` pictures or, if there are as many as columns, above the first row alone. What
            is wider than a picture is cut.
        row_labels (sequence of `str`, *optional*):
            Text on the left of each row.

    Returns:
        `Path`: The file.

    Raises:
        `ValueError`: if a shape, a type or a number of texts differs from the above.

    Example:

    ```python
    >>> save_grid(model.sample(64), "samples.png")
    ```
    """
    grid = draw_grid(pixels, columns=columns, scale=scale, padding=padding, titles=titles, row_labels=row_labels)
    return _write(grid, path)


def save_strips(
    pixels: Pixels,
    path: str | os.PathLike,
    *,
    scale: int | None = None,
    titles: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
) -> Path:
    """
    Writes sequences of pictures, such as interpolations, one a row.

    Args:
        pixels (`torch.Tensor` or `np.ndarray` of shape `[rows, steps, C, H, W]`): As in [`save_grid`].
        path (`str`): The file to write.
        scale (`int`, *optional*): As in [`save_grid`].
        titles (sequence of `str`, *optional*): Text above each of the steps.
        row_labels (sequence of `str`, *optional*): Text on the left of each row.

    Returns:
        `Path`: The file.

    Raises:
        `ValueError`: if the shape differs from the above, or as in [`save_grid`].
    """
    if pixels.ndim != 5:
        raise ValueError(f"Strips need pictures of shape [rows, steps, C, H, W], got {list(pixels.shape)}.")
    steps = pixels.shape[1]
    flat = pixels.reshape(-1, *pixels.shape[2:])
    return save_grid(flat, path, columns=steps, scale=scale, titles=titles, row_labels=row_labels)


def save_reconstructions(
    originals: Pixels,
    reconstructions: Pixels,
    path: str | os.PathLike,
    *,
    columns: int = 12,
    scale: int | None = None,
    titles: Sequence[str] | None = None,
    row_labels: tuple[str, str] = ("original", "reconstruction"),
) -> Path:
    """
    Writes pictures with their reconstructions right below them, in pairs of rows.

    Args:
        originals (`torch.Tensor` or `np.ndarray` of shape `[N, C, H, W]`): As in [`save_grid`].
        reconstructions (`torch.Tensor` or `np.ndarray` of shape `[N, C, H, W]`): In the same order.
        path (`str`): The file to write.
        columns (`int`, *optional*, defaults to 12): Pairs beside each other.
        scale (`int`, *optional*): As in [`save_grid`].
        titles (sequence of `str`, *optional*): Text above each of the `N` pairs, such as an anomaly score.
        row_labels (`tuple[str, str]`, *optional*, defaults to `("original", "reconstruction")`):
            Text on the left of the upper and of the lower row of each pair.

    Returns:
        `Path`: The file.

    Raises:
        `ValueError`: if the two shapes differ, or as in [`save_grid`].
    """
    originals, reconstructions = to_uint8(originals).cpu(), to_uint8(reconstructions).cpu()
    if originals.shape != reconstructions.shape:
        raise ValueError(
            f"Originals and reconstructions must have one shape, got {list(originals.shape)} and "
            f"{list(reconstructions.shape)}."
        )
    if titles is not None and len(titles) != len(originals):
        raise ValueError(f"titles must be one for each of the {len(originals)} pairs, got {len(titles)}.")
    columns = min(columns, len(originals))
    pairs = [
        draw_grid(
            torch.cat([originals[start : start + columns], reconstructions[start : start + columns]]),
            columns=min(columns, len(originals) - start),
            scale=scale,
            titles=titles[start : start + columns] if titles else None,
            row_labels=row_labels,
        )
        for start in range(0, len(originals), columns)
    ]
    canvas = Image.new("RGB", (pairs[0].width, sum(pair.height for pair in pairs)), BACKGROUND)
    top = 0
    for pair in pairs:
        canvas.paste(pair, (0, top))
        top += pair.height
    return _write(canvas, path)


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _write(image: Image.Image, path: str | os.PathLike) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        image.save(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
