import base64
import hashlib
import json
import math
import os
import subprocess
import sys
from functools import partial
from http.client import HTTPConnection

import httpx2
import pytest
import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from .xet import supports_local_storage


CONTENT = b"\0" + b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()

XET_SCRIPT = """
import sys
import torch
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained(sys.argv[1])
model.push_to_hub("vit")
loaded = AutoModelForImageClassification.from_pretrained("tester/vit")
assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
"""


@pytest.fixture
def api(hub, monkeypatch):
    """The client, logged in with the write token."""
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    return HfApi()


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes))


def load(repo_id="tester/vit", **kwargs):
    return AutoModelForImageClassification.from_pretrained(repo_id, **kwargs)


def send_commit(hub, key, **value):
    """A commit of one operation, sent as it is: without the client's own checks and without uploading anything."""
    lines = [{"key": "header", "value": {"summary": "add", "description": ""}}, {"key": key, "value": value}]
    return get_session().post(
        f"{hub.endpoint}/api/models/tester/model/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {hub.write_token}"},
    )


def assert_same_weights(model, other):
    torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


def count(hub, method, path_contains):
    return sum(request.method == method and path_contains in request.path for request in hub.requests)


def add(content=CONTENT, path="weights.bin"):
    return CommitOperationAdd(path, content)


def test_pushed_model_loads_with_the_same_weights_and_sends_no_token_to_the_storage(hub, api, model):
    model.push_to_hub("vit")
    assert_same_weights(load(), model)

    assert list(hub.files("tester/vit")) == [".gitattributes", "README.md", "model.safetensors", "config.json"]
    pushed, first = hub.commits("tester/vit")
    assert pushed.message == "Upload ViTForImageClassification"
    assert pushed.paths == ["README.md", "config.json", "model.safetensors"]
    assert first.paths == [".gitattributes"]
    storage = [request for request in hub.requests if request.path.startswith("/storage/")]
    assert [(r.method, r.authenticated, r.status) for r in storage] == [("PUT", False, 200), ("GET", False, 200)]


def test_xet_push_stores_no_lfs_blob_and_loads_with_the_same_weights(hub, model, tmp_path):
    if not supports_local_storage(tmp_path / "probe"):
        pytest.skip("hf_xet is missing or has no local:// storage")
    model.save_pretrained(tmp_path / "model")
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN": hub.write_token}
    subprocess.run([sys.executable, "-c", XET_SCRIPT, tmp_path / "model"], env=env, check=True)

    assert count(hub, "GET", "/xet-write-token/") >= 1
    assert count(hub, "GET", "/xet-read-token/") >= 1
    assert count(hub, "", "/storage/") == count(hub, "POST", "/lfs/") == 0
    weights = hub.commits("tester/vit")[0].files["model.safetensors"]
    assert weights.xet_hash
    assert weights.content == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert_same_weights(load(), model)  # a client without Xet gets the same file over LFS


def test_xet_upload_with_a_false_sha256_is_refused(hub, api, tmp_path):
    if not supports_local_storage(tmp_path):
        pytest.skip("hf_xet is missing or has no local:// storage")
    from hf_xet import COMPUTE_SHA256, XetSession

    api.create_repo("tester/model")
    false = hashlib.sha256(b"other").hexdigest()
    with XetSession().new_upload_commit(**hub.xet.connection) as upload:
        upload.start_upload_bytes(CONTENT, sha256=COMPUTE_SHA256)
        upload.start_upload_bytes(CONTENT[1:], sha256=false)
        upload.start_upload_bytes(CONTENT[2:], sha256=COMPUTE_SHA256)
    blob = {"path": "weights.bin", "algo": "sha256"}
    assert send_commit(hub, "lfsFile", **blob, oid=false, size=len(CONTENT) - 1).status_code == 400
    assert len(hub.commits("tester/model")) == 1
    for start in (0, 2):
        oid = hashlib.sha256(CONTENT[start:]).hexdigest()
        assert send_commit(hub, "lfsFile", **blob, oid=oid, size=len(CONTENT) - start).status_code == 200
        assert hub.files("tester/model")["weights.bin"] == CONTENT[start:]


