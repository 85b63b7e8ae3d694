"""What a run of fine-tuning or pre-training leaves in its folder: results.json, curves.png, and the model's card."""

import json
import os
from pathlib import Path

import torch

from ..arguments import DataArguments, recipe_command
from ..evaluation import measure_efficiency, plot_curves, text_table, wilson_interval
from ..hub import Result
from .adapters import count_parameters
from .claim_arguments import model_arguments
from .finetuning_trainer import FineTuningTrainer
from .generation_report import dataset_facts, image_facts
from .inputs import student_inputs, with_float_pixels
from .tasks import LANGUAGE, SPEECH, decoder_inputs
from .transcribing import transcribe


LIMITS = {
    "text-generation": "It writes what is likely after a text, which may be wrong, and repeats the biases of what it read.",
    "fill-mask": "It knows which words are likely, not what is true, and repeats the biases of what it read.",
    "automatic-speech-recognition": "Speakers, rooms and words unlike those in the data may be misheard.",
}


def example_of(trainer: FineTuningTrainer, dataset) -> dict[str, torch.Tensor]:
    """The first sample of a data set as a model reads it, a batch of one."""
    batch = trainer._prepare_inputs(next(iter(trainer.get_test_dataloader(dataset))))
    sample = {name: value[:1] for name, value in batch.items() if isinstance(value, torch.Tensor)}
    labels = sample.pop("labels")
    inputs = with_float_pixels(student_inputs(sample, trainer.input_names), trainer.image_processor)
    return inputs | (
        {"decoder_input_ids": decoder_inputs(trainer.network.config, labels)} if trainer.task == SPEECH else {}
    )


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """What an optimizer keeps from one step to the next."""
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def judge_fine_tuning(trainer: FineTuningTrainer, test) -> dict[str, float]:
    """
    What a model is worth on a test set, before or after training.

    Args:
        trainer ([`FineTuningTrainer`]): The trainer of the model.
        test: Model inputs of the test split.

    Returns:
        `dict[str, float]`: The trainer's metrics with the prefix `test_`; `test_wer` too, for speech.
    """
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    return metrics | ({"test_wer": transcribe(trainer, test).wer} if trainer.task == SPEECH else {})


def finish_fine_tuning(
    trainer: FineTuningTrainer,
    data,
    data_args: DataArguments,
    test,
    *,
    metrics: dict[str, float],
    before: dict[str, float] | None,
    command: list[str],
    seconds: float,
) -> None:
    """
    Prints the results and writes the model (or its adapter), results.json, curves.png and the card; on the first process.

    Args:
        trainer ([`FineTuningTrainer`]): The trainer of the model.
        data: What it was trained and tested on: a class of `hf_genkit.data`.
        data_args ([`~hf_genkit.DataArguments`]): Where that came from.
        test: Model inputs of the test split.
        metrics (`dict[str, float]`): What was measured on them, with the prefix `test_`.
        before (`dict[str, float]`, *optional*): The same before training, where the model could do the task already.
        command (`list[str]`): The words of the command that was run.
        seconds (`float`): How long it took.
    """
    trainer.save_model(_internal_call=True)
    if not trainer.is_world_process_zero():
        return
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    results = test_results(trainer, metrics, len(test))
    efficiency = measure_efficiency(model, example_of(trainer, test), repeats=20)
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    rows = [_row("trained", results, seconds)]
    if before is not None:
        rows.insert(0, _row("before", test_results(trainer, before, len(test)), None))
    print(f"\n{text_table(rows)}\n")
    print(
        f"{trainable:,} of {count_parameters(model):,} parameters were trained; the optimizer kept "
        f"{optimizer_bytes(trainer.optimizer) / 1e6:.1f} MB."
    )
    found = {
        **{name: value for name, value in metrics.items() if isinstance(value, int | float)},
        **{f"before_{name}": value for name, value in (before or {}).items() if name.startswith("test_")},
        **{name: efficiency[name] for name in ("size_bytes", "latency_ms", "threads")},
        "parameters": count_parameters(model),
        "trainable_parameters": trainable,
        "optimizer_bytes": optimizer_bytes(trainer.optimizer),
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 1),
        "processes": trainer.accelerator.num_processes,
    }
    (folder / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    name = "perplexity" if trainer.task in LANGUAGE else "accuracy"
    plot_curves({"trained": [list(trainer.state.log_history)]}, folder / "curves.png", x="step", metric=f"eval_{name}")
    trainer.create_model_card(**_facts(trainer, data, data_args, results, rows, command, seconds, len(test)))
    what = "adapter" if trainer.is_adapter else "model"
    print(f"The {what}, its card (README.md) and curves.png are in {folder}.")


def test_results(trainer: FineTuningTrainer, metrics: dict[str, float], samples: int) -> list[Result]:
    """What a test measured, for card and table; an accuracy of samples with its interval over them."""
    if trainer.task in LANGUAGE:
        names = {"wer": "Word error rate", "perplexity": "Perplexity", "accuracy": "Token accuracy"}
        return [
            Result(metric, metrics[f"test_{metric}"], name=name)
            for metric, name in names.items()
            if f"test_{metric}" in metrics
        ]
    accuracy = metrics["test_accuracy"]
    if trainer.task == "token-classification":
        return [Result("accuracy", accuracy, name="Accuracy")]
    interval = wilson_interval(round(accuracy * samples), samples)
    return [Result("accuracy", accuracy, name="Accuracy", mean=accuracy, interval=(interval.low, interval.high))]


def _row(name: str, results: list[Result], seconds: float | None) -> dict[str, str]:
    row = {"Model": name}
    for result in results:
        row[result.name] = f"{result.value:.4g}"
        if result.interval is not None:
            row["95 % interval"] = f"{result.interval[0]:.4f} to {result.interval[1]:.4f} (samples)"
    return row | {"Seconds": "" if seconds is None else f"{seconds:.0f}"}


def _facts(trainer, data, data_args, results, rows, command, seconds, samples) -> dict:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    facts = {
        "dataset": dataset_facts(data, data_args, samples),
        "results": [
            Result(result.metric, result.value, name=result.name, args=model_arguments(trainer)) for result in results
        ],
        "comparison": rows,
        "command": recipe_command(command),
        "hardware": f"{device}, {seconds:.0f} seconds",
        "limits": [
            f"The figures come from {samples:,} samples of one data set and one seed; other data were not tried."
        ],
        "pictures": [("curves.png", "Training loss and evaluation while training")],
    }
    if trainer.task in LIMITS:
        facts["limits"].insert(0, LIMITS[trainer.task])
    else:
        classes = len(data.id2label)
        facts["limits"].insert(0, f"It knows {classes} classes only, and answers with one of them for any input.")
    return facts | example_facts(trainer.task, data) | image_facts(data, trainer.processing_class)


def example_facts(task: str, data) -> dict:
    """What the usage snippet on a language model's card says to it; empty for other tasks."""
    if task != "text-generation":
        return {}
    is_chat = data.format == "chat"
    return {"chat": is_chat, "example_text": "Hello! Who are you?" if is_chat else "The"}
