"""The model that a demo shows, found out from its name alone."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, AutoProcessor, PreTrainedConfig
from transformers.utils import cached_file

from ..hub import is_generated
from ..hub.cards import CARD_NAME
from ..pipelines import ImageDiffusionPipeline, load_pipeline
from ..trainers.adapters import count_parameters
from ..trainers.models import load_processor
from ..trainers.tasks import CTC, DISTILLED, SPEECH, task_of
from ..tuning.adapters import load_adapter, processor_of
from ..tuning.lora import adapter_config, load_lora


DIFFUSION = "diffusion"
PICTURES = {"genkit_vae": "vae", "genkit_vq_vae": "vae", "genkit_gan": "gan", "genkit_gan_generator": "gan"}
"""Kind of demo by model type."""
MOST_RESULTS = 3


@dataclass
class DemoModel:
    """
    A model with what belongs to it.

    Args:
        name (`str`): Hub id or local folder.
        kind (`str`): "diffusion", "vae", "gan", or a task such as "image-classification".
        model (`DiffusionPipeline` or `PreTrainedModel`): In evaluation mode, on the accelerator if there is one.
        processor (*optional*): The image processor, tokenizer or processor of a model of a task.
    """

    name: str
    kind: str
    model: Any
    processor: Any = None

    @property
    def short_name(self) -> str:
        return self.name.rstrip("/").split("/")[-1]

    @property
    def parameters(self) -> int:
        """Of the network alone for a pipeline."""
        return count_parameters(self.model.unet if self.kind == DIFFUSION else self.model)

    def card(self) -> str | None:
        """The text of its card, if there is one."""
        options = dict.fromkeys(("missing_entries", "connection_errors"), False)
        path = cached_file(self.name, CARD_NAME, **{f"_raise_exceptions_for_{key}": no for key, no in options.items()})
        return None if path is None else open(path, encoding="utf-8").read()

    def description(self) -> str:
        """What its card says of it in a sentence or two, and its first results, as Markdown."""
        text = self.card()
        lines = [f"{self.short_name} is a {type(self.model).__name__} of {self.parameters:,} parameters."]
        if text is not None:
            card = ModelCard(text, ignore_metadata_errors=True)
            if is_generated(text):
                lines = [card.text.split("\n\n")[1].strip()]
            results = [result for result in card.data.eval_results or [] if result.metric_type != "loss"][
                :MOST_RESULTS
            ]
            if results:
                where = f"{results[0].dataset_name}, {results[0].dataset_split or 'test'} split"
                values = [
                    f"{result.metric_name or result.metric_type} {result.metric_value:.4g}" for result in results
                ]
                lines.append(f"{' · '.join(values)} ({where})")
        return "\n\n".join(lines)


def load_demo_model(name: str) -> DemoModel:
    """
    Loads a model of any kind that there is a demo for.

    Args:
        name (`str`): Hub id or local folder of a pipeline, a model, or an adapter.

    Raises:
        `ValueError`: There is no such model, or no demo of its kind.
    """
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    loaded = _pipeline(name) or _adapter(name) or _model(name)
    loaded.model = loaded.model.to(device)
    if loaded.kind != DIFFUSION:
        loaded.model.eval()
    return loaded


def _pipeline(name: str) -> DemoModel | None:
    if not _holds_pipeline(name):
        return None
    pipeline = load_pipeline(name)
    if not isinstance(pipeline, ImageDiffusionPipeline):
        raise _no_demo(name, type(pipeline).__name__)
    return DemoModel(name, DIFFUSION, pipeline)


def _holds_pipeline(name: str) -> bool:
    try:
        DiffusionPipeline.load_config(name)
    except OSError:
        return False
    return True


def holds_adapter(name: str) -> bool:
    """Whether a folder, here or on the Hub, holds an adapter of peft."""
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        return cached_file(name, "adapter_config.json", **quiet) is not None
    except OSError:  # there is nothing of this name at all
        return False


def _adapter(name: str) -> DemoModel | None:
    if not holds_adapter(name):
        return None
    base = adapter_config(name).base_model_name_or_path
    if base is not None and _holds_pipeline(base):
        return DemoModel(name, DIFFUSION, load_lora(load_pipeline(base), name))
    model = load_adapter(name, merge=True)
    return DemoModel(name, task_of(model, DISTILLED), model, processor_of(name))


def _model(name: str) -> DemoModel:
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"There is no model '{name}', neither as a folder here nor on the Hub.") from error
    if config.model_type in PICTURES:
        return DemoModel(name, PICTURES[config.model_type], AutoModel.from_pretrained(name))
    task = _task(name, config)
    processor = AutoProcessor.from_pretrained(name) if task in (SPEECH, CTC) else load_processor(name, task)
    return DemoModel(name, task, DISTILLED[task].from_pretrained(name, dtype="float32"), processor)


def _task(name: str, config: PreTrainedConfig) -> str:
    """The task that the model's class is for."""
    architecture = (config.architectures or [config.model_type])[0]
    for task, auto_class in DISTILLED.items():
        if type(config) in auto_class._model_mapping:
            classes = auto_class._model_mapping[type(config)]
            if architecture in {each.__name__ for each in (classes if isinstance(classes, tuple) else (classes,))}:
                return task
    raise _no_demo(name, architecture)


def _no_demo(name: str, kind: str) -> ValueError:
    known = ", ".join([*PICTURES, *DISTILLED])
    return ValueError(f"'{name}' is a {kind}, but there are demos of hf_genkit's diffusion pipelines, {known}.")