@pytest.mark.parametrize("revision", ["commit", "branch", "tag"])
def test_pinned_revision_keeps_its_weights_after_another_push(hub, api, model, revision):
    model.push_to_hub("vit")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pinned = {"commit": hub.commits("tester/vit")[0].id, "branch": "release/1", "tag": "v1"}[revision]
    if revision == "branch":
        api.create_branch("tester/vit", branch=pinned)
    if revision == "tag":
        api.create_tag("tester/vit", tag=pinned)

    with torch.no_grad():
        model.classifier.weight.add_(1)
    model.push_to_hub("vit")

    assert_same_weights(load(), model)
    torch.testing.assert_close(dict(load(revision=pinned).state_dict()), before, rtol=0, atol=0)
    assert len(hub.files("tester/vit", pinned)) == 4


def test_push_to_a_branch_leaves_main_alone(hub, api, model):
    api.create_repo("tester/vit")
    model.push_to_hub("vit", revision="trial")
    assert list(hub.files("tester/vit")) == [".gitattributes"]
    assert_same_weights(load(revision="trial"), model)
    pushed, first = hub.commits("tester/vit", "trial")
    api.create_branch("tester/vit", branch="copy", revision="trial")
    refs = {ref.name: ref.target_commit for ref in api.list_repo_refs("tester/vit").branches}
    assert refs == {"main": first.id, "trial": pushed.id, "copy": pushed.id}


def test_names_that_exist_are_not_created_again(hub, api):
    for create in (api.create_repo, partial(api.create_branch, branch="b"), partial(api.create_tag, tag="t")):
        create("tester/model")
        before = hub.commits("tester/model")
        with pytest.raises(HfHubHTTPError, match="409"):
            create("tester/model")
        create("tester/model", exist_ok=True)
        assert hub.commits("tester/model") == before


