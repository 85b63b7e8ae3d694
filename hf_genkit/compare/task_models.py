"""Classifiers and language models side by side: accuracy or perplexity against bytes and time, on the same samples."""

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.utils import cached_file

from ..arguments import FineTuningDataArguments
from ..arguments.comparison_arguments import ComparisonArguments, ComparisonOutputArguments
from ..compress.chain_report import ROUNDS
from ..compress.onnx_model import ONNX_NAME, OnnxModel, load_onnx
from ..data import BatchCollator
from ..evaluation import Interval, measure_efficiency, ratio_interval, wilson_interval
from ..report.blocks import Report
from ..trainers.generative_config import GenerativeConfig
from ..trainers.model_source import ModelSource
from ..trainers.task_data import TaskData
from ..trainers.tasks import AUTO_CLASSES, CLASSIFICATION, line_up
from .claiming import RESULTS, claimed
from .task_story import tell_tasks


@dataclass
class JudgedModel:
    """
    A model and what it is worth on the test split.

    Args:
        name (`str`): What it is called.
        parts, wholes (`list[float]`): Of each sample: 1 where the answer is right, and 1; of a language model the sum of the
            negative log-likelihoods of its tokens, and their number.
        parameters (`int`): How many there are, in any number of bits.
        size_bytes (`int`): The files of the weights.
        latency_ms (`float`): Median time of a pass with one sample.
        latency_ms_iqr (`tuple[float, float]`): Quartiles of the rounds' medians.
    """

    name: str
    parts: list[float]
    wholes: list[float]
    parameters: int = 0
    size_bytes: int = 0
    latency_ms: float = 0.0
    latency_ms_iqr: tuple[float, float] = (0.0, 0.0)

    def quality(self, task: str) -> Interval:
        """Accuracy with the interval of Wilson over the samples; mean negative log-likelihood with a bootstrap's."""
        if task in CLASSIFICATION:
            return wilson_interval(round(sum(self.parts)), len(self.parts))
        return ratio_interval(self.parts, self.wholes)

    def minus(self, other: "JudgedModel") -> Interval:
        """The difference to another model on the same samples, with the interval of a bootstrap over pairs."""
        pairs = zip(self.parts, other.parts, strict=True)
        return ratio_interval([one - another for one, another in pairs], self.wholes)


