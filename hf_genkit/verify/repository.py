"""A repository of the Hub, or a folder, as files that hold data alone."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.utils import HFValidationError

from ..hub.cards import CARD_NAME
from ..hub.push import ONNX_FOLDER, PIPELINE_INDEX


DATA = ["*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", CARD_NAME]
"""What is downloaded: none of it runs or unpickles."""
NOT_THE_MODEL = ["*checkpoint*/*", f"{ONNX_FOLDER}/*"]


@dataclass(frozen=True)
class LocalCopy:
    """
    Files of a repository.

    Args:
        name (`str`): What was asked for: a Hub id or a folder.
        folder (`Path`): Where they are.
        commit (`str`, *optional*): The commit they are from; `None` for a folder.
    """

    name: str
    folder: Path
    commit: str | None = None

    def has(self, file: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / file).is_file()

    def read_json(self, file: str) -> dict:
        """The object in a JSON file."""
        return json.loads((self.folder / file).read_text(encoding="utf-8"))

    def get(self, file: str) -> Path:
        """A file that is not downloaded with the others. Raises `ValueError` if there is none."""
        if self.commit is not None:
            with contextlib.suppress(EntryNotFoundError):
                hf_hub_download(self.name, file, revision=self.commit)
        if not self.has(file):
            raise ValueError(f"'{self.name}' has no {file}, which a figure of its card is of.")
        return self.folder / file

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Says `ValueError` where weights have other names or shapes than the config."""
        try:
            yield
        except RuntimeError as error:
            raise ValueError(f"The weights of '{self.name}' don't fit its configuration.") from error

    def card(self) -> str:
        """The card's text. Raises `ValueError` if there is none, or it is no text."""
        if not self.has(CARD_NAME):
            raise ValueError(f"'{self.name}' has no card (README.md), so it claims nothing.")
        try:
            return (self.folder / CARD_NAME).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"The card (README.md) of '{self.name}' is no text in UTF-8.") from error


def fetch(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> LocalCopy:
    """
    Downloads what of a model's repository is data; a folder is taken as it is.

    Args:
        name (`str`): Hub id or local folder.
        revision (`str`, *optional*): Commit, tag or branch; defaults to the main branch.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to download `.py` files, too.

    Raises:
        `ValueError`: There is no such repository or revision, a folder is given a revision, or there are no weights in
            safetensors.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"'{name}' is a folder, which has no revision '{revision}'.")
        copy = LocalCopy(name, folder.resolve())
    else:
        copy = _download(name, revision, trust_remote_code)
    if not any(copy.folder.glob("*/*.safetensors" if copy.has(PIPELINE_INDEX) else "*.safetensors")):
        raise ValueError(f"'{name}' holds no weights in safetensors, and other formats are not loaded.")
    return copy


def _download(name: str, revision: str | None, trust_remote_code: bool) -> LocalCopy:
    patterns = [*DATA, *(["*.py"] if trust_remote_code else [])]
    try:
        commit = HfApi().model_info(name, revision=revision).sha
        folder = snapshot_download(name, revision=commit, allow_patterns=patterns, ignore_patterns=NOT_THE_MODEL)
    except HFValidationError as error:
        raise ValueError(f"'{name}' is neither a folder nor a repository's name.") from error
    except (HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
            at = "" if revision is None else f" at the revision '{revision}'"
            raise ValueError(f"The Hub has no model '{name}'{at}, or none that you may read.") from error
        raise ValueError(f"The Hub can't be reached for '{name}' ({str(error).splitlines()[0]}).") from error
    return LocalCopy(name, Path(folder), commit)


def on_base(adapter: LocalCopy, folder: Path, base: str | None = None, *, trust_remote_code: bool = False) -> Path:
    """
    Copies an adapter so that it names a local copy of its base.

    Args:
        adapter ([`LocalCopy`]): The adapter.
        folder (`Path`): Where to copy it.
        base (`str`, *optional*): Hub id or local folder of its base, where that is not the recorded one.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to download the base's `.py` files, too.

    Returns:
        `Path`: The base's folder.

    Raises:
        `ValueError`: The base is not to be had.
    """
    recorded = adapter.read_json("adapter_config.json")
    name, revision = (base, None) if base else (recorded.get("base_model_name_or_path"), recorded.get("revision"))
    if not name:
        raise ValueError(f"The adapter '{adapter.name}' doesn't name its base: give it with --base_model.")
    try:
        copy = fetch(name, None if Path(name).is_dir() else revision, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise ValueError(
            f"The base '{name}' of the adapter '{adapter.name}' is not to be had: give it with --base_model ({error})"
        ) from error
    shutil.copytree(adapter.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", "checkpoint-*"))
    changed = {**recorded, "base_model_name_or_path": str(copy.folder), "revision": None}
    (folder / "adapter_config.json").write_text(json.dumps(changed), encoding="utf-8")
    return copy.folder
