"""What a run of a generative model leaves in its folder: pictures, results.json, and a card that shows them."""

import json
import os
import shlex
from pathlib import Path

import torch
from transformers.image_processing_utils import BaseImageProcessor

from ..arguments import DataArguments
from ..data import ImageData
from ..evaluation import text_table
from ..hub import DatasetFacts, Result, hub_id
from .pictures import CAPTIONS, PicturesMixin


def dataset_facts(data: ImageData, data_args: DataArguments, samples: int | None = None) -> DatasetFacts:
    """What a card says of the data that a model was tested on."""
    is_digits = data_args.dataset_name == "digits"
    return DatasetFacts(
        "scikit-learn digits" if is_digits else Path(data_args.dataset_name).name,
        id=None if is_digits else hub_id(data_args.dataset_name),
        config=data_args.dataset_config,
        split=data.test_split_name,
        revision=data_args.dataset_revision,
        samples=samples,
    )


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
    """
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return
    folder = Path(trainer.args.output_dir)
    rows = [
        {
            "Metric": result.name,
            "Value": f"{result.value:.4g}",
            "Real data": "" if result.floor is None else f"{result.floor:.4g}",
        }
        for result in results
    ]
    if rows:
        print(f"\n{text_table(rows)}\n")
    found = {
        "metrics": {name: value if value == value else None for name, value in metrics.items()},  # JSON has no NaN
        "real_data": {result.metric: result.floor for result in results if result.floor is not None},
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "processes": trainer.accelerator.num_processes,
    }
    (folder / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    trainer.create_model_card(
        dataset=dataset_facts(data, data_args, len(data.test_split)),
        results=results,
        command=f"accelerate launch {shlex.join(command)}",
        hardware=f"{device}, {seconds:.0f} seconds",
        limits=limits,
        pictures=[(path.name, CAPTIONS[name]) for name, path in (pictures or {}).items()],
    )
    print(f"The model, its card (README.md) and its pictures are in {folder}.")
