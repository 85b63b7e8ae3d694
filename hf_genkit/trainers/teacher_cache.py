"""
A teacher's logits on disk: computed once, looked up by what the sample is rather than by where it stands.

A sample's key is a hash of its unpadded model inputs, so shuffling, resuming, other batch sizes, other processes and
other data set classes all find it. A cache lives in a folder named after a hash of the teacher's weights, so another
teacher never sees it. Each process appends to files of its own and reads everybody's:

    <path>/<teacher>/meta.json               what the rows are
    <path>/<teacher>/<time>-<rank>.index     40-byte records: key, offset, length, checksum
    <path>/<teacher>/<time>-<rank>.data      rows of logits in the teacher's dtype, memory-mapped when read
"""

import hashlib
import json
import mmap
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xxhash
from transformers import PreTrainedModel
from transformers.utils import logging

from .inputs import teacher_inputs
from .items import items_of
from .tasks import SEQ2SEQ


logger = logging.get_logger(__name__)

RECORD = struct.Struct("<16sQQQ")
KEY_BYTES = 16
# What `save_pretrained` writes into a config, on one process only, without changing the model.
SAVED_WITH = ("_name_or_path", "architectures", "dtype", "transformers_version")


def sample_keys(inputs: dict[str, torch.Tensor], asked: list[bytes] | None = None) -> list[bytes]:
    """
    One 16-byte key a sample: a hash of its model inputs with the padding taken away.

    Args:
        inputs (`dict[str, torch.Tensor]`):
            A batch of model inputs, each `[batch, ...]`, without labels. Tensors that begin with the shape of
            `attention_mask` are cut to the positions it attends to; the mask itself is then implied.
        asked (`list[bytes]`, *optional*): What else tells each sample from others.

    Returns:
        `list[bytes]`: Keys that don't depend on the other samples of the batch.
    """
    mask = inputs.get("attention_mask")
    columns = []
    for name in sorted(inputs):
        value = inputs[name]
        if name == "attention_mask" and value.ndim == 2 and len(inputs) > 1:
            continue
        padded = mask is not None and value.shape[:2] == mask.shape
        header = f"{name}{value.dtype}{tuple(value.shape[2 if padded else 1 :])}".encode()
        value = value.cpu()
        if value.dtype == torch.bfloat16:  # which NumPy lacks
            value = value.view(torch.int16)
        columns.append((header, np.ascontiguousarray(value.numpy()), padded))
    attended = None if mask is None else mask.cpu().numpy().astype(bool)
    keys = []
    for i in range(len(next(iter(inputs.values())))):
        digest = xxhash.xxh3_128()
        for header, values, padded in columns:
            digest.update(header)
            digest.update(values[i][attended[i]] if padded else values[i])
        if asked is not None:
            digest.update(asked[i])
        keys.append(digest.digest())
    return keys


class KeyedCollator:
    """
    Adds the samples' cache keys to a batch, in the data loader's worker: `cache_keys`, joined, one entry a teacher.

    Args:
        collator (`Callable`): Makes the batch.
        names (`list[set[str]]`): For each teacher its [`argument_names`].
        task (`str`, *optional*, defaults to `"image-classification"`): A key of `DISTILLED`.
    """

    name = "cache_keys"

    def __init__(self, collator: Callable, names: list[set[str]], task: str = "image-classification"):
        self.collator, self.names, self.task = collator, names, task

    def __call__(self, features: list) -> dict:
        batch = self.collator(features)
        asked = self._asked(batch)
        keys = [b"".join(sample_keys(teacher_inputs(batch, names), asked)) for names in self.names]
        return {**batch, self.name: keys}

    def _asked(self, batch: dict[str, torch.Tensor]) -> list[bytes] | None:
        """What of each sample a language model is asked for, which the labels say, and what its decoder reads."""
        if self.task not in ("text-generation", "fill-mask", *SEQ2SEQ):
            return None
        items = items_of(self.task, batch, None)
        read = items.labels if self.task in SEQ2SEQ else torch.zeros_like(items.soft, dtype=torch.int64)
        return [
            np.concatenate([mask.nonzero()[:, 0].numpy(), ids[mask].numpy()]).tobytes()
            for mask, ids in zip(items.soft.cpu(), read.cpu(), strict=True)
        ]


