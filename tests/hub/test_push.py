import hashlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoModelForImageClassification

from hf_genkit.hub import (
    CardFacts,
    DatasetFacts,
    Result,
    check_push_access,
    is_generated,
    push_folder,
    shareable_files,
    write_model_card,
)
from hf_genkit.hub import push as push_module

from .tiny_models import save_image_classifier
from .xet import supports_local_storage


ID = "tester/student"
PUSHED = ["README.md", "config.json", "curves.png", "model.safetensors", "preprocessor_config.json", "results.json"]


def facts(**values) -> CardFacts:
    defaults = {
        "model_name": "student",
        "task": "image-classification",
        "auto_class": "AutoModelForImageClassification",
        "dataset": DatasetFacts("digits", split="test"),
        "results": [Result("accuracy", 0.75)],
        "repo_id": ID,
        "image_mode": "L",
        "image_size": (8, 8),
        "pictures": [("curves.png", "Curves")],
    }
    return CardFacts(**defaults | values)


@pytest.fixture
def folder(tmp_path) -> Path:
    """What training leaves behind: what is to be shared, and the state of the run."""
    folder = tmp_path / "output"
    save_image_classifier(folder)
    write_model_card(folder, facts())
    (folder / "curves.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "results.json").write_text('{"accuracy": 0.75}')
    for name in (
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "model.pkl",
        "a.ckpt",
        "b.joblib",
    ):
        (folder / name).write_bytes(b"\x80\x04N.")
    for name in ("trainer_state.json", "run.json", ".hidden.json", "optimizer.safetensors", "rng_state_0.json"):
        (folder / name).write_text("{}")
    for name in ("checkpoint-7", "tmp-checkpoint-8", "teacher_cache", "runs.json"):
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"")
        (folder / name / "config.json").write_text("{}")
    return folder


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    return hub


def snapshot(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edit_card_on_hub(text: str = "# By hand\n") -> None:
    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=ID)


def test_model_card_and_pictures_go_up_in_one_commit_without_the_state_of_the_run(logged_in, folder):
    commit = push_folder(folder, "student")
    newest, first = logged_in.commits(ID)
    assert newest.id == commit.oid
    assert newest.paths == shareable_files(folder) == PUSHED
    assert first.paths == [".gitattributes"]
    assert logged_in.files(ID)["curves.png"] == (folder / "curves.png").read_bytes()


def test_pinned_revision_loads_the_weights_that_were_pushed(logged_in, folder):
    model = AutoModelForImageClassification.from_pretrained(folder)
    pinned = push_folder(folder, ID).oid
    save_image_classifier(folder)
    push_folder(folder, ID)
    loaded = AutoModelForImageClassification.from_pretrained(ID, revision=pinned)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_the_exported_form_goes_along(logged_in, folder):
    (folder / "onnx").mkdir()
    for name in ("model.onnx", "config.json", "optimizer.pt"):
        (folder / "onnx" / name).write_bytes(b"{}")
    push_folder(folder, ID)
    assert {name for name in logged_in.files(ID) if name.startswith("onnx/")} == {
        "onnx/config.json",
        "onnx/model.onnx",
    }


def test_usage_snippet_of_the_pushed_card_runs(logged_in, folder, tmp_path, monkeypatch, capsys):
    write_model_card(folder, facts(revision="trial"))
    push_folder(folder, ID, revision="trial")
    monkeypatch.chdir(tmp_path)
    card = logged_in.files(ID, "trial")["README.md"].decode()
    capsys.readouterr()
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1), {})
    assert capsys.readouterr().out.strip() in {"no", "yes"}


def test_push_to_a_branch_leaves_main_alone(logged_in, folder):
    push_folder(folder, ID, revision="trial")
    push_folder(folder, ID, revision="trial")
    assert list(logged_in.files(ID)) == [".gitattributes"]
    assert set(PUSHED) < set(logged_in.files(ID, "trial"))
    assert len(logged_in.commits(ID, "trial")) == 2


