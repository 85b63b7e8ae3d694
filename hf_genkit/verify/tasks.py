"""Classes, language and speech: accuracy, F1, perplexity and word error rate, measured as the recipes do."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader
from transformers import AutoConfig, PreTrainedModel, PrinterCallback

from ..arguments import FineTuningDataArguments, check_choice
from ..compress.chain_report import FORM, quality_of
from ..compress.onnx_model import ONNX_NAME, OnnxModel, load_onnx
from ..data import BatchCollator, ClassificationData
from ..data.class_subset import with_classes
from ..evaluation import F1
from ..hub import Claim
from ..hub.push import ONNX_FOLDER
from ..trainers.adapters import BASE_CONFIG
from ..trainers.claim_arguments import read_evaluation_arguments
from ..trainers.finetuning_config import FineTuningConfig
from ..trainers.finetuning_report import judge_fine_tuning
from ..trainers.finetuning_trainer import FineTuningTrainer
from ..trainers.model_source import ModelSource
from ..trainers.task_data import TaskData
from ..trainers.tasks import AUTO_CLASSES, CLASSIFICATION, SPEECH
from ..tuning.adapters import load_adapter
from .data import read_data
from .repository import LocalCopy, fetch, on_base
from .settings import Settings


ADAPTER = "adapter_config.json"
OWN = {
    "bits": int,
    "dtype": str,
    FORM: str,
    "average": str,
    "teacher": str,
    "teacher_value": float,
    "teacher_revision": str,
}
"""Arguments of figures that are read here, not by the trainer's config."""


@dataclass(frozen=True)
class _Loaded:
    """A model, the folder of its processor, and its config with the classes."""

    model: PreTrainedModel | OnnxModel
    folder: Path
    config: object


def measure_task(claims: list[Claim], copy: LocalCopy, settings: Settings) -> dict[str, float]:
    """
    Measures figures of a model of classes, language or speech.

    Args:
        claims (`list[Claim]`): Claims of the same data and arguments.
        copy ([`LocalCopy`]): The model's repository.
        settings ([`Settings`]): How to measure.

    Returns:
        `dict[str, float]`: By metric.

    Raises:
        `ValueError`: The model or the data are not to be had, or they don't belong together.
    """
    args = claims[0].result.args
    read_evaluation_arguments(FineTuningConfig, claims[0], OWN)
    loaded = _load(copy, claims[0].task, args, settings)
    return _measure(claims[0], [claim.result.metric for claim in claims], loaded, settings)


def measure_teacher(claim: Claim, settings: Settings) -> float:
    """
    Measures the figure of a distilled student's teacher, which the claim names.

    Raises:
        `ValueError`: As [`measure_task`].
    """
    args = claim.result.args
    copy = fetch(args["teacher"], args.get("teacher_revision"), trust_remote_code=settings.trust_remote_code)
    loaded = _load(copy, claim.task, {}, settings)
    teacher = replace(claim, result=replace(claim.result, args={name: args[name] for name in args if name == "seed"}))
    return _measure(teacher, [claim.result.metric], loaded, settings)[claim.result.metric]


def _load(copy: LocalCopy, task: str, args: dict, settings: Settings) -> _Loaded:
    options = {"trust_remote_code": settings.trust_remote_code}
    folder = copy.folder
    if copy.has(ADAPTER):
        if "bits" in args:
            check_choice("bits", str(args["bits"]), ["4", "8"])
        folder = settings.folder / "adapter"
        base = on_base(copy, folder, settings.base_model, **options)
        model = load_adapter(str(folder), bits=args.get("bits"), **options)
        model.set_adapter("default")  # a trainer refuses a model that is frozen
        own = folder / BASE_CONFIG
        config = AutoConfig.from_pretrained(str(own if own.is_file() else base), **options)
        return _Loaded(model, folder, config)
    config = AutoConfig.from_pretrained(folder, **options)
    if FORM in args:
        check_choice(FORM, args[FORM], [ONNX_FOLDER])
        return _Loaded(load_onnx(copy.get(f"{ONNX_FOLDER}/{ONNX_NAME}").parent), folder, config)
    with copy.loading():
        model = AUTO_CLASSES[task].from_pretrained(folder, dtype="float32", use_safetensors=True, **options)
    return _Loaded(model, folder, config)


def _read(options: FineTuningDataArguments, config, claim: Claim) -> TaskData:
    data, classes = TaskData(options, config, claim.task), claim.dataset.args.get("classes")
    if classes is not None:  # the others taught the model before, see recipes/transfer.py
        data.data = ClassificationData(with_classes(data.data, classes), **options.columns())
    return data


def _measure(claim: Claim, metrics: list[str], loaded: _Loaded, settings: Settings) -> dict[str, float]:
    args, task = claim.result.args, claim.task
    network = loaded.model
    seed = read_evaluation_arguments(FineTuningConfig, claim, OWN).get("seed", 0)
    _, data = read_data(
        claim, FineTuningDataArguments, settings.dataset_names, partial(_read, config=loaded.config, claim=claim)
    )
    if task in CLASSIFICATION and data.labels != [loaded.config.id2label[i] for i in range(len(data.labels))]:
        raise ValueError(
            f"The data have the classes {', '.join(data.labels[:10])}, which the model doesn't know by these names."
        )
    language = None
    if task == SPEECH:
        language = network.generation_config.to_dict().get("language")  # which models of English alone lack
    source = ModelSource(str(loaded.folder), trust_remote_code=settings.trust_remote_code, language=language)
    processor = source.processor(data)
    test = data.inputs(data.data.test_split, processor, seed=seed)
    collator = data.collator(processor)
    if FORM in args or (
        hasattr(loaded.config, "quantization_config") and "bits" not in args
    ):  # which a trainer refuses
        batches = DataLoader(test, batch_size=settings.batch_size, collate_fn=BatchCollator(collator))
        quality = quality_of(network, task, (data.readable(batch, processor) for batch in batches))
        return {"accuracy" if task in CLASSIFICATION else "perplexity": quality.mean}
    trainer = FineTuningTrainer(
        network,
        FineTuningConfig(**settings.trainer_options(args)),
        data_collator=collator,
        processing_class=processor,
    )
    trainer.remove_callback(PrinterCallback)
    found = {name.removeprefix("test_"): value for name, value in judge_fine_tuning(trainer, test).items()}
    if "f1" in metrics:
        predicted = trainer.predict(test)
        known = predicted.label_ids != -100
        answers = np.argmax(predicted.predictions, axis=-1)[known].tolist()
        references = predicted.label_ids[known].tolist()
        found |= F1(args.get("average", "macro")).compute(predictions=answers, references=references)
    return found
