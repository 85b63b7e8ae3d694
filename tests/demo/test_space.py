"""A Space: what its folder holds, that it runs by itself, and that it goes up in one commit."""

import json
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version as installed

import pytest
import yaml
from huggingface_hub import HfApi
from packaging.version import Version

from hf_genkit.demo import check_hub_names, push_space, write_space
from hf_genkit.demo import space as space_module
from hf_genkit.hub import push_folder

from .tiny_demos import grey, save_classifier, save_gan


LONG = "a text " * 50  # no name that a file could have
MODEL, TEACHER = "tester/student", "tester/teacher"


@pytest.fixture
def pushed(hub, tmp_path, monkeypatch):
    """A student and its teacher on the Hub."""
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    for seed, name in enumerate((MODEL, TEACHER)):
        push_folder(save_classifier(tmp_path / name, seed), name)
    return hub


def metadata(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_pins_gradio_and_names_the_models(tmp_path, hub):
    folder = write_space(tmp_path / "space", MODEL, TEACHER, title="Two of them")
    card = metadata((folder / "README.md").read_text())
    assert (card["sdk"], card["app_file"], card["models"]) == ("gradio", "app.py", [MODEL, TEACHER])
    assert (card["title"], card["sdk_version"]) == ("Two of them", __import__("gradio").__version__)
    assert card["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_requirements_are_pinned_to_what_runs_here_and_can_be_installed_elsewhere(tmp_path, hub):
    lines = (write_space(tmp_path / "space", MODEL) / "requirements.txt").read_text().split()
    pins = dict(line.split("==") for line in lines)
    assert {"torch", "transformers", "diffusers", "gradio", "huggingface_hub"} <= set(pins)
    assert all(Version(version).local is None for version in pins.values())  # no +cpu, which no index has
    assert not {"hf-genkit", "pytest", "peft"} & set(pins)


def put(name: str, file: str, content: dict) -> None:
    """Adds a JSON file to a model on the Hub."""
    HfApi().upload_file(path_or_fileobj=json.dumps(content).encode(), path_in_repo=file, repo_id=name)


def test_the_space_of_an_adapter_installs_peft_and_names_its_base(pushed, tmp_path):
    put(MODEL, "adapter_config.json", {"base_model_name_or_path": TEACHER})
    folder = write_space(tmp_path / "space", MODEL)
    assert "\npeft==" in (folder / "requirements.txt").read_text()
    assert metadata((folder / "README.md").read_text())["models"] == [MODEL, TEACHER]
    folder = write_space(tmp_path / "beside its base", MODEL, TEACHER)
    assert metadata((folder / "README.md").read_text())["models"] == [MODEL, TEACHER]


@pytest.mark.parametrize(("method", "package"), [("bitsandbytes", "bitsandbytes"), ("torchao", "torchao")])
@pytest.mark.parametrize("is_base", [False, True])
def test_the_space_of_a_quantized_model_installs_what_it_is_quantized_with(method, package, is_base, pushed, tmp_path):
    if is_base:
        put(MODEL, "adapter_config.json", {"base_model_name_or_path": TEACHER})
    put(TEACHER if is_base else MODEL, "config.json", {"quantization_config": {"quant_method": method}})
    lines = (write_space(tmp_path / "space", MODEL) / "requirements.txt").read_text().split()
    assert f"{package}=={Version(installed(package)).public}" in lines
    assert any(line.startswith("peft==") for line in lines) == is_base


def test_what_a_space_cannot_load_is_refused_before_anything_is_written(pushed, tmp_path):
    local = str(tmp_path / "base")
    put(MODEL, "adapter_config.json", {"base_model_name_or_path": local})
    with pytest.raises(ValueError, match=f"but the adapter '{MODEL}' belongs to '{local}' on this machine: push that"):
        write_space(tmp_path / "space", MODEL)
    put(TEACHER, "config.json", {"quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(ValueError, match=f"'{TEACHER}' is quantized by gptq, but a Space can have peft, bitsandbytes"):
        write_space(tmp_path / "space", TEACHER)
    assert not (tmp_path / "space").exists()


def test_examples_travel_along_and_texts_stay_texts(tmp_path, hub):
    grey(3).save(tmp_path / "my picture.png")
    folder = write_space(tmp_path / "space", MODEL, examples=[str(tmp_path / "my picture.png"), LONG])
    assert f"examples=['examples/0.png', '{LONG}']" in (folder / "app.py").read_text()
    assert (folder / "examples" / "0.png").read_bytes() == (tmp_path / "my picture.png").read_bytes()
    assert str(tmp_path) not in "".join(path.read_text() for path in folder.glob("*.*"))


def test_a_local_model_is_refused_and_a_full_folder_stays(tmp_path, hub):
    local = save_gan(tmp_path / "gan")
    with pytest.raises(ValueError, match=f"but '{local}' is on this machine: push it"):
        write_space(tmp_path / "space", MODEL, str(local))
    assert not (tmp_path / "space").exists()
    with pytest.raises(ValueError, match="holds files already"):
        write_space(local, MODEL)
    assert not (local / "app.py").exists()
    check_hub_names([MODEL])


def test_an_interrupted_writing_leaves_nothing(tmp_path, hub, monkeypatch):
    def fail(extras):
        raise KeyboardInterrupt

    monkeypatch.setattr(space_module, "pinned_requirements", fail)
    with pytest.raises(KeyboardInterrupt):
        write_space(tmp_path / "space", MODEL)
    assert list(tmp_path.iterdir()) == []


def test_a_space_goes_up_in_one_commit_and_again_without_what_is_gone(pushed, tmp_path):
    folder = write_space(tmp_path / "space", MODEL, TEACHER)
    push_space(folder, "demo", private=True)
    newest, _ = pushed.commits("tester/demo", repo_type="space")
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(newest.paths) == here
    assert "hf_genkit/hub/templates/model_card.jinja" in here
    assert not any("__pycache__" in path for path in here)
    assert HfApi().space_info("tester/demo").private

    (folder / "hf_genkit" / "cli.py").unlink(missing_ok=True)
    (folder / "hf_genkit" / "verify.py").unlink(missing_ok=True)
    (folder / "hf_genkit" / "demo" / "gan.py").unlink()
    (folder / "app.py").write_text("# new\n")
    push_space(folder, "tester/demo")
    files = pushed.files("tester/demo", repo_type="space")
    assert files["app.py"] == b"# new\n"
    assert "hf_genkit/demo/gan.py" not in files
    assert len(pushed.commits("tester/demo", repo_type="space")) == 3


def test_what_a_space_needs_is_asked_before_it_is_made(pushed, tmp_path):
    folder = write_space(tmp_path / "space", "tester/nobody")
    with pytest.raises(ValueError, match="there is no 'tester/nobody': push it"):
        push_space(folder, "demo")
    with pytest.raises(ValueError, match="can only read"):
        push_space(folder, "demo", token=pushed.read_token)
    assert ("space", "tester/demo") not in pushed.repositories


def test_a_push_that_breaks_off_says_that_it_can_be_repeated(pushed, tmp_path):
    folder = write_space(tmp_path / "space", MODEL)
    pushed.die_on("POST", "/commit/", times=float("inf"))
    with pytest.raises(ConnectionError, match="The push to the Space 'tester/demo' failed"):
        push_space(folder, "demo")


def test_the_folder_runs_by_itself_and_loads_its_models_from_the_hub(pushed, tmp_path):
    """In a new process, with the Space's own copy of the package, as the Hub starts it."""
    grey(200).save(tmp_path / "bright.png")
    folder = write_space(tmp_path / "space", MODEL, TEACHER, examples=[str(tmp_path / "bright.png")])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    where = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path), "HF_HOME": str(tmp_path / "home")}
    command = "import runpy, sys; sys.path.insert(0, ''); print(__import__('hf_genkit').__file__, flush=True); "
    command += "runpy.run_path('app.py', run_name='__main__')"
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-c", command], cwd=folder, env={**os.environ, **where}, stdout=log, stderr=log
    )
    try:
        client = _client(f"http://127.0.0.1:{port}", server)
        picture = {"path": str(tmp_path / "bright.png"), "meta": {"_type": "gradio.FileData"}}
        student, teacher, summary = client.predict(picture, api_name="/classify")
    finally:
        server.terminate()
        server.wait()
        log.close()
    assert {each["label"] for each in (student, teacher)} <= {"no", "yes"}
    assert "ms a pass" in summary
    assert str(folder / "hf_genkit" / "__init__.py") in (tmp_path / "log").read_text().splitlines()


def _client(address: str, server: subprocess.Popen):
    from gradio_client import Client

    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert server.poll() is None
        try:
            return Client(address, verbose=False, analytics_enabled=False)
        except Exception:  # whatever its http library raises while nobody listens yet
            time.sleep(0.5)
    raise TimeoutError(address)
