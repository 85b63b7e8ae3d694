"""The Hub's check of the YAML block at the head of a README.md, as far as a wrong card would be refused."""

import re

import yaml


REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\s*(?:\r?\n|\Z)", re.DOTALL)


def read_metadata(content: str) -> tuple[dict, list[str], list[str]]:
    """Returns the metadata, the errors for which the Hub refuses the card, and its warnings."""
    block = FRONT_MATTER.match(content)
    if block is None:
        return {}, [], ["empty or missing yaml metadata in repo card"]
    try:
        metadata = yaml.safe_load(block.group(1))
    except yaml.YAMLError as error:
        return {}, [f"YAML can't be parsed: {error}"], []
    if not isinstance(metadata, dict):
        return {}, ["metadata must be a mapping"], []
    return metadata, _errors(metadata), []


def _errors(metadata: dict) -> list[str]:
    errors = []
    for key in ("base_model", "datasets"):
        values = metadata.get(key) or []
        for value in values if isinstance(values, list) else [values]:
            if not (isinstance(value, str) and REPO_ID.fullmatch(value)):
                errors.append(f'"{key}" with value "{value}" is not valid. Use an id from the Hub.')
    for key in ("library_name", "pipeline_tag"):
        if not isinstance(metadata.get(key, ""), str):
            errors.append(f'"{key}" must be a string')
    for key in ("tags", "model-index"):
        if not isinstance(metadata.get(key) or [], list):
            errors.append(f'"{key}" must be an array')
            return errors
    for i, model in enumerate(metadata.get("model-index") or []):
        if not isinstance(model.get("name"), str):
            errors.append(f'"model-index[{i}].name" must be a string')
        for j, result in enumerate(model.get("results", [])):
            where = f"model-index[{i}].results[{j}]"
            for part, key in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
                if not isinstance(result.get(part, {}).get(key), str):
                    errors.append(f'"{where}.{part}.{key}" must be a string')
            for k, metric in enumerate(result.get("metrics", [])):
                if not isinstance(metric.get("type"), str):
                    errors.append(f'"{where}.metrics[{k}].type" must be a string')
                if "value" not in metric:
                    errors.append(f'"{where}.metrics[{k}].value" is required')
    return errors