def weights_fingerprint(model: torch.nn.Module) -> str:
    """A 32-character hash of a model's class, config, parameters and buffers (dtypes included)."""
    digest = xxhash.xxh3_128(type(model).__name__.encode())
    if isinstance(model, PreTrainedModel):
        config = {name: value for name, value in model.config.to_diff_dict().items() if name not in SAVED_WITH}
        digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class TeacherCache:
    """
    Teacher logits by sample key, shared by processes and runs.

    Args:
        path (`str` or `Path`): Folder of the cache; other teachers' entries beside this one's are left alone.
        teacher (`str`): Fingerprint of everything that shapes the logits beside the sample.
        classes (`int`): Width of a row of logits.
        dtype (`torch.dtype`): The teacher's dtype, in which the rows are kept.
        rank (`int`, *optional*, defaults to 0): Index of this process.
    """

    def __init__(self, path: str | Path, teacher: str, classes: int, dtype: torch.dtype, rank: int = 0):
        self.classes, self.dtype = classes, dtype
        identity = hashlib.blake2b(f"{teacher} {classes} {dtype}".encode(), digest_size=16).hexdigest()
        self.folder = Path(path) / identity
        self.meta = {"format": 1, "teacher": teacher, "classes": classes, "dtype": str(dtype)}
        self._where: dict[bytes, tuple[str, int, int, int]] = {}
        self._read: dict[str, int] = {}
        self._views: dict[str, memoryview] = {}
        self._stem = f"{time.time_ns()}-{rank:05d}"
        if rank == 0:
            self._open()
        self.refresh()

    def _open(self) -> None:
        """Makes the folder, and empties one that holds something else."""
        meta = self.folder / "meta.json"
        if self.folder.is_dir():
            try:
                whole = json.loads(meta.read_text(encoding="utf-8")) == self.meta
            except (OSError, ValueError):
                whole = False
            if not whole:
                logger.warning(f"The teacher cache in {self.folder} is damaged or foreign, so it is built again.")
                shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not meta.is_file():
            partial = meta.with_suffix(".tmp")
            partial.write_text(json.dumps(self.meta), encoding="utf-8")
            partial.replace(meta)

    def refresh(self) -> None:
        """Reads what this and other processes have added since the last call."""
        for index in sorted(self.folder.glob("*.index")):
            start = self._read.get(index.stem, 0)
            with open(index, "rb") as file:
                file.seek(start)
                records = file.read()
            records = records[: len(records) // RECORD.size * RECORD.size]
            for key, offset, length, checksum in RECORD.iter_unpack(records):
                self._where[key] = (index.stem, offset, length, checksum)
            self._read[index.stem] = start + len(records)

    def __len__(self) -> int:
        return len(self._where)

    def lookup(self, keys: list[bytes]) -> list[torch.Tensor] | None:
        """
        Logits of a batch, or `None` if one sample is missing or damaged.

        Args:
            keys (`list[bytes]`): Keys from [`sample_keys`].

        Returns:
            `list[torch.Tensor]` or `None`: For each sample its rows `[rows, classes]`, on the CPU.
        """
        rows, damaged = [], []
        for key in keys:
            where = self._where.get(key)
            if where is None:
                continue
            stem, offset, length, checksum = where
            data = self._slice(stem, offset, length)
            if xxhash.xxh3_64_intdigest(data) == checksum:
                rows.append(data)
            else:
                damaged.append(key)
        if damaged:
            logger.warning_once(f"The teacher cache in {self.folder} is damaged: what is lost is computed again.")
            for key in damaged:
                self._where.pop(key, None)
        if len(rows) < len(keys):
            return None
        joined = torch.frombuffer(bytearray().join(rows), dtype=self.dtype).view(-1, self.classes)
        width = self.classes * self.dtype.itemsize
        return list(joined.split([len(row) // width for row in rows]))

    def _slice(self, stem: str, offset: int, length: int) -> memoryview:
        view = self._views.get(stem)
        if view is None or len(view) < offset + length:
            path = self.folder / f"{stem}.data"
            if not path.is_file() or path.stat().st_size == 0:
                return memoryview(b"")
            with open(path, "rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._views[stem] = view
        return view[offset : offset + length]

    def store(self, keys: list[bytes], rows: list[torch.Tensor]) -> None:
        """
        Adds the samples that the cache lacks.

        Args:
            keys (`list[bytes]`): Keys from [`sample_keys`].
            rows (`list[torch.Tensor]`): For each sample its logits `[rows, classes]`.
        """
        stem = self._stem
        data_path = self.folder / f"{stem}.data"
        offset = data_path.stat().st_size if data_path.is_file() else 0
        data, records = [], []
        for key, row in zip(keys, rows, strict=True):
            if key in self._where:
                continue
            content = row.to(self.dtype).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            checksum = xxhash.xxh3_64_intdigest(content)
            self._where[key] = (stem, offset, len(content), checksum)
            data.append(content)
            records.append(RECORD.pack(key, offset, len(content), checksum))
            offset += len(content)
        for path, parts in ((data_path, data), (self.folder / f"{stem}.index", records)):
            with open(path, "ab") as file:
                file.write(b"".join(parts))
