"""Checking before training that a push will work, choosing what may leave an output folder, and pushing it."""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import Future
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath

from httpx2 import HTTPError
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    HfApi,
    constants,
    get_token,
    hf_hub_download,
)
from huggingface_hub import (
    run_as_future as run_in_background,
)
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError
from huggingface_hub.utils import HFValidationError, validate_repo_id

from .card_rules import check_model_card, find_token
from .cards import CARD_NAME, is_generated


logger = logging.getLogger(__name__)

TEXT_SUFFIXES = frozenset({".json", ".jinja", ".md", ".py", ".txt", ".yaml", ".yml"})
SHAREABLE_SUFFIXES = TEXT_SUFFIXES | {".model", ".onnx", ".png", ".safetensors", ".svg", ".tiktoken"}
"""Formats that hold data, text or source in the open; what unpickles is never among them."""
RUN_STATE = (
    "run.json",
    "comparison.json",
    "files.json",
    "trainer_state.json",
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "scaler*",
    "training_weights*",
    "companions*",
)
PIPELINE_INDEX = "model_index.json"
ONNX_FOLDER = "onnx"
"""Where the Hub looks for the exported form of a model."""
JUDGE_FOLDER = "judge"
"""Where the classifier is whose features judged a model's pictures."""


def check_push_access(repo_id: str, token: str | None = None) -> str:
    """
    Asks the Hub, before training, whether a model can be pushed afterwards.

    Args:
        repo_id (`str`):
            `"name"` or `"namespace/name"`; the namespace defaults to the token's user.
        token (`str`, *optional*):
            An access token; defaults to the one of `HF_TOKEN` or `hf auth login`.

    Returns:
        `str`: `"namespace/name"`.

    Raises:
        `ValueError`: with one sentence, for an invalid name, no token, a token that is unknown or can only read,
            a namespace that the token's user can't write to, or a Hub that doesn't answer.
    """
    _check_repo_id(repo_id)
    token = token or get_token()
    if token is None:
        raise ValueError(f"Pushing to {repo_id!r} needs an access token: run `hf auth login` or set HF_TOKEN.")
    try:
        user = HfApi(token=token).whoami()
    except (HTTPError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
            raise ValueError(f"The access token for {repo_id!r} is not valid: run `hf auth login` again.") from error
        raise ValueError(
            f"The Hub at {constants.ENDPOINT} can't be reached to push {repo_id!r} later ({first_line(error)})."
        ) from error
    if user["auth"].get("accessToken", {}).get("role") == "read":  # OAuth logins have no such part
        raise ValueError(f"The access token for {repo_id!r} can only read: create one with the role `write`.")
    namespaces = [user["name"], *(organization["name"] for organization in user["orgs"])]
    namespace, _, name = repo_id.rpartition("/")
    if namespace and namespace not in namespaces:
        raise ValueError(
            f"The access token can't write to {namespace!r} of {repo_id!r}, but to {', '.join(namespaces)}."
        )
    return f"{namespace or user['name']}/{name}"


def shareable_files(folder: str | Path) -> list[str]:
    """
    The names of the files in an output folder that may be uploaded: weights in safetensors, configuration, tokenizer
    and processor files, the model's own `.py` files, card, pictures, results and YAML, and the same of the sub-folders
    that a pipeline of diffusers names as its components, of `onnx` and of `judge`. Other sub-folders (checkpoints, caches, logs),
    the state of the run, hidden files and everything that unpickles stay.
    """
    folder = Path(folder)
    names = [path.name for path in folder.iterdir() if path.is_file() and _is_shareable(path.name)]
    index = folder / PIPELINE_INDEX
    components = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    for component in [*components, ONNX_FOLDER, JUDGE_FOLDER]:
        files = (folder / component).iterdir() if (folder / component).is_dir() else []
        names += [f"{component}/{path.name}" for path in files if _has_shareable_format(path.name)]
    return sorted(names)


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Model, card and pictures",
    extra_files: Mapping[str, str | Path] | None = None,
    run_as_future: bool = False,
) -> CommitInfo | Future[CommitInfo]:
    """
    Uploads an output folder's [`shareable_files`] to a model repository on the Hub, in one commit.

    The repository and the branch are created where they are missing. Either all files arrive or none, and nothing
    local changes, so that an interrupted push is repeated by calling this again: what had already been uploaded is not
    sent twice, and an unchanged folder makes no new commit. A card on the Hub that a person wrote or edited is kept.

    Args:
        folder (`str` or `Path`): The output folder.
        repo_id (`str`): `"name"` or `"namespace/name"`.
        token (`str`, *optional*): An access token; defaults to the one of `HF_TOKEN` or `hf auth login`.
        private (`bool`, *optional*): Whether a new repository is private; defaults to what the namespace does.
        revision (`str`, *optional*): The branch, defaults to the main one; a new branch starts from the main one.
        commit_message (`str`, defaults to `"Model, card and pictures"`): The commit's first line.
        extra_files (`Mapping[str, str | Path]`, *optional*):
            More files, from path in the repository to local path, such as those from which training resumes.
        run_as_future (`bool`, defaults to `False`):
            Whether to push in the background, one push after the other. The files must not change until it is done.

    Returns:
        `CommitInfo`, or a `Future` of it.

    Raises:
        `ValueError`: for an invalid name, a folder without weights, an extra file that unpickles, an access token
            in a file, a generated card that breaks a rule of [`check_model_card`], or, from the future if there is
            one, a public repository where a private one is asked for.
        `PermissionError`: if there is no access token or it can't write to the repository.
        `ConnectionError`: if anything else goes wrong on the way; its `__cause__` is the client's own error.
    """
    _check_repo_id(repo_id)
    files = _collect(Path(folder), extra_files or {})
    push = partial(_push, files, repo_id, HfApi(token=token), private, revision, commit_message)
    return run_in_background(push) if run_as_future else push()


