"""A data set by name or path, with the splits that a run needs."""

import json
import logging
from pathlib import Path

import datasets
import numpy as np

from .columns import LABEL_NAMES, is_sequence
from .digits import load_digits
from .splitting import stratified_sample


logger = logging.getLogger(__name__)

FILE_TYPES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".arrow": "arrow",
    ".txt": "text",
}
WHOLE_TEXTS = {"sample_by": "document"}  # one row for each file, not for each line
EVALUATION_NAMES = ("validation", "valid", "val", "dev")


def load_data(
    name: str = "digits",
    config: str | None = None,
    *,
    train_split: str = "train",
    eval_split: str | None = None,
    test_split: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    eval_fraction: float = 0.1,
    seed: int = 0,
    label_column: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """
    Load a data set as `train`, `validation` and, where there is one, `test`. Choose everything by `validation`; look
    at `test` once, at the end.

    Args:
        name (`str`, *optional*, defaults to `"digits"`):
            `"digits"` for the embedded digits, a data set on the Hub, a file (parquet, csv, tsv, json, jsonl, arrow, txt),
            or a folder: one that `save_to_disk` wrote, one of such files, or one of images in a folder for each class. A
            txt file is one text, in the column `text`.
        config (`str`, *optional*): The configuration of a data set that has several.
        train_split (`str`, *optional*, defaults to `"train"`): The split to train on.
        eval_split (`str`, *optional*):
            The split to validate on. Without it `validation`, `valid`, `val` or `dev` is taken, or else a stratified part
            of the training split, or the end of its text where it is a single one; a stream then has no `validation`.
        test_split (`str`, *optional*): The split to test on. Without it `test`, where it exists.
        revision (`str`, *optional*): The commit, tag or branch on the Hub.
        streaming (`bool`, *optional*, defaults to `False`): Read while training, in constant memory.
        eval_fraction (`float`, *optional*, defaults to 0.1):
            The part of the training split that becomes `validation` where there is no such split.
        seed (`int`, *optional*, defaults to 0): Chooses that part, and the samples of the next two.
        label_column (`str`, *optional*): The labels to stratify by; found by name where it is not given.
        max_train_samples (`int`, *optional*): Keep a stratified sample of this size; a stream keeps its beginning.
        max_eval_samples (`int`, *optional*): The same for `validation`.

    Returns:
        `datasets.DatasetDict` or, when streaming, `datasets.IterableDatasetDict`.

    Raises:
        `ValueError`: If there is no such data set or split, if a split is empty, or if `eval_fraction` or a maximum is
            out of range.
    """
    if not 0 < eval_fraction < 1:
        raise ValueError(f"eval_fraction must lie between 0 and 1, got {eval_fraction}.")
    for option, value in {"max_train_samples": max_train_samples, "max_eval_samples": max_eval_samples}.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} must be at least 1, got {value}.")
    found = _load(name, config, revision, streaming)
    if eval_split is None:
        eval_split = next((candidate for candidate in EVALUATION_NAMES if candidate in found), None)
    if test_split is None and "test" in found:
        test_split = "test"
    wanted = {"train": train_split, "validation": eval_split, "test": test_split}
    for split in wanted.values():
        if split is not None and split not in found:
            raise ValueError(f"The data set {name!r} has no split {split!r}; its splits are {list(found)}.")
    splits = type(found)({role: found[split] for role, split in wanted.items() if split is not None})
    if not streaming:
        for role, split in splits.items():
            if len(split) == 0:
                raise ValueError(f"The split {wanted[role]!r} of the data set {name!r} is empty.")
        if "validation" not in splits:
            splits = _with_validation(splits, eval_fraction, seed, label_column)
    for role, maximum in {"train": max_train_samples, "validation": max_eval_samples}.items():
        if maximum is not None and role in splits:
            splits[role] = _limited(splits[role], maximum, seed, label_column)
    return splits


