"""Random augmentation of uint8 image batches whose every draw is a function of (seed, epoch, index, draw number)."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


FLIP, SHIFT_Y, SHIFT_X, CUTOUT_Y, CUTOUT_X = range(5)


def random_bits(seed: int, epoch: int, indices: np.ndarray, draw: int) -> np.ndarray:
    """
    One random 64-bit word for each sample: a counter-based generator that chains the finalizer of SplitMix64
    ([Steele et al., 2014](https://doi.org/10.1145/2714064.2660195)) over its arguments. It has no state, so a sample
    draws the same word in any batch, order, process or resumed run.

    Args:
        seed (`int`): The seed of the run.
        epoch (`int`): The epoch, from 0.
        indices (`np.ndarray`): The positions of the samples in their data set, of shape `[B]`.
        draw (`int`): Which of a sample's draws; different numbers give independent words.

    Returns:
        `np.ndarray`: Words of type `uint64`, of shape `[B]`.
    """
    state = np.zeros(1, dtype=np.uint64)
    for value in (seed, epoch, draw, indices):
        state = state + np.asarray(value, dtype=np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def random_integers(low: int, high: int, seed: int, epoch: int, indices: np.ndarray, draw: int) -> np.ndarray:
    """Uniform integers from `low` to `high`, both included: `int64` of shape `[B]`; see [`random_bits`]."""
    return (random_bits(seed, epoch, indices, draw) % np.uint64(high - low + 1)).astype(np.int64) + low


@dataclass(frozen=True)
class Augmentation:
    """
    Random changes to a batch of images, in this order.

    Args:
        flip (`bool`, *optional*, defaults to `False`): Mirror half of the images from left to right.
        shift (`int`, *optional*, defaults to 0):
            Move each image by up to this many pixels in each direction; what moves in is black.
        cutout (`int`, *optional*, defaults to 0):
            Blacken a square of this side, in pixels, around a random point of each image; the square may stick out
            ([DeVries and Taylor, 2017](https://huggingface.co/papers/1708.04552)).

    Raises:
        `ValueError`: If `shift` or `cutout` is negative.
    """

    flip: bool = False
    shift: int = 0
    cutout: int = 0

    def __post_init__(self):
        for name in ("shift", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be a number of pixels from 0 up, got {getattr(self, name)}.")

    @classmethod
    def from_string(cls, text: str) -> "Augmentation":
        """
        Read an augmentation from text such as `"flip,shift:2,cutout:8"`.

        Raises:
            `ValueError`: If a part is unknown, or lacks its number of pixels, or has one where none belongs.
        """
        options = {}
        for part in text.split(","):
            name, _, value = part.strip().partition(":")
            if name not in {field.name for field in fields(cls)}:
                raise ValueError(f"{name!r} is not an augmentation; choose from flip, shift:PIXELS, cutout:PIXELS.")
            if name == "flip" and value:
                raise ValueError(f"The augmentation flip takes no number, got {part.strip()!r}.")
            if name != "flip" and not value.isdecimal():
                raise ValueError(
                    f"The augmentation {name} needs a number of pixels as in {name}:2, got {part.strip()!r}."
                )
            options[name] = True if name == "flip" else int(value)
        return cls(**options)

    def __call__(self, pixels: np.ndarray, *, seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
        """
        Args:
            pixels (`np.ndarray`): Images of type `uint8` and shape `[B, C, H, W]`; not changed.
            seed (`int`): The seed of the run.
            epoch (`int`): The epoch, from 0.
            indices (`np.ndarray`): The images' positions in their data set, of shape `[B]`.

        Returns:
            `np.ndarray`: The changed images, of the same type and shape.
        """
        batch, _, height, width = pixels.shape
        if self.flip:
            mirrored = (random_bits(seed, epoch, indices, FLIP) >> np.uint64(63)).astype(bool)
            pixels = np.where(mirrored[:, None, None, None], pixels[..., ::-1], pixels)
        if self.shift:
            top = random_integers(0, 2 * self.shift, seed, epoch, indices, SHIFT_Y)
            left = random_integers(0, 2 * self.shift, seed, epoch, indices, SHIFT_X)
            margin = (self.shift, self.shift)
            windows = sliding_window_view(np.pad(pixels, ((0, 0), (0, 0), margin, margin)), (height, width), (2, 3))
            pixels = windows[np.arange(batch), :, top, left]
        if self.cutout:
            outside_y = self._outside(height, random_integers(0, height - 1, seed, epoch, indices, CUTOUT_Y))
            outside_x = self._outside(width, random_integers(0, width - 1, seed, epoch, indices, CUTOUT_X))
            pixels = pixels * (outside_y[:, None, :, None] | outside_x[:, None, None, :])
        return pixels

    def _outside(self, length: int, centres: np.ndarray) -> np.ndarray:
        """Which of `length` positions the cutout leaves alone, one row for each centre: `bool` of shape `[B, length]`."""
        start = centres[:, None] - self.cutout // 2
        positions = np.arange(length)
        return (positions < start) | (positions >= start + self.cutout)
