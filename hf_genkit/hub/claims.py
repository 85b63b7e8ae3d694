"""What a card claims of a model's weights: how a figure is written into a card's metadata, and read back from it."""

import re
from dataclasses import dataclass, field
from numbers import Real

from huggingface_hub import EvalResult

from .card_rules import parse_metadata, read_model_index


EMBEDDED = "dataset_name"
"""The argument that names data which come with hf_genkit."""


@dataclass
class Result:
    """
    One measured number.

    Args:
        metric (`str`): The metric's id on the Hub, such as `"accuracy"`.
        value (`float`): Its value for the published weights.
        name (`str`, *optional*): What people call it, defaults to the id.
        mean (`float`, *optional*): The mean over `seeds`.
        interval (`tuple[float, float]`, *optional*): The 95 % interval of the mean over `seeds`.
        seeds (`list[int]`, *optional*): The seeds of the runs behind it.
        floor (`float`, *optional*): What real data score against real data, for metrics of generated pictures.
        args (`dict`, *optional*):
            What measuring it again needs beside model and data: numbers, words and lists of these, by name. `None` where
            it can't be measured again with what is published.
    """

    metric: str
    value: float
    name: str | None = None
    mean: float | None = None
    interval: tuple[float, float] | None = None
    seeds: list[int] = field(default_factory=list)
    floor: float | None = None
    args: dict | None = None


@dataclass
class DatasetFacts:
    """
    The data set that the results were measured on.

    Args:
        name (`str`): Its name for people, such as `"Fashion-MNIST"`.
        id (`str`, *optional*): Its id on the Hub; `None` for local or embedded data.
        config, split, revision (`str`, *optional*): As in `datasets.load_dataset`.
        samples (`int`, *optional*): How many samples the results were measured on.
        args (`dict`, *optional*):
            What reading it again needs: numbers, words and lists of these, by name. `fingerprint` is a hash of the
            samples, and `dataset_name` names data that come with hf_genkit.
    """

    name: str
    id: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    samples: int | None = None
    args: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """
    A figure that a card states of the weights beside it.

    Args:
        task (`str`): Its task on the Hub, such as `"image-classification"`.
        dataset ([`DatasetFacts`]): What it was measured on.
        result ([`Result`]): The figure.
    """

    task: str
    dataset: DatasetFacts
    result: Result

    @property
    def can_be_checked(self) -> bool:
        """Whether the card says how it was measured."""
        return bool(self.dataset.args) and self.result.args is not None

    def to_eval_result(self) -> EvalResult:
        """The claim as the Hub's `model-index` has it; arguments go to `args` of data set and metric."""
        dataset, result = self.dataset, self.result
        data_args, args = None, None
        if dataset.args:
            data_args = dataset.args | ({} if dataset.samples is None else {"samples": dataset.samples})
        if self.can_be_checked:
            interval = {} if result.interval is None else {"interval": list(map(float, result.interval))}
            args = result.args | interval | ({"seeds": result.seeds} if result.seeds else {})
        return EvalResult(
            task_type=self.task,
            task_name=self.task.replace("-", " ").title(),
            dataset_type=dataset.id or re.sub(r"[^a-z0-9]+", "-", dataset.name.lower()).strip("-") or "custom",
            dataset_name=dataset.name,
            dataset_config=dataset.config,
            dataset_split=dataset.split,
            dataset_revision=dataset.revision,
            metric_type=result.metric,
            metric_name=result.name or result.metric,
            metric_value=float(result.value),
            dataset_args=data_args,
            metric_args=args,
        )


def read_claims(card: str) -> list[Claim]:
    """
    The figures of a card's `model-index`.

    Args:
        card (`str`): The whole card: metadata block and Markdown.

    Returns:
        `list[Claim]`: In their order; empty if there is no `model-index`.

    Raises:
        `ValueError`: with one sentence, for a card without valid metadata, a figure that is no number, or an argument
            that is neither a number nor a word nor a list of these.
    """
    metadata = parse_metadata(card)
    if "model-index" not in metadata:
        return []
    on_the_hub = metadata.get("datasets") or []
    on_the_hub = on_the_hub if isinstance(on_the_hub, list) else [on_the_hub]
    return [_claim(result, on_the_hub) for result in read_model_index(metadata["model-index"])]


def _claim(found: EvalResult, on_the_hub: list[str]) -> Claim:
    data_args, args = dict(found.dataset_args or {}), dict(found.metric_args or {})
    samples, interval = data_args.pop("samples", None), args.pop("interval", None)
    dataset = DatasetFacts(
        found.dataset_name,
        id=found.dataset_type if found.dataset_type in on_the_hub and EMBEDDED not in data_args else None,
        config=found.dataset_config,
        split=found.dataset_split,
        revision=found.dataset_revision,
        samples=samples if isinstance(samples, int) else None,
        args=data_args,
    )
    is_interval = isinstance(interval, list) and len(interval) == 2 and all(isinstance(end, Real) for end in interval)
    result = Result(
        found.metric_type,
        float(found.metric_value),
        name=found.metric_name,
        interval=tuple(interval) if is_interval else None,
        seeds=args.pop("seeds", []),
        args=None if found.metric_args is None else args,
    )
    return Claim(found.task_type, dataset, result)
