"""A report as a static Space on the Hub: whoever opens its address sees the page, and each push is one commit."""

import json
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import yaml
from httpx2 import HTTPError
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from ..hub import check_push_access, hub_id
from ..hub.cards import CARD_NAME
from ..hub.push import first_line
from ..report.blocks import Picture, Pictures, Report
from ..report.markdown import chart_files, render_markdown
from ..report.public import public
from .claiming import RESULTS


PAGE = "report.html"
DRAWN = (".png", ".svg")
EMBEDDED = "digits"
TEMPLATE = {".gitattributes", CARD_NAME, "index.html", "style.css"}  # of a new static Space
TAGS = ("hf_genkit", "report")


def check_report_space(space_id: str, token: str | None = None, private: bool | None = None) -> str:
    """
    Asks the Hub, before training, whether a report can be pushed afterwards.

    Args:
        space_id (`str`): `"name"` or `"namespace/name"`; the namespace defaults to the token's user.
        token (`str`, *optional*): An access token; defaults to the one of `HF_TOKEN` or `hf auth login`.
        private (`bool`, *optional*): Whether the Space shall be private.

    Returns:
        `str`: `"namespace/name"`.

    Raises:
        `ValueError`: with one sentence, as [`~hf_genkit.hub.check_push_access`]; or the Space exists and holds something
            else than a report, or is public where a private one is asked for.
    """
    space_id, api = check_push_access(space_id, token), HfApi(token=token)
    try:
        there = api.space_info(space_id)
        commits = api.list_repo_commits(space_id, repo_type="space")
        # The first commit is the Hub's own, unless the history was squashed.
        is_used = len(commits) > 1 or not {file.rfilename for file in there.siblings} <= TEMPLATE
    except RepositoryNotFoundError:
        return space_id
    except (HTTPError, OSError) as error:
        raise ValueError(
            f"The Hub doesn't tell whether there is a Space {space_id!r} ({first_line(error)})."
        ) from error
    if is_used and not set(TAGS) <= set((there.card_data or {}).get("tags") or []):
        raise ValueError(f"The Space {space_id!r} exists and is no report: choose another `hub_space_id`.")
    if private and not there.private:
        raise ValueError(f"The Space {space_id!r} exists and is public: make it private on the Hub first.")
    return space_id


def push_report(
    report: Report,
    folder: str | Path,
    space_id: str,
    *,
    models: list[str] | None = None,
    datasets: list[str] | None = None,
    token: str | None = None,
    private: bool | None = None,
) -> CommitInfo:
    """
    Makes a report a static Space, in one commit: its page, which the Space shows; the same as `README.md`, with the
    pictures as files; `report.json` and `results.json`. Models stay where they are. Pictures of an older report that
    the new one lacks are taken away.

    Args:
        report ([`~hf_genkit.report.blocks.Report`]): The report.
        folder (`str` or `Path`): Where [`~hf_genkit.report.write_report`] has written it, with its results.json.
        space_id (`str`): `"namespace/name"`; see [`check_report_space`].
        models, datasets (`list[str]`, *optional*): What it is about; those on the Hub are linked.
        token (`str`, *optional*): An access token; defaults to the one of `HF_TOKEN` or `hf auth login`.
        private (`bool`, *optional*): Whether a new Space is private; defaults to what the namespace does.

    Returns:
        `CommitInfo`

    Raises:
        `ConnectionError`: Anything goes wrong on the way; nothing local has changed.
    """
    folder, api = Path(folder), HfApi(token=token)
    results = public(json.loads((folder / RESULTS).read_text(encoding="utf-8")))
    files = {name: folder / name for name in [PAGE, "report.json", *_drawn_files(report)]} | {
        CARD_NAME: render_report_card(report, models or [], datasets or []).encode(),
        RESULTS: (json.dumps(results, indent=2) + "\n").encode(),
    }
    try:
        api.create_repo(space_id, repo_type="space", space_sdk="static", private=private, exist_ok=True)
        there = api.list_repo_files(space_id, repo_type="space")
        gone = [name for name in there if PurePosixPath(name).suffix in DRAWN and name not in files]
        return api.create_commit(
            space_id,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *map(CommitOperationDelete, gone),
            ],
            repo_type="space",
            commit_message="Report with its pictures and results",
        )
    except (HTTPError, OSError, RuntimeError) as error:
        raise ConnectionError(
            f"The push to the Space {space_id!r} failed ({first_line(error)}); nothing local has changed, and the same "
            "command pushes again."
        ) from error


def render_report_card(report: Report, models: list[str], datasets: list[str]) -> str:
    """
    The `README.md` of a report's Space: the metadata that the Hub reads, and the report as Markdown.

    Args:
        report ([`~hf_genkit.report.blocks.Report`]): The report.
        models, datasets (`list[str]`): What it is about; local folders and embedded data are left out.
    """
    linked = {"models": _on_hub(models), "datasets": _on_hub(datasets)}
    metadata = {
        "title": public(report.title),
        "emoji": "📊",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "static",
        "app_file": PAGE,
        "pinned": False,
        **{kind: names for kind, names in linked.items() if names},
        "tags": list(TAGS),
    }
    addresses = {"models": "https://huggingface.co/", "datasets": "https://huggingface.co/datasets/"}
    links = [f"- [{name}]({addresses[kind]}{name})" for kind, names in linked.items() for name in names]
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---",
        render_markdown(report, "report").rstrip(),
        *(["## Models and data", "\n".join(links)] if links else []),
        "## Files",
        f"- [{PAGE}]({PAGE}): one page with all of this, which the Space shows\n"
        f"- [{RESULTS}]({RESULTS}): every figure\n"
        "- [report.json](report.json): this report, for scripts",
        f"Written by hf_genkit {version('hf-genkit')}.",
    ]
    return "\n\n".join(parts) + "\n"


def _on_hub(names: list[str]) -> list[str]:
    return [name for name in names if name != EMBEDDED and hub_id(name) is not None]


def _drawn_files(report: Report) -> list[str]:
    """The pictures and charts that a report shows."""
    blocks = [block for section in report.sections for block in section.blocks]
    pictures = [block for block in blocks if isinstance(block, Picture)]
    pictures += [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    return list(dict.fromkeys([*(picture.path for picture in pictures), *chart_files(public(report), "report")]))
