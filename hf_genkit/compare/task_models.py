"""Models of a task side by side, on the same samples: what each gets right, its bytes and its time."""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME, cached_file

from ..arguments import FineTuningDataArguments
from ..arguments.comparison_arguments import ComparisonArguments
from ..compress.chain_report import ROUNDS
from ..compress.onnx_model import ONNX_NAME, OnnxModel, load_onnx
from ..data import BatchCollator
from ..evaluation import measure_efficiency
from ..trainers.model_source import ModelSource
from ..trainers.task_data import TaskData
from ..trainers.tasks import AUTO_CLASSES, CLASSIFICATION, line_up
from .findings import short_names
from .judged_models import JudgedModel


WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model*.bin")
"""Files of a model's weights, of which the first that are there are loaded."""


class TaskModels:
    """
    Models given by name and the samples that they are tested on.

    Args:
        args ([`~hf_genkit.arguments.ComparisonArguments`]): Which models and which task.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        device (`torch.device`): Where models run: on the CPU all of them, if an exported one is among them, which runs there.

    Raises:
        `ValueError`: A model is an adapter, knows other classes than the data have or can't do the task, or language models
            have different vocabularies.
    """

    def __init__(self, args: ComparisonArguments, data_args: FineTuningDataArguments, device: torch.device):
        self.args, self.task = args, args.task
        self.device = torch.device("cpu") if any(map(is_onnx, args.models)) else device
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
        """Tests every model, and times them in turns, on a CPU on one thread, so that a busy machine slows all of them alike."""
        names = short_names(self.args.models)
        models = {name: self.load(name) for name in self.args.models}
        self.prepare(models)
        self.sizes = {name: saved_bytes(name) for name in models}
        judged = [self.judge_one(title, *pair) for title, pair in zip(names, models.items(), strict=True)]
        if len(judged[0].parts) < 2:
            raise ValueError("There is 1 sample to judge by, but an interval over samples needs 2 or more.")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        rounds = [[self.measure(name, model) for name, model in models.items()] for _ in range(ROUNDS)]
        torch.set_num_threads(threads)
        for number, (one, size) in enumerate(zip(judged, self.sizes.values(), strict=True)):
            times = [found[number]["latency_ms"] for found in rounds]
            low, median, high = statistics.quantiles(times, n=4, method="inclusive")
            one.parameters, one.size_bytes = rounds[0][number]["parameters"], size
            one.latency_ms, one.latency_ms_iqr = median, (low, high)
        return judged

    def prepare(self, models: Mapping[str, PreTrainedModel | OnnxModel]) -> None:
        """Takes the samples by which models are timed."""
        self.samples = {name: _inputs(next(self.batches(name))) for name in models}

    def judge_one(self, title: str, name: str, model: PreTrainedModel | OnnxModel) -> JudgedModel:
        """What a model is worth, without what it costs."""
        return JudgedModel(title, *per_sample(model, self.task, self.batches(name)))

    def measure(self, name: str, model: PreTrainedModel | OnnxModel) -> dict:
        """What [`~hf_genkit.evaluation.measure_efficiency`] finds with one sample."""
        return measure_efficiency(model, self.samples[name], repeats=10, warmup=3, size_bytes=self.sizes[name])


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


def saved_bytes(name: str) -> int:
    """Bytes of the weights of a model as it was saved: in a folder, or in the cache of what was fetched from the Hub."""
    if is_onnx(name):
        return Path(name, ONNX_NAME).stat().st_size
    folder = Path(cached_file(name, CONFIG_NAME)).parent
    files = next((found for pattern in WEIGHTS if (found := list(folder.glob(pattern)))), [])
    if not files:
        raise ValueError(f"'{name}' has no file of weights such as {WEIGHTS[0]}.")
    return sum(file.stat().st_size for file in files)