def test_missing_repository_revision_and_file_are_told_apart(hub, api):
    api.create_repo("tester/model")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("tester/absent", "config.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("tester/model", "config.json", revision="absent")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("tester/model", "config.json")
    with pytest.raises(EntryNotFoundError):
        api.delete_file("config.json", "tester/model")


def test_only_branches_of_ones_own_repositories_can_be_written(hub, api):
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("somebody/model")
    api.create_repo("tester/model")
    api.create_tag("tester/model", tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.create_commit("tester/model", [add()], commit_message="add", revision="v1")
    assert len(hub.commits("tester/model", "v1")) == 1


def test_private_repository_is_invisible_without_a_token(hub, api, model):
    model.push_to_hub("vit", private=True)
    assert not api.repo_exists("tester/vit", token=False)
    with pytest.raises(OSError, match="not a valid model identifier"):
        load(token=False)
    assert_same_weights(load(token=hub.read_token), model)


def test_push_without_a_token_is_refused(hub, model):
    with pytest.raises(HfHubHTTPError, match="401"):
        model.push_to_hub("vit")
    with pytest.raises(LocalTokenNotFoundError):
        HfApi().whoami()
    assert hub.repositories == {}


def test_bad_token_is_refused_even_for_a_public_file(hub, api):
    api.create_repo("tester/model")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")
    with pytest.raises(HfHubHTTPError, match="401"):
        api.model_info("tester/model", token="hf_wrong")
    assert api.model_info("tester/model", token=False).sha == hub.commits("tester/model")[0].id


def test_read_only_token_reads_and_writes_nothing(hub, api, model):
    model.push_to_hub("vit")
    with pytest.raises(HfHubHTTPError, match="403"):
        model.push_to_hub("vit", token=hub.read_token)
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("tester/other", token=hub.read_token)
    with pytest.raises(HfHubHTTPError, match="403"):
        api.delete_repo("tester/vit", token=hub.read_token)
    for use, status in {"read": 200, "write": 403}.items():
        url = f"{hub.endpoint}/api/models/tester/vit/xet-{use}-token/main"
        assert get_session().get(url, headers={"Authorization": f"Bearer {hub.read_token}"}).status_code == status
    assert len(hub.commits("tester/vit")) == 2
    assert_same_weights(load(token=hub.read_token), model)


def test_stale_parent_is_refused(hub, api):
    api.create_repo("tester/model")
    first = hub.commits("tester/model")[0].id
    push = {"repo_id": "tester/model", "commit_message": "add", "parent_commit": first}
    api.create_commit(operations=[add()], **push)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(operations=[add(b"\0other")], **push)
    assert hub.files("tester/model")["weights.bin"] == CONTENT


def test_model_reloads_from_the_cache_while_the_hub_is_down(hub, api, model):
    model.push_to_hub("vit")
    load()
    hub.stop()
    try:
        assert_same_weights(load(), model)
        with pytest.raises(httpx2.ConnectError):
            api.model_info("tester/vit")
    finally:
        hub.start()
    assert_same_weights(load(force_download=True), model)


def test_commit_of_a_blob_that_was_never_uploaded_is_refused(hub, api):
    api.create_repo("tester/model")
    api.upload_file(repo_id="tester/model", path_or_fileobj=CONTENT, path_in_repo="weights.bin")
    blob = {"path": "copy.bin", "algo": "sha256", "oid": SHA256}
    assert send_commit(hub, "lfsFile", **blob, size=len(CONTENT)).status_code == 200
    assert send_commit(hub, "lfsFile", **blob, size=7).status_code == 400
    blob["oid"] = hashlib.sha256(b"absent").hexdigest()
    assert "never uploaded" in send_commit(hub, "lfsFile", **blob, size=6).text
    assert len(hub.commits("tester/model")) == 3


def test_storage_refuses_wrong_content_foreign_addresses_and_tokens(hub, api):
    api.create_repo("tester/model")
    url = hub.storage_url(hub.repositories["model", "tester/model"], SHA256)
    token = {"Authorization": f"Bearer {hub.write_token}"}
    put = get_session().put
    assert put(url, content=b"other").status_code == 400
    assert put(url, content=CONTENT, headers=token).status_code == 400
    assert put(url.split("?")[0], content=CONTENT).status_code == 400
    assert put(url, content=CONTENT).status_code == 200


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("path", ["/repos/create", "/commit/"])
def test_repeated_push_completes_one_that_the_server_died_in(hub, api, model, path, applied):
    hub.die_on("POST", path, applied=applied)
    with pytest.raises(httpx2.TransportError):
        model.push_to_hub("vit")
    assert hub.requests[-1].status is None
    commits = hub.commits("tester/vit") if hub.repositories else []
    assert len(commits) == {"/repos/create": 0, "/commit/": 1}[path] + applied

    model.push_to_hub("vit")
    assert_same_weights(load(), model)
    assert len(hub.commits("tester/vit")) == 2
    assert count(hub, "PUT", "/storage/") == 1


def test_repeated_push_completes_one_that_died_in_the_upload(hub, api, model, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.die_on("PUT", "/storage/", times=math.inf)
    with pytest.raises(RuntimeError, match=r"Error while uploading 'model\.safetensors'"):
        model.push_to_hub("vit")
    assert count(hub, "PUT", "/storage/") == 6
    assert list(hub.files("tester/vit")) == [".gitattributes"]

    hub.faults.clear()
    hub.die_on("PUT", "/storage/")
    model.push_to_hub("vit")
    assert_same_weights(load(), model)


def test_broken_download_is_resumed_where_it_stopped(hub, api, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    api.create_repo("tester/model")
    api.upload_file(repo_id="tester/model", path_or_fileobj=CONTENT, path_in_repo="weights.bin")
    hub.die_on("GET", "/storage/", applied=True)
    with open(hf_hub_download("tester/model", "weights.bin"), "rb") as file:
        assert file.read() == CONTENT
    assert [request.status for request in hub.requests if request.path.startswith("/storage/")][1:] == [None, 206]


def test_deleted_files_and_folders_stay_in_older_commits(hub, api):
    files = {"a.txt": b"a", "sub/b.txt": b"b", "sub/deep/er/c.txt": b"c"}
    api.create_repo("tester/model")
    operations = [add(content, path) for path, content in files.items()]
    api.create_commit("tester/model", operations, commit_message="add")
    tree = [entry.path for entry in api.list_repo_tree("tester/model", recursive=True)]
    assert tree == [".gitattributes", "a.txt", "sub", "sub/b.txt", "sub/deep", "sub/deep/er", "sub/deep/er/c.txt"]
    folder = [entry.path for entry in api.list_repo_tree("tester/model", "sub")]
    assert folder == ["sub/b.txt", "sub/deep"]
    info = api.get_paths_info("tester/model", ["a.txt", "sub", "absent"])
    assert [entry.path for entry in info] == ["a.txt", "sub"]
    operations = [CommitOperationDelete("a.txt"), CommitOperationDelete("sub/", is_folder=True)]
    api.create_commit("tester/model", operations, commit_message="delete")
    assert list(hub.files("tester/model")) == [".gitattributes"]
    assert files.items() <= hub.files("tester/model", hub.commits("tester/model")[1].id).items()
    assert [commit.title for commit in api.list_repo_commits("tester/model")] == ["delete", "add", "initial commit"]


def test_card_that_the_hub_would_refuse_is_refused(hub, api):
    api.create_repo("tester/model")
    for metadata in ("base_model: /tmp/teacher", "tags: vit", "license: [", "model-index:\n- results: []"):
        card = f"---\n{metadata}\n---\n# A model\n"
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.upload_file(repo_id="tester/model", path_or_fileobj=card.encode(), path_in_repo="README.md")
        content = base64.b64encode(card.encode()).decode()
        assert send_commit(hub, "file", path="README.md", content=content, encoding="base64").status_code == 400
    with pytest.raises(ValueError, match="base_model"):
        ModelCard("---\nbase_model: /tmp/teacher\n---\n").validate()

    ModelCard("---\nlibrary_name: transformers\ntags:\n- vit\n---\n# A model\n").push_to_hub("tester/model")
    info = api.model_info("tester/model")
    assert (info.library_name, info.tags, info.card_data.tags) == ("transformers", ["vit"], ["vit"])


def test_data_set_of_the_same_name_is_another_repository(hub, api):
    import datasets

    api.create_repo("tester/same")
    datasets.Dataset.from_dict({"x": [1, 2, 3]}).push_to_hub("tester/same")
    assert datasets.load_dataset("tester/same", split="train")["x"] == [1, 2, 3]
    assert list(hub.files("tester/same")) == [".gitattributes"]
    assert "data/train-00000-of-00001.parquet" in hub.files("tester/same", repo_type="dataset")
    api.delete_repo("tester/same", repo_type="dataset")
    assert list(hub.repositories) == [("model", "tester/same")]


@pytest.mark.parametrize("turn", [1, 2])
def test_hub_and_its_cache_are_empty_at_the_start_of_each_test(hub, api, turn):
    assert (hub.repositories, hub.requests, hub.faults) == ({}, [], [])
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("tester/model", "weights.bin", local_files_only=True)
    api.create_repo("tester/model")
    api.upload_file(repo_id="tester/model", path_or_fileobj=CONTENT, path_in_repo="weights.bin")
    hf_hub_download("tester/model", "weights.bin")
    hub.die_on("GET")


def test_stopped_hub_leaves_no_connection_open(hub):
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=5)
    connection.request("GET", "/api/models/tester/absent")
    assert connection.getresponse().read() == b'{"error": "Repository not found"}'
    hub.stop()
    try:
        assert connection.sock.recv(1) == b""
    finally:
        hub.start()