def _load(name: str, config: str | None, revision: str | None, streaming: bool) -> datasets.DatasetDict:
    """Every split of a data set under its own name."""
    path = Path(name).expanduser()
    if name == "digits":
        return _in_memory(load_digits(), streaming)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _in_memory(_from_disk(path, name), streaming)
    options = {"path": str(path) if path.is_dir() else name, "name": config, "revision": revision}
    if path.is_file():
        if path.suffix not in FILE_TYPES:
            raise ValueError(f"The file {name!r} is of an unknown type; known are {', '.join(FILE_TYPES)}.")
        options = {"path": FILE_TYPES[path.suffix], "data_files": str(path)}
        options |= {"sep": "\t"} if path.suffix == ".tsv" else WHOLE_TEXTS if path.suffix == ".txt" else {}
    elif path.is_dir() and all(file.suffix == ".txt" for file in path.rglob("*") if file.is_file()):
        options = {"path": "text", "data_dir": str(path), **WHOLE_TEXTS}
    elif not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix in FILE_TYPES):
        raise ValueError(f"There is no file or folder {name!r}.")
    try:
        return datasets.load_dataset(**options, streaming=streaming)
    except (OSError, ValueError) as error:
        problem = "can't be loaded" if path.exists() else "is neither a path nor a data set that the Hub offers"
        raise ValueError(f"The data set {name!r} {problem}: {' '.join(str(error).split())}") from error


def _from_disk(path: Path, name: str) -> datasets.Dataset | datasets.DatasetDict:
    for state in sorted(path.rglob("state.json")):
        if not json.loads(state.read_text())["_data_files"]:  # `load_from_disk` fails with an IndexError here
            raise ValueError(f"The split {state.parent.name!r} of the data set {name!r} is empty.")
    return datasets.load_from_disk(str(path))


def _in_memory(found: datasets.Dataset | datasets.DatasetDict, streaming: bool) -> datasets.DatasetDict:
    if isinstance(found, datasets.Dataset):
        found = datasets.DatasetDict(train=found)
    if streaming:
        return datasets.IterableDatasetDict({name: split.to_iterable_dataset() for name, split in found.items()})
    return found


def _with_validation(
    splits: datasets.DatasetDict, fraction: float, seed: int, label_column: str | None
) -> datasets.DatasetDict:
    train = splits["train"]
    if len(train) == 1 and train.column_names == ["text"]:
        return datasets.DatasetDict(splits | _cut_in_two(train, fraction))
    size = round(len(train) * fraction)
    if not 0 < size < len(train):
        raise ValueError(f"{len(train)} training samples can't be split with eval_fraction {fraction}.")
    held_out = stratified_sample(_strata(train, label_column), size, seed)
    logger.info(f"No evaluation split: {size} of {len(train)} training samples are held out as validation.")
    kept = np.setdiff1d(np.arange(len(train)), held_out)
    return datasets.DatasetDict(splits | {"train": train.select(kept), "validation": train.select(held_out)})


def _cut_in_two(train: datasets.Dataset, fraction: float) -> dict[str, datasets.Dataset]:
    """A single text as two: its beginning to train on and its end, this part of its characters, to validate on."""
    text = train.with_format(None)[0]["text"] or ""
    cut = len(text) - round(len(text) * fraction)
    if not 0 < cut < len(text):
        raise ValueError(f"A text of {len(text)} characters can't be split with eval_fraction {fraction}.")
    logger.info(
        f"No evaluation split: the last {len(text) - cut} of {len(text)} characters are held out as validation."
    )
    parts = {"train": text[:cut], "validation": text[cut:]}
    return {name: datasets.Dataset.from_dict({"text": [part]}, train.features) for name, part in parts.items()}


def _limited(split: datasets.Dataset | datasets.IterableDataset, maximum: int, seed: int, label_column: str | None):
    if isinstance(split, datasets.IterableDataset):
        return split.take(maximum)
    if maximum >= len(split):
        return split
    return split.select(stratified_sample(_strata(split, label_column), maximum, seed))


def _strata(split: datasets.Dataset, label_column: str | None) -> np.ndarray:
    """A number for each sample, equal where the labels are equal; all zero without a column of single labels."""
    wanted = [label_column] if label_column else LABEL_NAMES
    candidates = [name for name in wanted if name in split.features]
    if not candidates or is_sequence(split.features[candidates[0]]):
        return np.zeros(len(split), dtype=np.int64)
    labels = split.with_format(None)[candidates[0]][:]
    return np.unique([str(label) for label in labels], return_inverse=True)[1]