def _collect(folder: Path, extra_files: Mapping[str, str | Path]) -> dict[str, Path]:
    """Local path by path in the repository, after every check that needs no network."""
    names = shareable_files(folder)
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"There is nothing to push in {folder}: it holds no .safetensors file.")
    for name in extra_files:
        if PurePosixPath(name).suffix not in SHAREABLE_SUFFIXES:
            raise ValueError(
                f"The extra file {name!r} is not pushed: only {', '.join(sorted(SHAREABLE_SUFFIXES))} files are,"
                " because loading a pickle can run code."
            )
    files = {name: folder / name for name in names} | {name: Path(path) for name, path in extra_files.items()}
    texts = {
        name: path.read_text(encoding="utf-8", errors="replace")
        for name, path in files.items()
        if path.suffix in TEXT_SUFFIXES
    }
    for name, text in texts.items():
        if token := find_token(text):
            raise ValueError(f"The file {name!r} is not pushed, because it contains an access token ({token}).")
    if CARD_NAME in texts and is_generated(texts[CARD_NAME]):
        check_model_card(texts[CARD_NAME])
    return files


def _push(
    files: dict[str, Path],
    repo_id: str,
    api: HfApi,
    private: bool | None,
    revision: str | None,
    commit_message: str,
) -> CommitInfo:
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        remote = api.model_info(repo_id, revision=revision)
        if private and not remote.private:
            raise ValueError(f"The repository {repo_id!r} exists and is public: make it private on the Hub first.")
        if CARD_NAME in files and not _may_replace_card(repo_id, remote.sha, api):
            logger.warning(
                "The card of %s on the Hub was written or edited by hand: it is kept; `hf upload %s %s` replaces it.",
                repo_id,
                repo_id,
                files[CARD_NAME],
            )
            files = {name: path for name, path in files.items() if name != CARD_NAME}
        return api.create_commit(
            repo_id,
            [CommitOperationAdd(name, path) for name, path in files.items()],
            commit_message=commit_message,
            revision=revision,
            parent_commit=remote.sha,
        )
    except (HTTPError, OSError, RuntimeError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise PermissionError(f"The access token can't write to {repo_id!r} ({first_line(error)}).") from error
        raise ConnectionError(
            f"The push to {repo_id!r} failed ({first_line(error)}); nothing local has changed, push again."
        ) from error


def _may_replace_card(repo_id: str, sha: str, api: HfApi) -> bool:
    """Whether the Hub has no card at this commit, or one that nobody has touched since it was generated."""
    try:
        remote_card = hf_hub_download(repo_id, CARD_NAME, revision=sha, token=api.token, endpoint=api.endpoint)
    except RemoteEntryNotFoundError:
        return True
    return is_generated(Path(remote_card).read_text(encoding="utf-8", errors="replace"))


def _is_shareable(name: str) -> bool:
    return _has_shareable_format(name) and not any(fnmatch(name, pattern) for pattern in RUN_STATE)


def _has_shareable_format(name: str) -> bool:
    return PurePosixPath(name).suffix in SHAREABLE_SUFFIXES and not name.startswith(".")


def _check_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"The repository name {repo_id!r} is not valid: use letters, digits, '-', '_' and '.', at most 96, as"
            " 'name' or 'namespace/name'."
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, for a sentence that goes on behind it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
