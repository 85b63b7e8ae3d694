"""
Model cards: plain facts in, Markdown with valid metadata out. Rendering needs no network, no clock and no model.

[`CardFacts`] is all that a card can say; [`render_model_card`] says it; [`write_model_card`] puts it into an output
folder unless a person has written a card there. A generated card ends with a line that carries a digest of its text,
so that [`is_generated`] can tell it from a card that somebody edited.
"""

import hashlib
import json
import logging
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..report.public import public_text
from .card_rules import NOT_EVALUATED, check_model_card
from .claims import EMBEDDED, Claim, DatasetFacts, Result


logger = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"
CARD_NAME = "README.md"


@dataclass
class TeacherFacts:
    """The teacher: its `name` for people, its `id` on the Hub if it has one, and its own `results`."""

    name: str
    id: str | None = None
    results: list[Result] = field(default_factory=list)


@dataclass
class CardFacts:
    """
    Everything that a model card can say, as plain values. A fact that is `None` or empty leaves its line out.

    Args:
        model_name (`str`): The title.
        task (`str`): The pipeline tag, such as `"image-classification"`; one that has a usage template.
        auto_class (`str`): The class that loads the model, such as `"AutoModelForImageClassification"`.
        dataset ([`DatasetFacts`]): What the results were measured on.
        results (`list[Result]`): This model's results.
        library_name (`str`, defaults to `"transformers"`): The library that loads it.
        repo_id (`str`, *optional*): `"namespace/name"` on the Hub; without it the usage snippet loads from the folder.
        revision (`str`, *optional*): The branch the model is pushed to, where that is not the main one.
        license (`str`, *optional*): An id that the Hub knows, such as `"apache-2.0"`.
        language (`str` or `list[str]`, *optional*): ISO 639 codes.
        base_model (`str`, *optional*): The Hub id of the weights that training started from, see [`hub_id`].
        labels (`list[str]`, *optional*): The class names.
        parameters (`int`, *optional*): The number of parameters.
        teacher ([`TeacherFacts`], *optional*): The teacher of a distilled model.
        comparison (`list[dict]`, *optional*):
            Rows of a table, each a dict from column name to number or text, such as teacher, student alone and
            distilled student with accuracy, parameters, size on disk and latency. Floats are shown with four digits.
        method (`str`, *optional*): Whole sentences on how it was trained.
        hardware (`str`, *optional*): What it was trained on and for how long, such as `"2 CPU cores, 95 seconds"`.
        command (`str`, *optional*): The command that trained it.
        hyperparameters (`dict`, *optional*): The options that differ from their defaults, printed as YAML.
        versions (`dict[str, str]`, *optional*): Version by package name.
        limits (`list[str]`, *optional*): Whole sentences on what the model can't do.
        pictures (`list[tuple[str, str]]`, *optional*): File name beside the card, and caption.
        tags (`list[str]`, *optional*): Tags for the Hub besides `"hf_genkit"`.
        example_text (`str`, defaults to `"This is an example."`): The text of a text task's usage snippet.
        image_mode (`str`, defaults to `"RGB"`): PIL's mode of the model's images, `"L"` for grey.
        image_size (`tuple[int, int]`, defaults to `(224, 224)`): Width and height of the usage snippet's image.
        sample_call (`str`, *optional*):
            For the usage snippet: the method that makes pictures, such as `"sample(16)"`, or the arguments with which a
            pipeline of diffusers is called.
        image_call (`str`, *optional*): The method that reads a batch of images, such as `"is_anomaly"`, for the same.
        custom_code (`bool`, defaults to `False`): Whether the model's class travels with it as a `.py` file.
        pipeline_class (`str`, defaults to `"diffusers.DiffusionPipeline"`): What loads a pipeline of diffusers.
        adapter_base (`str`, *optional*):
            The model or pipeline that an adapter belongs to, by its Hub id or its folder's name.
        adapter_base_revision (`str`, *optional*): That base's commit, tag or branch.
        base_model_relation (`str`, *optional*): "adapter", "finetune", "quantized" or "merge", as the Hub has them.
        chat (`bool`, defaults to `False`): Whether a text generator answers messages.
    """

    model_name: str
    task: str
    auto_class: str
    dataset: DatasetFacts
    results: list[Result]
    library_name: str = "transformers"
    repo_id: str | None = None
    revision: str | None = None
    license: str | None = None
    language: str | list[str] | None = None
    base_model: str | None = None
    labels: list[str] = field(default_factory=list)
    parameters: int | None = None
    teacher: TeacherFacts | None = None
    comparison: list[dict] = field(default_factory=list)
    method: str | None = None
    hardware: str | None = None
    command: str | None = None
    hyperparameters: dict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    example_text: str = "This is an example."
    image_mode: str = "RGB"
    image_size: tuple[int, int] = (224, 224)
    sample_call: str | None = None
    image_call: str | None = None
    custom_code: bool = False
    pipeline_class: str = "diffusers.DiffusionPipeline"
    adapter_base: str | None = None
    adapter_base_revision: str | None = None
    base_model_relation: str | None = None
    chat: bool = False


