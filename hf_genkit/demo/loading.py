"""The model that a demo shows, found out from its name alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.utils import CONFIG_NAME, cached_file

from ..evaluation.features import default_device
from ..hub import is_generated, read_claims
from ..hub.cards import CARD_NAME
from ..pipelines import ImageDiffusionPipeline, load_pipeline
from ..trainers.adapters import count_parameters
from ..trainers.models import load_processor
from ..trainers.tasks import CTC, DISTILLED, SPEECH, task_of, tasks_of_config
from ..tuning.adapters import load_adapter, processor_of
from ..tuning.lora import adapter_config, load_lora


DIFFUSION = "diffusion"
PICTURES = {"genkit_vae": "vae", "genkit_vq_vae": "vae", "genkit_gan": "gan", "genkit_gan_generator": "gan"}
"""Kind of demo by model type."""
MOST_RESULTS = 3
ADAPTER_CONFIG = "adapter_config.json"


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
        return read_file(self.name, CARD_NAME)

    def measured_with(self) -> dict[str, Any]:
        """With which arguments its card says that it was measured, such as `super_resolution_factor`."""
        try:
            claims = read_claims(self.card() or "")
        except ValueError:  # the card is someone else's
            return {}
        return {
            name: value for each in claims for name, value in {**each.dataset.args, **(each.result.args or {})}.items()
        }

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
    device = default_device()
    try:
        loaded = _pipeline(name) or _adapter(name) or _model(name)
    except OSError as error:
        raise ValueError(f"'{name}' can't be loaded: {str(error).splitlines()[0]}") from error
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


def read_file(name: str, file: str) -> str | None:
    """The text of a file in a folder, here or on the Hub; `None` if there is no such file or folder."""
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        path = cached_file(name, file, **quiet)
    except OSError:  # there is nothing of this name at all
        return None
    return None if path is None else Path(path).read_text(encoding="utf-8", errors="replace")


def bases_and_libraries(name: str) -> tuple[list[str], set[str]]:
    """
    What loading a model needs beside its own files.

    Args:
        name (`str`): Hub id or local folder.

    Returns:
        `tuple[list[str], set[str]]`: The base of an adapter, and which of "peft", "bitsandbytes", "torchao" and
        other methods of quantization the model and its base need.
    """
    bases, libraries = [], set()
    adapter, config = (json.loads(read_file(name, file) or "{}") for file in (ADAPTER_CONFIG, CONFIG_NAME))
    if adapter:
        if not adapter.get("base_model_name_or_path"):
            raise ValueError(f"The adapter '{name}' doesn't name the base that it is loaded on.")
        bases, libraries = [adapter["base_model_name_or_path"]], {"peft"}
        libraries |= bases_and_libraries(bases[0])[1]
    if "quantization_config" in config:
        libraries.add(config["quantization_config"]["quant_method"])
    return bases, libraries


def _adapter(name: str) -> DemoModel | None:
    if read_file(name, ADAPTER_CONFIG) is None:
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
        if Path(name).exists():
            raise ValueError(
                f"'{name}' holds no model that a demo could show, neither whole nor as an adapter."
            ) from error
        raise ValueError(f"There is no model '{name}', neither as a folder here nor on the Hub.") from error
    if config.model_type in PICTURES:
        return DemoModel(name, PICTURES[config.model_type], AutoModel.from_pretrained(name))
    tasks = tasks_of_config(config, DISTILLED)
    if not tasks:
        raise _no_demo(name, (config.architectures or [config.model_type])[0])
    task = tasks[0]
    processor = AutoProcessor.from_pretrained(name) if task in (SPEECH, CTC) else load_processor(name, task)
    return DemoModel(name, task, DISTILLED[task].from_pretrained(name, dtype="float32"), processor)


def _no_demo(name: str, kind: str) -> ValueError:
    known = ", ".join([*PICTURES, *DISTILLED])
    return ValueError(f"'{name}' is a {kind}, but there are demos of hf_genkit's diffusion pipelines, {known}.")
