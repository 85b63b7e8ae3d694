"""The fast path for images: decoded once into one uint8 array, fetched a batch at a time."""

import math
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import torch
from datasets.fingerprint import Hasher

from .augmentation import Augmentation
from .batch import Batch
from .columns import UNLABELLED, encode_labels
from .decoding import GREY_MODES, open_image, to_array


READ_BATCH = 256
THREADED_FROM_PIXELS = 128 * 128


class ArrayImageDataset(torch.utils.data.Dataset):
    """
    Images and labels in arrays. A `DataLoader` fetches a whole batch with one index; give it, or `Trainer`, a
    [`BatchCollator`].

    Args:
        pixels (`np.ndarray`):
            Images of type `uint8`, of shape `[N, C, H, W]`. An `np.memmap` stays on disk, and worker processes open
            its file instead of receiving its content.
        labels (`np.ndarray`): Class indices of type `int64`, -100 where there is none, of shape `[N]`.
        augmentation (`Augmentation`, *optional*): Changes each batch that is fetched.
        seed (`int`, *optional*, defaults to 0): The seed of the augmentation.
        extras (`dict[str, np.ndarray]`, *optional*):
            More inputs of each image, by name, such as the tokens of its caption: arrays of length `N`.

    Raises:
        `ValueError`: If the types or shapes differ from the above, or the augmentation shifts images out of sight.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        extras: dict[str, np.ndarray] | None = None,
    ):
        if pixels.dtype != np.uint8 or pixels.ndim != 4:
            raise ValueError(f"pixels must be uint8 of shape [N, C, H, W], got {pixels.dtype} {list(pixels.shape)}.")
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
            raise ValueError(
                f"labels must be int64 of shape [{len(pixels)}], got {labels.dtype} {list(labels.shape)}."
            )
        if augmentation is not None and augmentation.shift >= min(pixels.shape[2:]):
            raise ValueError(f"shift:{augmentation.shift} moves images of {pixels.shape[2:]} pixels out of sight.")
        for name, values in (extras or {}).items():
            if len(values) != len(pixels):
                raise ValueError(f"extras must have a row for each of {len(pixels)} images, {name} has {len(values)}.")
        self.pixels = pixels
        self.labels = labels
        self.extras = extras or {}
        self.augmentation = augmentation
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int):
        """
        Choose the draws of the augmentation, also in worker processes that run already. A trainer must call it at each
        epoch: accelerate's data loader does not where it runs on several processes or skips batches to resume.
        """
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict:
        inputs = self._fetch(np.array([range(len(self))[index]]))
        return {name: value[0] for name, value in inputs.items()} | {"labels": int(inputs["labels"][0])}

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        return [Batch(self._fetch(np.asarray(indices)))]

    def _fetch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        pixels = self.pixels[indices]
        if self.augmentation is not None:
            pixels = self.augmentation(pixels, seed=self.seed, epoch=int(self._epoch), indices=indices)
        arrays = {"pixel_values": pixels, "labels": self.labels[indices]}
        arrays |= {name: values[indices] for name, values in self.extras.items()}
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def __getstate__(self) -> dict:
        if isinstance(self.pixels, np.memmap) and isinstance(self.pixels.base, mmap.mmap):
            return self.__dict__ | {"pixels": (self.pixels.filename, self.pixels.offset, self.pixels.shape)}
        return self.__dict__

    def __setstate__(self, state: dict):
        self.__dict__.update(state)
        if isinstance(self.pixels, tuple):
            filename, offset, shape = self.pixels
            self.pixels = np.memmap(filename, dtype=np.uint8, mode="r", offset=offset, shape=shape)


def build_image_dataset(
    dataset: datasets.Dataset,
    *,
    image_column: str,
    label_column: str | None = None,
    label2id: dict[str, int] | None = None,
    size: tuple[int, int] | None = None,
    crop: bool = False,
    channels: int | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    memory_map_over: int = 512 * 2**20,
) -> ArrayImageDataset:
    """
    Decode every image of a data set once.

    Args:
        dataset (`datasets.Dataset`): The data, with `N` rows.
        image_column (`str`): Its images: of type `datasets.Image`, or paths.
        label_column (`str`, *optional*): Its labels; without it every sample is unlabelled.
        label2id (`dict[str, int]`, *optional*): The index of each class, see [`label_maps`]; needed for labels.
        size (`tuple[int, int]`, *optional*):
            Height and width to resize to, bilinear with antialiasing. Without it the images keep their size, which
            must be one for all.
        crop (`bool`, *optional*, defaults to `False`):
            Keep the proportions when resizing and cut what sticks out, instead of stretching.
        channels (`int`, *optional*): 1 for grey, 3 for RGB. Without it grey if all images are, else RGB.
        augmentation (`Augmentation`, *optional*): Changes each batch that is fetched.
        seed (`int`, *optional*, defaults to 0): The seed of the augmentation.
        cache_dir (`str`, *optional*):
            Where a large array is stored, and found again by the next run. Defaults to a folder in the cache of
            `datasets`.
        memory_map_over (`int`, *optional*, defaults to 512 MiB):
            The number of bytes from which on the array is a memory-mapped file, which is never wholly in memory.

    Raises:
        `ValueError`: If an image is unreadable (its row is named), if sizes differ and none is given, or if there is
            no row at all.
    """
    if len(dataset) == 0:
        raise ValueError("There is no image to decode: the data set is empty.")
    labels = np.full(len(dataset), UNLABELLED, dtype=np.int64)
    if label_column is not None:
        labels = encode_labels(dataset.with_format(None)[label_column][:], dataset.features[label_column], label2id)
    folder = Path(cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "hf_genkit")
    key = Hasher.hash((dataset._fingerprint, image_column, size, crop, channels))
    path = folder / f"pixels-{key}.npy"
    if path.exists():
        pixels = np.load(path, mmap_mode="r")
    else:
        encoded = dataset.with_format(None).select_columns(image_column)
        encoded = encoded.cast_column(image_column, datasets.Image(decode=False))
        try:
            pixels = _decode_all(
                encoded, image_column, channels or 1, channels is None, size, crop, path, memory_map_over
            )
        except _ColourFound:
            pixels = _decode_all(encoded, image_column, 3, False, size, crop, path, memory_map_over)
    return ArrayImageDataset(pixels, labels, augmentation=augmentation, seed=seed)


class _ColourFound(Exception):
    """Decoding as grey met the first image in colour."""


def _decode_all(
    encoded: datasets.Dataset,
    column: str,
    channels: int,
    must_be_grey: bool,
    size: tuple[int, int] | None,
    crop: bool,
    path: Path,
    memory_map_over: int,
) -> np.ndarray:
    """All images as `[N, C, H, W]`, in a file that appears at `path` once it is whole if they exceed `memory_map_over`."""

    def decode(row: tuple[int, dict]) -> np.ndarray:
        image = open_image(row[1], row[0], column)
        if must_be_grey and image.mode not in GREY_MODES:
            raise _ColourFound
        return to_array(image, channels, size, crop)

    first = decode((0, encoded[0][column]))
    is_large = math.prod(open_image(encoded[0][column], 0, column).size) >= THREADED_FROM_PIXELS
    shape = (len(encoded), *first.shape)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    in_file = len(encoded) * first.nbytes > memory_map_over
    if in_file:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    else:
        pixels = np.empty(shape, dtype=np.uint8)
    try:
        # Pillow decodes outside the interpreter's lock, which pays for large images only.
        with ThreadPoolExecutor() as threads:
            decode_batch = threads.map if is_large else map
            for start in range(0, len(encoded), READ_BATCH):
                rows = enumerate(encoded[start : start + READ_BATCH][column], start)
                for index, image in enumerate(decode_batch(decode, rows), start):
                    if image.shape != first.shape:
                        raise ValueError(
                            f"Images must have one size, but image 0 has {first.shape[1:]} and image {index} has "
                            f"{image.shape[1:]} (height, width): give the size to resize them to."
                        )
                    pixels[index] = image
        if in_file:
            pixels.flush()
            os.replace(unfinished, path)
            pixels = np.load(path, mmap_mode="r")
    finally:
        unfinished.unlink(missing_ok=True)
    return pixels
