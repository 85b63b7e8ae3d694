"""A demo as a Space on the Hub: a folder that runs wherever its requirements are installed, and pushing it in one commit."""

import os
import shutil
import sys
import tempfile
from importlib.metadata import requires, version
from pathlib import Path

import yaml
from httpx2 import HTTPError
from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from packaging.requirements import Requirement

from ..hub import check_push_access, hub_id
from ..hub.cards import CARD_NAME
from ..hub.push import first_line
from .loading import bases_and_libraries


PACKAGE = Path(__file__).parents[1]
EXAMPLES = "examples"
EXTRAS = {"peft": "peft", "bitsandbytes": "bnb", "torchao": "quantize"}
"""The extra of hf_genkit by what a model needs."""
APP = '''"""The demo of {models}."""

from hf_genkit.demo import build_demo, launch_demo


launch_demo(
    build_demo(
        {arguments},
    )
)
'''
README = """---
{metadata}---

# {title}

A demo of {models}, made by `hf_genkit.demo`. The package is in this Space, as it was when the Space was made.

The models come from the Hub; a private one needs a token that reads it, as the Space's secret `HF_TOKEN`.
"""


def check_hub_names(names: list[str]) -> None:
    """
    Raises:
        `ValueError`: One of the names is a folder on this machine, which a Space can't load, or no name of the Hub's; or
            it is an adapter of such a one, or quantized by what a Space can't install.
    """
    for name in names:
        if hub_id(name) is None:
            raise ValueError(
                f"A Space loads its models from the Hub, but '{name}' is on this machine: push it and give its Hub id."
            )
        bases, libraries = bases_and_libraries(name)
        for base in bases:
            if hub_id(base) is None:
                raise ValueError(
                    f"A Space loads its models from the Hub, but the adapter '{name}' belongs to '{base}' on this machine: "
                    "push that, and give its Hub id as `base_model_name_or_path` in the adapter's adapter_config.json."
                )
        if unknown := libraries - set(EXTRAS):
            raise ValueError(f"'{name}' is quantized by {unknown.pop()}, but a Space can have {', '.join(EXTRAS)}.")


def write_space(
    folder: str | os.PathLike,
    model: str,
    teacher: str | None = None,
    *,
    title: str | None = None,
    examples: list[str] | None = None,
) -> Path:
    """
    Writes the files of a Space: its card, `app.py`, requirements with pinned versions, the examples, and this package.
    It appears as a whole or not at all.

    The package's source travels along, for a Space installs `requirements.txt` before it has any other file of its
    repository, so that a wheel in it would not be found, and the package need not be on an index.

    Args:
        folder (`str` or `os.PathLike`): A folder that doesn't exist, or is empty.
        model (`str`): Hub id of the model.
        teacher (`str`, *optional*): Hub id of its teacher.
        title (`str`, *optional*): Heading of the page; defaults to the model's name.
        examples (`list[str]`, *optional*): As in [`~hf_genkit.demo.build_demo`]; files are copied.

    Returns:
        `Path`: The folder.

    Raises:
        `ValueError`: A model is not on the Hub, or the folder holds something.
    """
    folder, names = Path(folder), [model] if teacher is None else [model, teacher]
    check_hub_names(names)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"'{folder}' holds files already: name a new folder for the Space.")
    needs = [bases_and_libraries(name) for name in names]
    extras = tuple(sorted({EXTRAS[library] for _, libraries in needs for library in libraries}))
    bases = [base for found, _ in needs for base in found]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".space-") as parent:
        unfinished = Path(parent, "space")
        shutil.copytree(PACKAGE, unfinished / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        title = title or model.split("/")[-1]
        arguments = [repr(name) for name in names] + [f"title={title!r}"]
        if examples:
            arguments.append(f"examples={_copy_examples(examples, unfinished)!r}")
        listed = " and ".join(names)
        links = " and its teacher ".join(f"[{name}](https://huggingface.co/{name})" for name in names)
        files = {
            "app.py": APP.format(models=listed, arguments=",\n        ".join(arguments)),
            "requirements.txt": "".join(f"{line}\n" for line in pinned_requirements(extras)),
            CARD_NAME: README.format(
                metadata=_metadata(title, list(dict.fromkeys([*names, *bases]))), title=title, models=links
            ),
        }
        for name, text in files.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    return folder


def push_space(
    folder: str | os.PathLike, space_id: str, *, token: str | None = None, private: bool | None = None
) -> CommitInfo:
    """
    Makes a folder that [`write_space`] wrote a Space on the Hub, in one commit. A Space that exists gets the new files,
    and loses those of this package that are gone.

    Args:
        folder (`str` or `os.PathLike`): The folder.
        space_id (`str`): `"name"` or `"namespace/name"`.
        token (`str`, *optional*): An access token; defaults to the one of `HF_TOKEN` or `hf auth login`.
        private (`bool`, *optional*): Whether a new Space is private; defaults to what the namespace does.

    Returns:
        `CommitInfo`

    Raises:
        `ValueError`: The token can't write there, or a model of the Space is not on the Hub.
        `ConnectionError`: Anything else goes wrong on the way.
    """
    space_id, api = check_push_access(space_id, token), HfApi(token=token)
    metadata = yaml.safe_load((Path(folder) / CARD_NAME).read_text(encoding="utf-8").split("---\n")[1])
    try:
        for model in metadata["models"]:
            api.model_info(model)
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"A Space loads its models from the Hub, but there is no '{model}': push it, or log in so that it is seen."
        ) from error
    except (HTTPError, OSError) as error:
        raise ConnectionError(f"The Hub doesn't tell whether there is '{model}' ({first_line(error)}).") from error
    try:
        api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        return api.upload_folder(
            repo_id=space_id,
            folder_path=folder,
            repo_type="space",
            commit_message="Demo with its app, requirements and package",
            delete_patterns=f"{PACKAGE.name}/**",
        )
    except (HTTPError, OSError, RuntimeError) as error:
        raise ConnectionError(
            f"The push to the Space '{space_id}' failed ({first_line(error)}); push again."
        ) from error


def pinned_requirements(extras: tuple[str, ...] = ()) -> list[str]:
    """What hf_genkit needs to run a demo, as it is installed here: `name==version`, without builds such as `+cpu`."""
    needed = [Requirement(line) for line in requires("hf-genkit")]
    wanted = [{"extra": extra} for extra in ("", "demo", *extras)]
    names = {each.name for each in needed if each.marker is None or any(map(each.marker.evaluate, wanted))}
    return [f"{name}=={version(name).split('+')[0]}" for name in sorted(names)]


def _metadata(title: str, names: list[str]) -> str:
    values = {
        "title": title,
        "emoji": "🎛️",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "app.py",
        "pinned": False,
        "models": names,
        "tags": ["hf_genkit"],
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _copy_examples(examples: list[str], folder: Path) -> list[str]:
    """The examples as the Space names them: files by their place in it, texts as they are."""
    named = []
    for number, example in enumerate(examples):
        if os.path.isfile(example):  # a long text is no name that Path could ask for
            copy = Path(EXAMPLES, f"{number}{Path(example).suffix}")
            (folder / EXAMPLES).mkdir(exist_ok=True)
            shutil.copyfile(example, folder / copy)
            example = copy.as_posix()
        named.append(example)
    return named