class TaskModels:
    """
    Models given by name and the samples that they are tested on.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): Which models and which task.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        device (`torch.device`): Where models of PyTorch run.

    Raises:
        `ValueError`: A model is an adapter, knows other classes than the data have or can't do the task, or language models
            have different vocabularies.
    """

    def __init__(self, args: ComparisonArguments, data_args: FineTuningDataArguments, device: torch.device):
        self.args, self.task, self.device = args, args.task, device
        self.sources = {name: ModelSource(name, trust_remote_code=args.trust_remote_code) for name in args.models}
        with_config = [name for name in args.models if not is_onnx(name)]
        if not with_config:
            raise ValueError(
                "`models` names ONNX folders alone, but one model of PyTorch must tell how inputs are read."
            )
        for name in with_config:
            self._check_plain(name)
        self.first = self.sources[with_config[0]]
        self.data = TaskData(data_args, self.first.config, self.task)
        self.processors = {
            name: (self.first if is_onnx(name) else source).processor(self.data)
            for name, source in self.sources.items()
        }
        for name in with_config:
            self._check(name)

    def _check_plain(self, name: str) -> None:
        found = cached_file(
            name, "adapter_config.json",
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        if found is not None:
            raise ValueError(f"'{name}' is an adapter: make a plain model of it with recipes/merge_adapters.py first.")

    def _check(self, name: str) -> None:
        config, processor = self.sources[name].config, self.processors[name]
        self.data.check_model(config, processor)
        known = [label for _, label in sorted(config.id2label.items())]
        if self.task in CLASSIFICATION and known != self.data.labels:
            raise ValueError(
                f"'{name}' knows the classes {', '.join(known[:10])}, but the data have "
                f"{', '.join(self.data.labels[:10])}."
            )
        if self.task not in CLASSIFICATION and processor.get_vocab() != self.processors[self.first.name].get_vocab():
            raise ValueError(
                f"'{name}' and '{self.first.name}' have different vocabularies, so their perplexities can't be "
                "compared."
            )

    def load(self, name: str) -> PreTrainedModel | OnnxModel:
        """A model as it was saved, quantized or not."""
        if is_onnx(name):
            return load_onnx(name, threads=1)
        options = {"device_map": {"": self.device}, "trust_remote_code": self.args.trust_remote_code}
        return AUTO_CLASSES[self.task].from_pretrained(name, **options).eval()

    def batches(self, name: str) -> Iterator[dict[str, torch.Tensor]]:
        """The test split as a model reads it, always in the same order."""
        processor = self.processors[name]
        inputs = self.data.inputs(self.data.data.test_split, processor)
        collator = BatchCollator(self.data.collator(processor))
        for batch in DataLoader(inputs, batch_size=self.args.batch_size, collate_fn=collator):
            yield self.data.readable(batch, processor)

    def judge(self) -> list[JudgedModel]:
        """Tests every model, and times them in turns on one thread, so that a busy machine slows all of them alike."""
        titles = [Path(name).name for name in self.args.models]
        names = self.args.models if len(set(titles)) < len(titles) else titles
        models = {name: self.load(name) for name in self.args.models}
        judged = []
        for title, (name, model) in zip(names, models.items(), strict=True):
            judged.append(JudgedModel(title, *per_sample(model, self.task, self.batches(name))))
        samples = {name: _inputs(next(self.batches(name))) for name in models}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        rounds = [
            [measure_efficiency(model, samples[name], repeats=10, warmup=3) for name, model in models.items()]
            for _ in range(ROUNDS)
        ]
        torch.set_num_threads(threads)
        for number, one in enumerate(judged):
            times = [found[number]["latency_ms"] for found in rounds]
            low, median, high = statistics.quantiles(times, n=4, method="inclusive")
            one.parameters, one.size_bytes = rounds[0][number]["parameters"], rounds[0][number]["size_bytes"]
            one.latency_ms, one.latency_ms_iqr = median, (low, high)
        return judged


@torch.inference_mode()
def per_sample(
    model: torch.nn.Module, task: str, batches: Iterator[Mapping[str, torch.Tensor]]
) -> tuple[list[float], list[float]]:
    """
    What a model gets on each sample, see [`JudgedModel`].

    Args:
        model (`torch.nn.Module`): Called with the inputs, gives `logits`.
        task (`str`): A key of `hf_genkit.trainers.tasks.AUTO_CLASSES`.
        batches (iterable of mappings): Inputs with `labels`, -100 for none.

    Returns:
        `tuple[list[float], list[float]]`: The parts and the wholes.
    """
    parts, wholes = [], []
    for batch in batches:
        labels = batch["labels"].to(model.device)
        logits = model(**{name: value.to(model.device) for name, value in _inputs(batch).items()}).logits
        logits, labels = line_up(task, logits.float(), labels)
        if task in CLASSIFICATION:
            parts += (logits.argmax(-1) == labels).float().tolist()
            wholes += [1.0] * len(labels)
            continue
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        parts += losses.sum(1).double().tolist()
        wholes += (labels != -100).sum(1).double().tolist()
    return parts, wholes


def _inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name != "labels"}


def is_onnx(name: str) -> bool:
    """Whether it is a folder with an exported model."""
    return Path(name, ONNX_NAME).is_file()


def compare_task_models(
    args: ComparisonArguments,
    data_args: FineTuningDataArguments,
    output: ComparisonOutputArguments,
    command: str,
) -> Report | None:
    """
    Judges classifiers or language models that are given by name, and writes results.json.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): Which models and which task.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        output ([`~hf_genkit.arguments.ComparisonOutputArguments`]): Where it goes.
        command (`str`): The command that is run.

    Returns:
        [`~hf_genkit.report.blocks.Report`], or `None` on processes other than the first.
    """
    folder, common = Path(output.output_dir), GenerativeConfig(output.output_dir, use_cpu=output.use_cpu)
    models = TaskModels(args, data_args, common.device)
    with claimed(folder, common, args, data_args):
        if not PartialState().is_main_process:
            return None
        judged = models.judge()
    results = {"task": args.task, "models": [asdict(one) for one in judged], "command": command}
    (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return tell_tasks(judged, args.task, models.data, data_args, command)
