"""What a run of a generative model leaves in its folder: pictures, results.json, and a card that shows them."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from transformers.image_processing_utils import BaseImageProcessor

from ..arguments import DataArguments, DiffusionModelArguments, recipe_command
from ..data import ImageData
from ..evaluation import FeatureExtractor, text_table
from ..hub import DatasetFacts, Result, hub_id
from ..hub.push import JUDGE_FOLDER
from .claim_arguments import (
    PICTURES,
    caption_arguments,
    commit_of,
    data_arguments,
    dtype_argument,
    evaluation_arguments,
    kind_of,
)
from .pictures import CAPTIONS, PicturesMixin
from .tracking import result_rows


LARGEST_JUDGE = 32 * 2**20  # bytes of weights that go along with a model


def dataset_facts(data: ImageData, data_args: DataArguments, samples: int | None = None) -> DatasetFacts:
    """What a card says of the data that a model was tested on, and how to read them again."""
    is_digits = data_args.dataset_name == "digits"
    name = None if is_digits else hub_id(data_args.dataset_name)
    split, role = data.test_split_name, "test" if data.test_split_name == "test" else "eval"
    return DatasetFacts(
        "scikit-learn digits" if is_digits else Path(data_args.dataset_name).name,
        id=name,
        config=data_args.dataset_config,
        split=getattr(data_args, f"{role}_split") or split,
        revision=data_args.dataset_revision
        if name is None
        else commit_of(name, data_args.dataset_revision, "dataset"),
        samples=samples,
        args=data_arguments(data, data_args),
    )


def judge_arguments(extractor: FeatureExtractor, folder: Path) -> dict | None:
    """
    Which features judged a model's pictures. A small extractor that is not on the Hub is copied into the model's folder.

    Args:
        extractor ([`~hf_genkit.evaluation.FeatureExtractor`]): What made them.
        folder (`Path`): The model's.

    Returns:
        `dict` or `None`: For the arguments of a figure; `None` if the extractor was never saved.
    """
    source, size = extractor.model.name_or_path, extractor.size
    if not source:
        return None
    found = {
        "extractor_name": extractor.name.removesuffix(f" at {size} px"),
        "extractor_fingerprint": extractor.fingerprint,
    }
    if size is not None:
        found["extractor_size"] = size
    if hub_id(source) is not None:
        revision = commit_of(source)
        return found | {"extractor": source} | ({} if revision is None else {"extractor_revision": revision})
    if extractor.model.num_parameters() * 4 > LARGEST_JUDGE:
        return found
    (folder / JUDGE_FOLDER).mkdir(exist_ok=True)
    for pattern in ("*.safetensors", "config.json", "preprocessor_config.json"):
        for file in Path(source).glob(pattern):
            shutil.copy(file, folder / JUDGE_FOLDER)
    return found | {"extractor_folder": JUDGE_FOLDER}


def image_facts(data, processor) -> dict:
    """
    Mode and size of a classifier's images, for its card; empty where the data set has no images.

    Args:
        data: A data set of `hf_genkit.data`.
        processor (`BaseImageProcessor` or another): What prepares the inputs.
    """
    if not isinstance(processor, BaseImageProcessor):
        return {}
    return {"image_mode": "L" if len(processor.image_mean) == 1 else "RGB", "image_size": data.first_image().size}


def finish_run(
    trainer: PicturesMixin,
    data: ImageData,
    data_args: DataArguments,
    *,
    results: list[Result],
    metrics: dict[str, float],
    command: list[str],
    seconds: float,
    limits: list[str],
    pictures: dict[str, Path] | None = None,
    captions: DiffusionModelArguments | None = None,
) -> None:
    """
    Prints the results and writes the model, its processor, results.json and the card; on the first process.

    Args:
        trainer ([`PicturesMixin`]): The trainer of the model.
        data ([`~hf_genkit.data.ImageData`]): What it was trained and tested on.
        data_args ([`~hf_genkit.DataArguments`]): Where that came from.
        results (`list[Result]`): What was measured on the test set, for the card.
        metrics (`dict[str, float]`): All that was measured, for results.json.
        command (`list[str]`): The words of the command that was run.
        seconds (`float`): How long it took.
        limits (`list[str]`): Whole sentences for the card on what the model can't do.
        pictures (`dict[str, Path]`, *optional*):
            Pictures beside the trainer's own in the output folder, by a key of `CAPTIONS`.
        captions ([`~hf_genkit.arguments.DiffusionModelArguments`], *optional*):
            Where the captions of a model that draws by them come from; its card can't be checked without.
    """
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return
    folder = Path(trainer.args.output_dir)
    if results:
        print(f"\n{text_table(result_rows(results))}\n")
    found = {
        "metrics": {name: value if value == value else None for name, value in metrics.items()},  # JSON has no NaN
        "real_data": {result.metric: result.floor for result in results if result.floor is not None},
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "processes": trainer.accelerator.num_processes,
    }
    (folder / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    judge = {} if trainer.judge is None else judge_arguments(trainer.judge.extractor, folder)
    dataset = dataset_facts(data, data_args, len(data.test_split))
    if trainer.task == "text-to-image":
        dataset.args = {} if captions is None else dataset.args | caption_arguments(captions)
    trainer.create_model_card(
        dataset=dataset,
        results=[_with_arguments(result, trainer, judge) for result in results],
        command=recipe_command(command),
        hardware=f"{device}, {seconds:.0f} seconds",
        limits=limits,
        pictures=[(path.name, CAPTIONS[name]) for name, path in (pictures or {}).items()],
    )
    print(f"The model, its card (README.md) and its pictures are in {folder}.")


def _with_arguments(result: Result, trainer: PicturesMixin, judge: dict | None) -> Result:
    """A result with what measuring it again needs, unless it says so itself."""
    if result.args is not None:
        return replace(result, args=result.args | dtype_argument(trainer.args))
    args = evaluation_arguments(trainer.args, result.metric)
    if args is not None and kind_of(result.metric) == PICTURES:
        args = None if judge is None else args | judge
    return replace(result, args=args)
