"""What a chain of compression is worth, form by form: table, picture, results.json and the card of the last form."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from ..arguments import recipe_command
from ..evaluation import Interval, measure_efficiency, text_table, wilson_interval
from ..hub import CardFacts, DatasetFacts, Result, hub_id, write_model_card
from ..hub.push import ONNX_FOLDER
from ..trainers.hub_mixin import VERSIONS
from ..trainers.tasks import AUTO_CLASSES, CLASSIFICATION, line_up
from .chain import Form
from .memory import peak_memory
from .onnx_model import ONNX_NAME, OnnxModel


ROUNDS = 5
FORM = "form"  # argument of a figure that is of an exported form, not of the weights


@dataclass
class JudgedForm:
    """
    A form of the model and what it is worth.

    Args:
        name (`str`): What was done last.
        quality ([`~hf_genkit.evaluation.Interval`]): Accuracy with its interval over the samples, or perplexity.
        parameters (`int`): How many there are, zeros included.
        size_bytes (`int`): The file of the weights.
        latency_ms (`float`): Median time of a pass with one sample, on one core.
        peak_bytes (`int`, *optional*): Peak memory of loading it and one pass.
        is_pareto (`bool`): Whether no other form is at least as good, small and fast.
    """

    name: str
    quality: Interval
    parameters: int
    size_bytes: int
    latency_ms: float
    peak_bytes: int | None = None
    is_pareto: bool = False


@torch.inference_mode()
def quality_of(model: torch.nn.Module, task: str, batches: Iterable[Mapping[str, torch.Tensor]]) -> Interval:
    """
    Accuracy of a model of classes, with the interval of Wilson over the labels; perplexity of a language model.

    Args:
        model (`torch.nn.Module`): Called with the inputs, gives `logits`.
        task (`str`): A key of `hf_genkit.trainers.tasks.AUTO_CLASSES`.
        batches (iterable of mappings): Inputs with `labels`, -100 for none.
    """
    right, count, loss = 0, 0, 0.0
    for batch in batches:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits, labels = line_up(task, model(**inputs).logits, batch["labels"])
        logits, labels = logits[labels != -100].float(), labels[labels != -100]
        right += int((logits.argmax(-1) == labels).sum())
        loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        count += len(labels)
    if task in CLASSIFICATION:
        return wilson_interval(right, count)
    perplexity = float(torch.exp(torch.tensor(loss / count)))
    return Interval(perplexity, None, None, count)


def judge_forms(forms: list[Form], task: str, test: list[dict], *, measure_memory: bool = True) -> list[JudgedForm]:
    """
    Tests every form and measures it on one core, in turns, so that a busy machine slows all of them alike.

    Args:
        forms (`list[Form]`): From [`~hf_genkit.compress.CompressionChain`].
        task (`str`): A key of `hf_genkit.trainers.tasks.AUTO_CLASSES`.
        test (`list[dict]`): The test set in batches, with `labels`.
        measure_memory (`bool`, *optional*, defaults to `True`): Whether to load each form in a process of its own.
    """
    threads = torch.get_num_threads()
    sample = {name: value[:1] for name, value in test[0].items() if name != "labels"}
    qualities = [quality_of(form.model, task, test) for form in forms]
    torch.set_num_threads(1)
    rounds = [[measure_efficiency(form.model, sample, repeats=10, warmup=3) for form in forms] for _ in range(ROUNDS)]
    torch.set_num_threads(threads)
    judged = []
    for number, form in enumerate(forms):
        latencies = sorted(found[number]["latency_ms"] for found in rounds)
        facts = rounds[0][number]
        judged.append(
            JudgedForm(form.name, qualities[number], facts["parameters"], facts["size_bytes"], latencies[ROUNDS // 2])
        )
        if measure_memory:
            judged[-1].peak_bytes = peak_memory(form.folder, AUTO_CLASSES[task].__name__, sample)
    sign = 1 if task in CLASSIFICATION else -1
    for one in judged:
        one.is_pareto = not any(_dominates(other, one, sign) for other in judged)
    return judged


def _dominates(other: JudgedForm, one: JudgedForm, sign: int) -> bool:
    """Whether a form is as good in everything as another, and better in something."""
    pairs = [
        (sign * other.quality.mean, sign * one.quality.mean),
        (-other.size_bytes, -one.size_bytes),
        (-other.latency_ms, -one.latency_ms),
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def rows_of(judged: list[JudgedForm], task: str) -> list[dict[str, str]]:
    """The forms as rows of a table, each beside the first one."""
    whole, rows = judged[0], []
    for form in judged:
        quality = form.quality
        row = {"Form": form.name}
        if task in CLASSIFICATION:
            row["Accuracy"] = f"{quality.mean:.4f} ({quality.low:.4f} to {quality.high:.4f})"
        else:
            row["Perplexity"] = f"{quality.mean:.4g}"
        row["Parameters"] = f"{form.parameters:,}"
        row["Size"] = f"{form.size_bytes / 1e6:.2f} MB ({whole.size_bytes / form.size_bytes:.1f}x smaller)"
        row["Latency, one core"] = f"{form.latency_ms:.2f} ms ({whole.latency_ms / form.latency_ms:.1f}x faster)"
        row["Peak memory"] = "" if form.peak_bytes is None else f"{form.peak_bytes / 1e6:.1f} MB"
        rows.append(row | {"Pareto": "yes" if form.is_pareto else "no"})
    return rows


def plot_forms(judged: list[JudgedForm], task: str, path: Path) -> None:
    """Draws quality against bytes and against latency, with the interval, and the best trade-offs filled."""
    import matplotlib.style
    from matplotlib.figure import Figure

    name = "Accuracy" if task in CLASSIFICATION else "Perplexity"
    panels = {"Size on disk (MB)": [form.size_bytes / 1e6 for form in judged]}
    panels["Latency of one sample on one core (ms)"] = [form.latency_ms for form in judged]
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(11, 4.5), dpi=150, layout="constrained")
        for axes, (label, values) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            for number, (form, value) in enumerate(zip(judged, values, strict=True)):
                quality = form.quality
                ends = None if quality.low is None else [[quality.mean - quality.low], [quality.high - quality.mean]]
                color = f"C{number % 10}"
                axes.errorbar(
                    value, quality.mean, yerr=ends, fmt="o", color=color, capsize=3, label=form.name,
                    markerfacecolor=color if form.is_pareto else "white",
                )  # fmt: skip
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].set_ylabel(name)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
        figure.savefig(path)


def finish_compression(
    judged: list[JudgedForm],
    forms: list[Form],
    *,
    task: str,
    dataset: DatasetFacts,
    base: str | None,
    labels: list[str],
    out: Path,
    method: str,
    command: list[str],
    seconds: float,
    hub_model_id: str | None = None,
    license: str | None = None,
    image: dict | None = None,
) -> None:
    """
    Prints the table and writes results.json, pareto.png and the card of the last form that `from_pretrained` loads.

    Args:
        judged (`list[JudgedForm]`), forms (`list[Form]`): The forms in order.
        task (`str`): A key of `hf_genkit.trainers.tasks.AUTO_CLASSES`.
        dataset ([`~hf_genkit.hub.DatasetFacts`]): What they were tested on.
        base (`str`, *optional*): Where the model came from.
        labels (`list[str]`): Its classes.
        out (`Path`): The output folder.
        method (`str`): Whole sentences on how the forms were trained.
        command (`list[str]`): The words of the command that was run.
        seconds (`float`): How long it took.
        hub_model_id, license (`str`, *optional*): For the card.
        image (`dict`, *optional*): Mode and size of images, for the card's snippet.
    """
    rows = rows_of(judged, task)
    print(f"\n{text_table(rows)}\n")
    found = {"forms": [asdict(form) for form in judged], "seconds": round(seconds, 1)}
    (out / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    plot_forms(judged, task, out / "pareto.png")
    last = max(number for number, form in enumerate(forms) if isinstance(form.model, PreTrainedModel))
    quantization = getattr(forms[last].model.config, "quantization_config", None)
    quality = judged[last].quality
    name = "Accuracy" if task in CLASSIFICATION else "Perplexity"
    limits = [f"The figures come from {quality.n:,} labels of one data set; other data were not tried."]
    if quantization is not None:
        limits.append(
            f"It is quantized: loading it needs {_library(quantization)}, and it is not meant to be trained."
        )
    results = [Result(name.lower(), quality.mean, name=name, args={})]
    exported = [number for number, form in enumerate(forms) if isinstance(form.model, OnnxModel)]
    if exported:
        file, form = f"{ONNX_FOLDER}/{ONNX_NAME}", judged[exported[-1]]
        limits.append(f"{file}, for onnxruntime, is the form '{form.name}' of the table.")
        results.append(Result(name.lower(), form.quality.mean, name=f"{name} of {file}", args={FORM: ONNX_FOLDER}))
    facts = CardFacts(
        model_name=(hub_model_id or str(out.resolve())).split("/")[-1],
        task=task,
        auto_class=AUTO_CLASSES[task].__name__,
        dataset=dataset,
        results=results,
        repo_id=hub_model_id,
        license=license,
        base_model=hub_id(base),
        base_model_relation=None if hub_id(base) is None else "finetune" if quantization is None else "quantized",
        labels=labels,
        parameters=judged[last].parameters,
        comparison=rows,
        method=method,
        hardware=f"{os.cpu_count()} CPU cores, {seconds:.0f} seconds",
        command=recipe_command(command),
        versions={name: version(name) for name in VERSIONS},
        limits=limits,
        pictures=[("pareto.png", "Quality against size and latency; filled are the best trade-offs")],
        tags=["compression"],
        **(image or {}),
    )
    write_model_card(out, facts)
    print(f"The model, its card (README.md) and pareto.png are in {out}; every form is in {out / 'forms'}.")


def _library(quantization) -> str:
    return "bitsandbytes" if isinstance(quantization, BitsAndBytesConfig) else "torchao"
