"""Augmentation that gradients pass through: what a GAN's discriminator sees, real and generated, when data are few."""

import difflib
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


BLACK = -1.0
POLICIES = {
    "diffaugment": "color,translation,cutout",
    "ada": "flip,rotate90,translation,scale,rotation,brightness,contrast,saturation",
}


class DifferentiableAugmentation:
    """
    Random changes to pictures in [-1, 1], differentiable in the pixels. All randomness is given, so a picture's result
    depends on its own pixels and draws alone, whatever the batch or the process.

    Args:
        policy (`str`, *optional*, defaults to `"diffaugment"`):
            Parts in the order in which they are applied, with commas between them, or a name for such a list.
            - `"diffaugment"`: color, translation, cutout
              ([DiffAugment, Zhao et al., 2020](https://arxiv.org/abs/2006.10738)), meant for `probability=1`.
            - `"ada"`: flip, rotate90, translation, scale, rotation, brightness, contrast, saturation, those of
              [ADA (Karras et al., 2020)](https://arxiv.org/abs/2006.06676) that suit small pictures, meant for a
              probability that [`ada_update`] adapts.

            The parts:
            - `color`: adds up to 0.5 either way, then scales saturation by up to 2 and contrast by 0.5 to 1.5.
            - `brightness`, `contrast`, `saturation`: adds a normal value (standard deviation 0.2); scales by a
              log-normal one (0.5 and 1 octaves). Saturation does nothing to grey pictures.
            - `translation`: by whole pixels, up to 1/8 of the side in each direction; what moves in is black.
            - `cutout`: blackens a square of half the side around a random pixel; it may stick out.
            - `flip`: left to right. `rotate90`: by 90, 180 or 270 degrees, anticlockwise.
            - `scale`, `rotation`: about the middle, by a log-normal factor (0.2 octaves) or any angle, with bilinear
              interpolation; what moves in is black. On CUDA their gradient is not reproducible to the last bit.

    Attributes:
        num_draws (`int`): How many uniform draws each picture needs.

    Raises:
        `ValueError`: If a part is unknown.

    Example:

    ```python
    >>> import torch
    >>> from hf_genkit.data.differentiable_augmentation import DifferentiableAugmentation

    >>> augmentation = DifferentiableAugmentation("color,cutout")
    >>> pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    >>> augmentation(pictures, torch.rand(4, augmentation.num_draws)).shape
    torch.Size([4, 3, 32, 32])
    ```
    """

    def __init__(self, policy: str = "diffaugment"):
        self.parts = [part.strip() for part in POLICIES.get(policy, policy).split(",")]
        for part in self.parts:
            if part not in PARTS:
                close = difflib.get_close_matches(part, [*PARTS, *POLICIES], n=1)
                hint = f" (did you mean '{close[0]}'?)" if close else ""
                raise ValueError(
                    f"'{part}' is not a part of an augmentation policy; choose from {', '.join(PARTS)}{hint}."
                )
        # The first draw of each part says whether it is applied.
        self.num_draws = sum(1 + PARTS[part][1] for part in self.parts)

    def __call__(self, pixels: Tensor, uniforms: Tensor, probability: Tensor | float = 1.0) -> Tensor:
        """
        Args:
            pixels (`torch.Tensor` of shape `[B, C, H, W]`): Pictures in [-1, 1].
            uniforms (`torch.Tensor` of shape `[B, num_draws]`): Draws from [0, 1), on the device of `pixels`.
            probability (`float` or scalar `torch.Tensor`, *optional*, defaults to 1.0):
                With which each part is applied to each picture: always with 1, never with 0.

        Returns:
            `torch.Tensor`: The changed pictures; their values may leave [-1, 1], as in the papers.

        Raises:
            `ValueError`: If `uniforms` have another shape, or a rotation meets pictures that are not square.
        """
        if uniforms.shape != (len(pixels), self.num_draws):
            raise ValueError(
                f"`uniforms` have shape {tuple(uniforms.shape)}, but must have {(len(pixels), self.num_draws)}."
            )
        if pixels.shape[2] != pixels.shape[3] and {"rotate90", "rotation", "scale"} & set(self.parts):
            raise ValueError(
                f"Pictures of {pixels.shape[2]}x{pixels.shape[3]} pixels can't be rotated or scaled: not square."
            )
        draws = iter(uniforms[:, :, None, None, None].unbind(1))
        for part in self.parts:
            apply, count = PARTS[part]
            gate = next(draws)
            pixels = torch.where(gate < probability, apply(pixels, *[next(draws) for _ in range(count)]), pixels)
        return pixels


