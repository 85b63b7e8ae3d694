"""What is installed: the wheel holds the recipes and the command, and they run from there."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).parents[1]
SOURCES = ["hf_genkit", "recipes", "hf_genkit_cli.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
COMMAND = "import sys; sys.argv[0] = 'hf-genkit'; from hf_genkit_cli import main; sys.exit(main())"


def build(source: Path, what: str, out: Path) -> Path:
    """Builds a "wheel" or an "sdist" of a folder as pip does, without a network."""
    code = f"from setuptools import build_meta; build_meta.build_{what}({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = out.iterdir()
    return built


def packaged() -> dict[str, bytes]:
    """The files that an installation needs, by their path in the wheel."""
    files = {path: path.relative_to(REPOSITORY) for path in (REPOSITORY / "hf_genkit").rglob("*")}
    files |= {path: "hf_genkit" / path.relative_to(REPOSITORY) for path in (REPOSITORY / "recipes").rglob("*")}
    files[REPOSITORY / "hf_genkit_cli.py"] = Path("hf_genkit_cli.py")
    return {
        name.as_posix(): path.read_bytes()
        for path, name in files.items()
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what the wheel is made of: building leaves files behind."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def installed(sources, tmp_path_factory):
    """The wheel, unpacked."""
    wheel = build(sources, "wheel", tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def started(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=240
    )


def test_the_wheel_holds_every_file_of_the_package_and_of_the_recipes(installed):
    """Templates, YAML files and packages without an __init__.py are what builds leave out without a word."""
    found = {
        path.relative_to(installed).as_posix(): path.read_bytes()
        for path in installed.rglob("*")
        if path.is_file() and ".dist-info" not in path.parts[len(installed.parts)]
    }
    assert found == packaged()


def test_the_wheel_brings_the_command(installed):
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert entry.read_text().split() == ["[console_scripts]", "hf-genkit", "=", "hf_genkit_cli:main"]


def test_the_source_distribution_builds_the_same_wheel(sources, installed, tmp_path):
    archive = build(sources, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    with zipfile.ZipFile(build(folder, "wheel", tmp_path / "wheel")) as wheel:
        assert set(packaged()) <= set(wheel.namelist())


def test_the_installed_command_finds_its_own_recipes(installed, tmp_path):
    assert started(installed, tmp_path, "copy", "finetune", "mine").returncode == 0
    assert (tmp_path / "mine" / "finetune.py").read_bytes() == (REPOSITORY / "recipes" / "finetune.py").read_bytes()
    (installed / "hf_genkit" / "recipes" / "mine.py").write_text("import sys; print(__file__, *sys.argv[1:])")
    done = started(installed, tmp_path, "run", "--launch_config", "single", "mine", "--a", "b")
    assert done.stdout == f"{installed / 'hf_genkit' / 'recipes' / 'mine.py'} --a b\n"
    (installed / "hf_genkit" / "recipes" / "mine.py").unlink()


@pytest.mark.slow
def test_an_installed_recipe_runs_from_anywhere(installed, tmp_path):
    done = started(installed, tmp_path, "run", "distill", "--config", "debug", "--output_dir", "out")
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "out" / "results.json").is_file()
    assert "--config debug.yaml" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_a_copied_recipe_runs_from_anywhere(installed, tmp_path):
    assert started(installed, tmp_path, "copy", "train_vae", "mine").returncode == 0
    env = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    command = ["accelerate.commands.launch", "mine/train_vae.py", "--config", "mine/train_vae/debug.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--output_dir", "out"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "out" / "samples.png").is_file()
