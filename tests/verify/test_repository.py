"""What is fetched of a repository: data, and never what runs or unpickles."""

import subprocess
import sys

import pytest
from huggingface_hub import HfApi

from hf_genkit.verify.repository import fetch


def test_nothing_that_runs_or_unpickles_is_downloaded(hub, push, classifier):
    repo = push(classifier, "vit")
    for name in ("pytorch_model.bin", "modeling_vit.py", "training_args.bin", "weights.pkl"):
        HfApi().upload_file(path_or_fileobj=b"\x80\x04N.", path_in_repo=name, repo_id=repo)
    copy = fetch(repo)
    assert {"README.md", "config.json", "model.safetensors"} <= {path.name for path in copy.folder.iterdir()}
    assert {path.suffix for path in copy.folder.iterdir()} <= {".md", ".json", ".safetensors"}
    assert copy.commit == hub.commits(repo)[0].id
    assert (fetch(repo, trust_remote_code=True).folder / "modeling_vit.py").is_file()


def test_weights_in_other_formats_are_refused(hub, push, classifier):
    repo = push(classifier, "vit")
    HfApi().delete_file("model.safetensors", repo_id=repo)
    HfApi().upload_file(path_or_fileobj=b"\x80\x04N.", path_in_repo="pytorch_model.bin", repo_id=repo)
    with pytest.raises(ValueError, match="'tester/vit' holds no weights in safetensors"):
        fetch(repo)


def test_a_hub_that_is_away_is_said(hub):
    hub.stop()
    try:
        with pytest.raises(ValueError, match="The Hub can't be reached for 'tester/vit'"):
            fetch("tester/vit")
    finally:
        hub.start()
    with pytest.raises(ValueError, match="'a/b/c' is neither a folder nor a repository's name"):
        fetch("a/b/c")


def test_the_command_runs_as_a_module(classifier):
    command = [sys.executable, "-m", "hf_genkit.verify", classifier, "--use_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Every figure agrees." in done.stdout
