"""Recipes as scripts of uv: the header that tells what they need, and the job that `hf jobs uv run` starts of one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from packaging.requirements import Requirement

from ..hub.xet import supports_local_storage


REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "recipes").glob("*.py"))
BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # of PEP 723 itself
# What an option of a recipe's config needs beyond the package itself.
NEEDS = {
    "peft: lora": "peft",
    "peft: qlora": "bnb",
    "8bit": "bnb",
    "prune:": "prune",
    "quantize:": "quantize",
    "export:": "onnx",
    "audio": "audio",
    "whisper": "audio",
}


def name(script: Path) -> str:
    return script.stem


def header(script: Path) -> tuple[str, Requirement]:
    """The Python versions and the only dependency of a recipe, as its header gives them."""
    blocks = [match for match in BLOCK.finditer(script.read_text()) if match["type"] == "script"]
    assert len(blocks) == 1
    python, dependency = blocks[0]["content"].splitlines()
    (requirement,) = re.fullmatch(r'# dependencies = \["([^"]+)"\]', dependency).groups()
    return re.fullmatch(r'# requires-python = "([^"]+)"', python).group(1), Requirement(requirement)


def declared(pattern: str) -> str:
    return re.search(pattern, (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE).group(1)


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_header_names_this_package_and_extras_that_it_has(script):
    """uv installs a misspelt extra with a warning alone, and the job fails an hour later."""
    python, requirement = header(script)
    assert requirement.name == declared(r'^name = "(.+)"$')
    assert python == declared(r'^requires-python = "(.+)"$')
    extras = re.findall(r"^(\w+) = \[", declared(r"(?s)\[project\.optional-dependencies\]\n(.*?)\n\["), re.MULTILINE)
    assert requirement.extras <= set(extras)


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_extras_are_enough_for_the_recipes_own_configs(script):
    texts = [path.read_text().partition("\noutput_dir")[2] for path in script.with_suffix("").glob("*.yaml")]
    needed = {extra for text in texts for words, extra in NEEDS.items() if words in text.lower()}
    assert needed <= header(script)[1].extras


def test_a_job_gets_the_recipe_and_its_config(hub, monkeypatch, tmp_path, capsys):
    """The job's uv reads the dependencies from the header of the script, so that is what has to arrive."""
    if not supports_local_storage(tmp_path):
        pytest.skip("this hf_xet has no local storage")
    script, config = REPOSITORY / "recipes" / "distill.py", REPOSITORY / "recipes" / "distill" / "debug.yaml"
    job = HfApi(token=hub.write_token).run_uv_job(
        str(script), script_args=["--config", str(config)], env={"UV_FIND_LINKS": "/wheels"}, flavor="a10g-small"
    )
    assert job.owner.name == hub.user
    (request,) = hub.jobs
    assert request["command"] == ["uv", "run", "/data/distill.py", "--config", "/data/debug.yaml"]
    assert request["environment"] == {"UV_FIND_LINKS": "/wheels"}
    (volume,) = request["volumes"]
    folder, files = volume["path"], hub.buckets[volume["source"]]
    for path in (script, config):
        content = path.read_bytes()
        assert hub.xet.read(files[f"{folder}/{path.name}"], len(content)) == content


def test_the_command_line_takes_a_recipe_without_a_network():
    """`--dry-run` reads the header as a job does, and refuses what it can't parse."""
    hf = [sys.executable, "-m", "huggingface_hub.cli.hf", "jobs", "uv", "run", "--dry-run"]
    done = subprocess.run([*hf, "recipes/distill.py"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "recipes/distill.py" in done.stdout + done.stderr