def ada_update(
    probability: Tensor, mean_sign: Tensor, *, num_images: int, target: float = 0.6, images_to_one: int = 500_000
) -> Tensor:
    """
    Adaptive augmentation's next probability ([Karras et al., 2020](https://arxiv.org/abs/2006.06676)): up while the
    discriminator is too sure of real pictures, a sign that it knows them by heart, and down otherwise.

    Args:
        probability (scalar `torch.Tensor`): The current probability.
        mean_sign (scalar `torch.Tensor`): Mean sign of the discriminator's scores of real pictures, from -1 to 1,
            since the last update.
        num_images (`int`): Real pictures that the discriminator has seen since the last update.
        target (`float`, *optional*, defaults to 0.6): The mean sign to hold.
        images_to_one (`int`, *optional*, defaults to 500,000): Pictures in which the probability can go from 0 to 1.
            A small data set wants fewer.

    Returns:
        Scalar `torch.Tensor`, between 0 and 1.
    """
    return (probability + torch.sign(mean_sign - target) * num_images / images_to_one).clamp(0, 1)


# Each part takes pixels [B, C, H, W] and draws [B, 1, 1, 1].


def color(pixels: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    pixels = pixels + (brightness - 0.5)
    pixels = _spread(pixels, 2 * saturation, dim=1)
    return _spread(pixels, contrast + 0.5, dim=(1, 2, 3))


def brightness(pixels: Tensor, draw: Tensor) -> Tensor:
    return pixels + 0.2 * _normal(draw)


def contrast(pixels: Tensor, draw: Tensor) -> Tensor:
    return _spread(pixels, torch.exp2(0.5 * _normal(draw)), dim=(1, 2, 3))


def saturation(pixels: Tensor, draw: Tensor) -> Tensor:
    return _spread(pixels, torch.exp2(_normal(draw)), dim=1)


def translation(pixels: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = pixels.shape[2:]
    most_y, most_x = max(1, height // 8), max(1, width // 8)
    rows, columns = _positions(pixels)
    rows = rows - _whole(down, 2 * most_y + 1) + most_y
    columns = columns - _whole(right, 2 * most_x + 1) + most_x
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    batch = torch.arange(len(pixels), device=pixels.device)[:, None, None, None]
    channels = torch.arange(pixels.shape[1], device=pixels.device)[:, None, None]
    moved = pixels[batch, channels, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return torch.where(inside, moved, BLACK)


def cutout(pixels: Tensor, y: Tensor, x: Tensor) -> Tensor:
    height, width = pixels.shape[2:]
    rows, columns = _positions(pixels)
    top, left = _whole(y, height) - height // 4, _whole(x, width) - width // 4
    hidden = (rows >= top) & (rows < top + height // 2) & (columns >= left) & (columns < left + width // 2)
    return torch.where(hidden, BLACK, pixels)


def flip(pixels: Tensor, draw: Tensor) -> Tensor:
    return torch.where(draw < 0.5, pixels.flip(3), pixels)


def rotate90(pixels: Tensor, draw: Tensor) -> Tensor:
    turns = _whole(draw, 4)
    turned = pixels
    for count in (1, 2, 3):
        turned = torch.where(turns == count, pixels.rot90(count, (2, 3)), turned)
    return turned


def scale(pixels: Tensor, draw: Tensor) -> Tensor:
    factor = torch.exp2(-0.2 * _normal(draw))
    return _resample(pixels, factor, torch.zeros_like(factor))


def rotation(pixels: Tensor, draw: Tensor) -> Tensor:
    angle = 2 * math.pi * draw
    return _resample(pixels, angle.cos(), angle.sin())


# Name -> function and how many draws it takes.
PARTS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "color": (color, 3),
    "translation": (translation, 2),
    "cutout": (cutout, 2),
    "flip": (flip, 1),
    "rotate90": (rotate90, 1),
    "scale": (scale, 1),
    "rotation": (rotation, 1),
    "brightness": (brightness, 1),
    "contrast": (contrast, 1),
    "saturation": (saturation, 1),
}


def _spread(pixels: Tensor, factor: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Scales the distances of the values to their mean along `dim`."""
    mean = pixels.mean(dim, keepdim=True)
    return mean + factor * (pixels - mean)


def _resample(pixels: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """The picture read at positions turned and scaled about the middle; black beyond its edge."""
    cosine, sine, zero = cosine[:, 0, 0, 0], sine[:, 0, 0, 0], torch.zeros_like(cosine[:, 0, 0, 0])
    matrix = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).unflatten(1, (2, 3)).to(pixels.dtype)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels - BLACK, grid, align_corners=False) + BLACK


def _positions(pixels: Tensor) -> tuple[Tensor, Tensor]:
    height, width = pixels.shape[2:]
    return torch.arange(height, device=pixels.device)[:, None], torch.arange(width, device=pixels.device)


def _whole(draw: Tensor, count: int) -> Tensor:
    """A uniform draw as a whole number from 0 to `count - 1`."""
    return (draw * count).long().clamp(max=count - 1)


def _normal(draw: Tensor) -> Tensor:
    """A uniform draw as a standard normal one, cut at about 5 standard deviations."""
    return torch.special.ndtri(draw.clamp(3e-7, 1 - 3e-7))
