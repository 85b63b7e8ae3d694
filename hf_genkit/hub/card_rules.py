"""What a model card must hold before it may leave this machine, checked without a network."""

import math
import re
from numbers import Real
from pathlib import Path

import yaml
from huggingface_hub import EvalResult
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..report.public import LOCAL_PATH, TOKEN


NOT_EVALUATED = "This model has not been evaluated."

VOCABULARY = yaml.safe_load((Path(__file__).parent / "templates" / "vocabulary.yaml").read_text(encoding="utf-8"))
LICENSES: list[str] = VOCABULARY["licenses"]
PLAIN = (str, bool, int, float)
"""What an argument of a figure may be."""

PLACEHOLDER = re.compile(
    r"(?i:\[more information needed\])|\b(?:TODO|FIXME|TBD)\b|\{\{.*?\}\}|(?i:\byour[-_ ](?:user)?name\b)"
    r"|<\.{3}>|<(?i:your|\w*_)?[ \w-]*(?i:name|path|repo|id|token|here)>"
)


def find_token(text: str) -> str | None:
    """The first characters of the first access token in `text`, such as `"hf_ab..."`, or `None`."""
    found = TOKEN.search(text)
    return f"{found.group()[:5]}..." if found else None


def check_model_card(text: str) -> None:
    """
    Refuses a model card that the Hub would reject, that names things only this machine knows, or that is unfinished.

    Checked, without a network: a metadata block that is valid YAML; `library_name`, `pipeline_tag` and `tags`; a
    `model-index` whose values are finite numbers (it may only be absent where the text says that the model has not
    been evaluated); a `license` that the Hub knows; `base_model` and `datasets` that are repository ids; and no
    access token, no absolute or `./` path and no placeholder anywhere.

    Args:
        text (`str`):
            The whole card: metadata block and Markdown.

    Raises:
        `ValueError`: with one sentence that names the first defect.
    """
    metadata = parse_metadata(text)
    for key in ("library_name", "pipeline_tag", "tags"):
        if not metadata.get(key):
            raise ValueError(f"The model card's metadata lacks `{key}`.")
    if metadata["pipeline_tag"] not in VOCABULARY["pipeline_tags"]:
        raise ValueError(f"The model card's pipeline_tag {metadata['pipeline_tag']!r} is not a task of the Hub.")
    if not isinstance(metadata["tags"], list) or not all(isinstance(tag, str) for tag in metadata["tags"]):
        raise ValueError(f"The model card's tags must be a list of strings, got {metadata['tags']!r}.")
    if "license" in metadata and metadata["license"] not in LICENSES:
        raise ValueError(
            f"The model card's license {metadata['license']!r} is not an id of the Hub, such as 'apache-2.0' or 'other'."
        )
    for key in ("base_model", "datasets"):
        ids = metadata.get(key, [])
        for repo_id in ids if isinstance(ids, list) else [ids]:
            _check_repo_id(key, repo_id)
    if "model-index" in metadata:
        read_model_index(metadata["model-index"])
    elif NOT_EVALUATED not in text:
        raise ValueError(f"The model card's metadata lacks `model-index`, and it doesn't say: {NOT_EVALUATED}")
    if token := find_token(text):
        raise ValueError(f"The model card contains an access token ({token}).")
    if path := LOCAL_PATH.search(text):
        raise ValueError(f"The model card contains the local path {path.group()!r}.")
    if placeholder := PLACEHOLDER.search(text):
        raise ValueError(f"The model card contains the placeholder {placeholder.group()!r}.")


def parse_metadata(text: str) -> dict:
    """A card's metadata block. Raises `ValueError` with one sentence if there is none, or it is no valid YAML."""
    block = REGEX_YAML_BLOCK.search(text)
    if block is None:
        raise ValueError("The model card has no metadata: it must begin with a YAML block between two `---` lines.")
    try:
        metadata = yaml.safe_load(block.group(2))
    except yaml.YAMLError as error:
        raise ValueError("The model card's metadata is not valid YAML.") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"The model card's metadata must be keys with values, got {metadata!r}.")
    return metadata


def _check_repo_id(key: str, repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"The model card's {key} {repo_id!r} is not a repository id of the Hub.") from error


def read_model_index(model_index: list) -> list[EvalResult]:
    """
    The results of a card's `model-index`.

    Raises:
        `ValueError`: with one sentence, if there is none, one lacks a name or a type, its value is no finite number, or
            it has an argument that is neither a number nor a word nor a list of these.
    """
    try:
        _, results = model_index_to_eval_results(model_index)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            "The model card's model-index must give each result a task type, a data set name and type, and metrics"
            f" with type and value ({error!r})."
        ) from error
    if not results:
        raise ValueError("The model card's model-index holds no result.")
    for result in results:
        if not (result.task_type and result.dataset_type and result.dataset_name and result.metric_type):
            raise ValueError(f"The model card's model-index has an empty name or type in {result!r}.")
        value = result.metric_value
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"The model card's {result.metric_type} must be a finite number, got {value!r}.")
        for args in (result.dataset_args or {}, result.metric_args or {}):
            if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
                raise ValueError(f"The model card's {result.metric_type} has args that are no names with values.")
            for name, value in args.items():
                if not all(isinstance(each, PLAIN) for each in (value if isinstance(value, list) else [value])):
                    raise ValueError(
                        f"The model card's argument {name!r} of {result.metric_type} must be a number, a word or a list"
                        f" of these, got {value!r}."
                    )
    return results
