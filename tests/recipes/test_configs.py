"""Every YAML under recipes/, found by glob: a key that no option has, or a header without its command, fails here."""

import importlib.util
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from hf_genkit import GenkitParser


RECIPES = Path(__file__).parents[2] / "recipes"
LAUNCH = "accelerate_configs"
SCRIPTS = sorted(RECIPES.glob("*.py"))
CONFIGS = sorted(path for path in RECIPES.rglob("*.y*ml") if path.parent.name != LAUNCH)
LAUNCH_CONFIGS = sorted((RECIPES / LAUNCH).iterdir())


def relative(path: Path) -> str:
    return path.relative_to(RECIPES).as_posix()


class Parsed(Exception):
    """Ends a recipe once its options are read."""


def parse(script: Path, words: list[str], monkeypatch) -> None:
    """Reads a command line as a recipe does, and goes no further."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    read = GenkitParser.parse_args_into_dataclasses

    def and_stop(parser, args=None):
        read(parser, args)
        raise Parsed

    monkeypatch.setattr(GenkitParser, "parse_args_into_dataclasses", and_stop)
    with pytest.raises(Parsed):
        module.main(words)


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_every_recipe_has_a_debug_config(script):
    assert (RECIPES / script.stem / "debug.yaml").is_file()


@pytest.mark.parametrize("config", CONFIGS, ids=relative)
def test_a_config_belongs_to_a_recipe_and_parses(config, tmp_path, monkeypatch):
    script = config.parent.with_suffix(".py")
    assert script in SCRIPTS, f"{relative(config)} belongs to no recipe"
    parse(script, ["--config", str(config), "--output_dir", str(tmp_path)], monkeypatch)


@pytest.mark.parametrize("config", CONFIGS, ids=relative)
def test_a_config_begins_with_its_command(config):
    header = takewhile(lambda line: line.startswith("#"), config.read_text().splitlines())
    command = f"accelerate launch recipes/{config.parent.name}.py --config recipes/{relative(config)}"
    assert any(command in line for line in header)


@pytest.mark.parametrize("config", LAUNCH_CONFIGS, ids=relative)
def test_a_launch_config_has_only_keys_that_accelerate_knows(config):
    """accelerate itself refuses unknown keys at the top, and takes any below fsdp_config or deepspeed_config."""
    load_config_from_file(str(config))
    options = {action.dest for action in launch_command_parser()._actions}
    values = yaml.safe_load(config.read_text())
    nested = [key for value in values.values() if isinstance(value, dict) for key in value]
    assert set(nested) <= options
    assert f"--config_file recipes/{relative(config)}" in config.read_text()
