"""Trained models as recipes leave them, each trained once, and a Hub to push them to."""

import re
from pathlib import Path

import datasets
import pytest
from huggingface_hub import HfApi

from hf_genkit.hub import push_folder
from hf_genkit.verify.__main__ import main

from ..recipes.launching import run


SENTENCES = [f"The {a} {b} sees the {c} {d}." for a in ("old", "new") for b in ("cat", "dog", "cow") for c in ("red", "wet")
             for d in ("house", "tree", "road")] * 2  # fmt: skip


def train(recipe: str, out: Path, *words: object, config: str = "debug") -> Path:
    """A recipe's debug run, or another of its configs, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        run(patch, recipe, *words, "--output_dir", out, config=config)
    return out


@pytest.fixture
def check(capsys):
    """The command: its exit status and what it printed."""

    def check(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        status = main([*map(str, words), "--use_cpu"])
        shown = capsys.readouterr()
        if status == 2:
            assert shown.err.strip().count("\n") == 0, "more than one sentence"
        return status, shown.out + shown.err if status == 2 else shown.out

    return check


@pytest.fixture
def push(hub, monkeypatch):
    """Pushes a folder as "tester/NAME"; the name comes back."""
    monkeypatch.setenv("HF_TOKEN", hub.write_token)

    def push(folder: Path, name: str, **options) -> str:
        push_folder(folder, name, **options)
        return f"tester/{name}"

    return push


@pytest.fixture
def edited(tmp_path):
    """A copy of a model's folder, where a text of one of its files is another one."""

    def edited(model: Path, old: str, new: str, file: str = "README.md") -> Path:
        folder = tmp_path / f"edited-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for path in model.iterdir():
            (folder / path.name).symlink_to(path)
        text = (model / file).read_text()
        assert old in text
        (folder / file).unlink()
        (folder / file).write_text(text.replace(old, new, 1))
        return folder

    return edited


@pytest.fixture
def edit_card(hub):
    """Changes the card of a repository on the Hub."""

    def edit_card(repo: str, pattern: str, new: str, **options) -> None:
        card = hub.files(repo)["README.md"].decode()
        edited = re.sub(pattern, new, card, count=1, flags=re.DOTALL)
        assert edited != card
        HfApi().upload_file(path_or_fileobj=edited.encode(), path_in_repo="README.md", repo_id=repo, **options)

    return edit_card


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    """A classifier of the digits."""
    return train("finetune", tmp_path_factory.mktemp("classes") / "vit")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A folder with sentences; the splits are different ones."""
    folder = tmp_path_factory.mktemp("text") / "corpus"
    rows = {"train": SENTENCES[:48], "validation": SENTENCES[48:56], "test": SENTENCES[56:]}
    splits = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in rows.items()}
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return folder