def hub_id(name: str | None) -> str | None:
    """
    `name` where it can be a repository on the Hub, `None` where it is a local path or no valid id: the value for
    `base_model`, `TeacherFacts.id` and `DatasetFacts.id`, which must never hold a local path.
    """
    if name is None or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def render_model_card(facts: CardFacts) -> str:
    """
    Renders a model card. The same facts always give the same text.

    Local paths in the text are cut down to their last component and access tokens are removed, so that a command or
    an option can be given as it was typed. Ids (`base_model`, `dataset.id`, `repo_id`) are taken as they are.

    Args:
        facts ([`CardFacts`]): What the card says.

    Returns:
        `str`: The card, which ends with a marker line that [`is_generated`] recognises.

    Raises:
        `ValueError`: if there is no usage snippet for `facts.task`.
    """
    tasks = sorted(path.stem.removeprefix("usage_") for path in TEMPLATES.glob("usage_*-*"))
    if facts.library_name != "diffusers" and facts.task not in tasks:
        raise ValueError(f"No model card can be written for the task {facts.task!r}; known are {', '.join(tasks)}.")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(linked=_linked, literal=repr, number=_number, quoted=_quoted, table=_table)
    options = f', revision="{facts.revision}"' if facts.revision is not None else ""
    options += ", trust_remote_code=True" if facts.custom_code else ""
    snippet = "diffusers" if facts.library_name == "diffusers" else facts.task
    usage = environment.get_template(f"usage_{snippet}.jinja").render(
        facts=facts, model_id=facts.repo_id or ".", options=options
    )
    usage = usage.rstrip()
    body = environment.get_template("model_card.jinja").render(
        facts=facts,
        usage=usage,
        check=_check_command(facts),
        result_rows=[_result_row(result) for result in facts.results],
        teacher_rows=[_result_row(result) for result in facts.teacher.results] if facts.teacher else [],
        has_seeds=any(result.mean is not None for result in facts.results),
        has_floor=any(result.floor is not None for result in facts.results),
        not_evaluated=NOT_EVALUATED,
        trained=facts.method or facts.hardware or facts.command or facts.hyperparameters or facts.versions,
        hyperparameters=yaml.safe_dump(facts.hyperparameters, sort_keys=False, allow_unicode=True).rstrip(),
    )
    text = f"---\n{_metadata(facts)}\n---\n\n{public_text(body)}"
    text = re.sub(r"\n{3,}", "\n\n", text).rstrip()
    return f"{text}\n\n{_marker(text)}\n"


def _check_command(facts: CardFacts) -> str | None:
    """What measures the card's figures again, if it says how."""
    if not any(claim.can_be_checked for claim in _claims(facts)):
        return None
    dataset = facts.dataset
    command = ["python -m hf_genkit.verify", facts.repo_id or "."]
    if facts.repo_id is not None and facts.revision is not None:
        command += ["--revision", facts.revision]
    if dataset.id is None and EMBEDDED not in dataset.args:
        command += ["--dataset_name", shlex.quote(public_text(dataset.name))]
    return " ".join(command)


def is_generated(text: str) -> bool:
    """Whether `text` is a card exactly as [`render_model_card`] wrote it, whatever its line ends."""
    body, _, last_line = text.replace("\r\n", "\n").rstrip().rpartition("\n")
    return last_line == _marker(body.rstrip())


def write_model_card(folder: str | Path, facts: CardFacts) -> Path | None:
    """
    Renders, checks and writes `README.md` into an output folder, unless a card that a person wrote or edited is there.

    Args:
        folder (`str` or `Path`): An existing folder.
        facts ([`CardFacts`]): What the card says.

    Returns:
        `Path` or `None`: The card's path; `None` if a person's card was kept.

    Raises:
        `ValueError`: if the card breaks a rule of [`check_model_card`], for example a local path as `base_model`.
    """
    path = Path(folder) / CARD_NAME
    text = render_model_card(facts)
    check_model_card(text)
    if path.exists() and not is_generated(path.read_text(encoding="utf-8")):
        logger.warning("%s was written or edited by hand: it is kept, and no new card is written.", path)
        return None
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return path


def _claims(facts: CardFacts) -> list[Claim]:
    dataset = replace(facts.dataset, name=public_text(facts.dataset.name))
    return [Claim(facts.task, dataset, result) for result in facts.results]


def _metadata(facts: CardFacts) -> str:
    dataset = facts.dataset
    results = [claim.to_eval_result() for claim in _claims(facts)]
    return ModelCardData(
        library_name=facts.library_name,
        pipeline_tag=facts.task,
        license=facts.license,
        language=facts.language,
        base_model=facts.base_model,
        base_model_relation=facts.base_model_relation,
        datasets=None if dataset.id is None else [dataset.id],
        metrics=list(dict.fromkeys(result.metric for result in facts.results)) or None,
        tags=["hf_genkit", *facts.tags],
        model_name=public_text(facts.model_name) if results else None,
        eval_results=results or None,
    ).to_yaml()


def _marker(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"<!-- Written by hf_genkit; a card that was edited is never replaced. {digest} -->"


def _result_row(result: Result) -> dict:
    interval = None if result.interval is None else " to ".join(_number(bound) for bound in result.interval)
    return {
        "Metric": result.name or result.metric,
        "Value": result.value,
        "Real data": result.floor,
        "Mean over seeds": result.mean,
        "95 % interval": interval,
        "Seeds": ", ".join(map(str, result.seeds)) or None,
    }


def _linked(name: str, kind: str, repo_id: str | None) -> str:
    return name if repo_id is None else f"[{name}](https://huggingface.co/{kind}{repo_id})"


def _number(value: float | str) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    """A string literal of Python."""
    return json.dumps(text, ensure_ascii=False)


def _table(rows: list[dict]) -> str:
    """A Markdown table with the columns that at least one row fills, in the order in which they first appear."""
    columns = dict.fromkeys(key for row in rows for key, value in row.items() if value is not None)
    cells = [["" if row.get(key) is None else _number(row[key]) for key in columns] for row in rows]
    lines = [list(columns), ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