def test_private_push_is_invisible_without_a_token(logged_in, folder):
    push_folder(folder, ID, private=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info(ID, token=False)
    AutoModelForImageClassification.from_pretrained(ID)


def test_private_push_into_a_public_repository_is_refused(logged_in, folder):
    HfApi().create_repo(ID)
    with pytest.raises(ValueError, match="'tester/student' exists and is public"):
        push_folder(folder, ID, private=True)
    assert len(logged_in.commits(ID)) == 1


def test_unchanged_folder_makes_no_commit(logged_in, folder):
    assert push_folder(folder, ID).oid == push_folder(folder, ID).oid
    assert len(logged_in.commits(ID)) == 2


STEPS = {
    "creating": ("POST", "/api/repos/create"),
    "looking": ("GET", "/api/models/tester/student"),
    "upload modes": ("POST", "/preupload/"),
    "upload addresses": ("POST", "/info/lfs/objects/batch"),
    "uploading": ("PUT", "/storage/"),
    "committing": ("POST", "/commit/"),
}


@pytest.mark.parametrize("step", STEPS)
def test_push_is_repeated_without_loss_after_the_server_died(logged_in, folder, monkeypatch, step):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    method, path = STEPS[step]
    before = snapshot(folder)
    logged_in.die_on(method=method, path_contains=path, times=math.inf)
    with pytest.raises(ConnectionError, match=r"student' failed \(.+\); nothing local has changed") as caught:
        push_folder(folder, "student")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    assert snapshot(folder) == before
    assert step == "creating" or list(logged_in.files(ID)) == [".gitattributes"]

    logged_in.faults.clear()
    push_folder(folder, "student")
    assert logged_in.commits(ID)[0].paths == PUSHED
    assert len(logged_in.commits(ID)) == 2
    assert snapshot(folder) == before


def test_push_whose_answer_was_lost_is_not_made_twice(logged_in, folder):
    logged_in.die_on(method="POST", path_contains="/commit/", applied=True)
    with pytest.raises(ConnectionError, match="push again"):
        push_folder(folder, ID)
    push_folder(folder, ID)
    assert [commit.paths for commit in logged_in.commits(ID)] == [PUSHED, [".gitattributes"]]


def test_card_by_hand_on_the_hub_is_kept(logged_in, folder, caplog):
    push_folder(folder, ID)
    write_model_card(folder, facts(license="mit"))
    push_folder(folder, ID)
    assert ModelCard(logged_in.files(ID)["README.md"].decode()).data.license == "mit"

    edit_card_on_hub()
    write_model_card(folder, facts(license="apache-2.0"))
    (folder / "results.json").write_text('{"accuracy": 0.8}')
    push_folder(folder, ID)
    assert logged_in.files(ID)["README.md"] == b"# By hand\n"
    assert logged_in.commits(ID)[0].paths == ["results.json"]
    assert "edited by hand" in caplog.text


def test_card_edited_in_the_folder_replaces_a_generated_one(logged_in, folder):
    push_folder(folder, ID)
    (folder / "README.md").write_text("# By hand\n")
    push_folder(folder, ID)
    assert logged_in.files(ID)["README.md"] == b"# By hand\n"


def test_card_by_hand_is_kept_where_it_could_not_be_read(logged_in, folder, monkeypatch):
    push_folder(folder, ID)
    edit_card_on_hub()
    write_model_card(folder, facts(license="mit"))
    download = push_module.hf_hub_download

    def download_while_the_hub_is_down(*args, **kwargs):
        logged_in.stop()
        try:
            return download(*args, **kwargs)
        finally:
            logged_in.start()

    monkeypatch.setattr(push_module, "hf_hub_download", download_while_the_hub_is_down)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(ConnectionError, match="push again"):
        push_folder(folder, ID)
    assert logged_in.files(ID)["README.md"] == b"# By hand\n"


def test_card_written_by_hand_during_the_push_is_kept(logged_in, folder, monkeypatch):
    push_folder(folder, ID)
    write_model_card(folder, facts(license="mit"))
    download = push_module.hf_hub_download

    def download_and_edit(*args, **kwargs):
        path = download(*args, **kwargs)
        edit_card_on_hub()
        return path

    monkeypatch.setattr(push_module, "hf_hub_download", download_and_edit)
    with pytest.raises(ConnectionError, match="412"):
        push_folder(folder, ID)
    assert logged_in.files(ID)["README.md"] == b"# By hand\n"


@pytest.mark.parametrize("name", ["last-checkpoint/optimizer.pt", "x/pytorch_model.bin", "rng_state.pth", "optimizer"])
def test_no_pickle_is_uploaded(logged_in, folder, name):
    with pytest.raises(ValueError, match=f"'{name}' is not pushed: only .*a pickle can run code"):
        push_folder(folder, ID, extra_files={name: folder / "optimizer.pt"})
    assert not logged_in.requests


def test_extra_files_go_up_in_the_same_commit(logged_in, folder):
    extra = {"last-checkpoint/optimizer.safetensors": folder / "optimizer.safetensors"}
    push_folder(folder, ID, extra_files=extra | {"last-checkpoint/trainer_state.json": folder / "trainer_state.json"})
    assert logged_in.commits(ID)[0].paths == sorted([*PUSHED, *extra, "last-checkpoint/trainer_state.json"])


def test_no_access_token_is_uploaded(logged_in, folder):
    (folder / "results.json").write_text(f'{{"command": "train --hub_token {logged_in.write_token}"}}')
    with pytest.raises(ValueError, match=r"'results.json' is not pushed, because it contains an access token \(hf_wr"):
        push_folder(folder, ID)
    assert not logged_in.requests


def test_no_bad_card_is_uploaded(logged_in, folder, monkeypatch):
    monkeypatch.setattr("hf_genkit.hub.cards.check_model_card", lambda text: None)
    write_model_card(folder, facts(license="my own"))
    with pytest.raises(ValueError, match="license 'my own' is not an id"):
        push_folder(folder, ID)
    assert not logged_in.requests


def test_folder_without_a_model_is_refused(logged_in, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no \.safetensors file"):
        push_folder(tmp_path, ID)
    assert not logged_in.requests


CUSTOM_MODEL = """
from transformers import PreTrainedModel, PretrainedConfig
import torch

class TinyConfig(PretrainedConfig):
    model_type = "tiny-custom"

class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(2, 2)
        self.post_init()

    def forward(self, pixel_values):
        return self.head(pixel_values)
"""


def test_custom_code_goes_along(logged_in, tmp_path, monkeypatch):
    (tmp_path / "modeling_tiny.py").write_text(CUSTOM_MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    from modeling_tiny import TinyConfig, TinyModel

    TinyConfig.register_for_auto_class()
    TinyModel.register_for_auto_class("AutoModelForImageClassification")
    model = TinyModel(TinyConfig())
    model.save_pretrained(tmp_path / "output")
    push_folder(tmp_path / "output", ID)
    assert "modeling_tiny.py" in logged_in.files(ID)
    monkeypatch.delitem(sys.modules, "modeling_tiny")
    loaded = AutoModelForImageClassification.from_pretrained(ID, trust_remote_code=True)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(model.state_dict()))


def test_background_pushes_keep_their_order_and_raise_their_errors(logged_in, folder):
    future = push_folder(folder, ID, commit_message="first", run_as_future=True)
    again = push_folder(folder, ID, commit_message="second", run_as_future=True, revision="trial")
    assert (future.result().commit_message, again.result().commit_message) == ("first", "second")
    assert [commit.message for commit in logged_in.commits(ID)] == ["first", "initial commit"]
    logged_in.die_on(path_contains="/api/repos/create")
    failed = push_folder(folder, ID, run_as_future=True)
    with pytest.raises(ConnectionError, match="push again"):
        failed.result()


XET_SCRIPT = "import sys; from hf_genkit.hub import push_folder; push_folder(sys.argv[1], sys.argv[2])"


def test_xet_push_is_one_commit_too(hub, folder, tmp_path):
    if not supports_local_storage(tmp_path / "probe"):
        pytest.skip("hf_xet is missing or has no local:// storage")
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.write_token}
    subprocess.run([sys.executable, "-c", XET_SCRIPT, folder, ID], env=env, check=True)
    assert [commit.paths for commit in hub.commits(ID)] == [PUSHED, [".gitattributes"]]
    assert hub.commits(ID)[0].files["model.safetensors"].xet_hash
    assert is_generated(hub.files(ID)["README.md"].decode())


def test_access_check_completes_the_name(logged_in):
    assert check_push_access("student") == ID
    assert check_push_access(ID) == ID
    assert check_push_access("student", token=logged_in.write_token) == ID


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "bad name", "-student", "tester/", "my--student", "x" * 97, "./student"]
)
def test_invalid_name_is_refused_before_any_request(logged_in, folder, name):
    with pytest.raises(ValueError, match=f"{re.escape(repr(name))} is not valid"):
        check_push_access(name)
    with pytest.raises(ValueError, match="is not valid"):
        push_folder(folder, name)
    assert not logged_in.requests


def test_each_missing_right_has_its_own_sentence(hub, folder):
    with pytest.raises(ValueError, match="'student' needs an access token: run `hf auth login` or set HF_TOKEN"):
        check_push_access("student")
    with pytest.raises(ValueError, match="for 'student' is not valid: run `hf auth login` again"):
        check_push_access("student", token="hf_wrong")
    with pytest.raises(ValueError, match="for 'student' can only read"):
        check_push_access("student", token=hub.read_token)
    with pytest.raises(ValueError, match="can't write to 'google' of 'google/student', but to tester"):
        check_push_access("google/student", token=hub.write_token)
    hub.die_on(path_contains="whoami")
    with pytest.raises(ValueError, match=f"The Hub at {hub.endpoint} can't be reached to push 'student'"):
        check_push_access("student", token=hub.write_token)
    for token in (None, "hf_wrong", hub.read_token):
        with pytest.raises(PermissionError, match=r"can't write to 'tester/student' \(.*40[13]"):
            push_folder(folder, ID, token=token)
    assert not hub.repositories
