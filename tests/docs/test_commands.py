"""The commands of the pages, read as the programs would read them; tests/recipes runs the debug ones."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from packaging.requirements import Requirement

from hf_genkit import cli
from hf_genkit.verify.__main__ import parser as verify_parser

from ..recipes.test_configs import parse
from .pages import PAGES, REPOSITORY, commands, name


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


COMMANDS = [(page, command) for page in PAGES for command in dict.fromkeys(commands(page))]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def recipe_of(words: list[str]) -> tuple[Path, list[str]] | None:
    """The recipe that a command line starts, and the recipe's own words."""
    for number, word in enumerate(words):
        if re.fullmatch(r"recipes/\w+\.py", word):
            return REPOSITORY / word, words[number + 1 :]
    return None


def check_recipe(script: Path, words: list[str], monkeypatch) -> None:
    """Reads the options; pictures that the reader has are there."""
    assert script.is_file()
    for word in words:
        if re.fullmatch(r"[\w-]+\.(png|jinja)", word):
            Path(word).touch()
    in_checkout = [str(REPOSITORY / word) if word.startswith("recipes/") else word for word in words]
    without_gpu = ["--use_cpu", "true"] if "--bf16" in words else []  # transformers refuses bf16 where it expects one
    parse(script, [*in_checkout, *without_gpu], monkeypatch)


def check_cli(words: list[str], monkeypatch) -> None:
    if words[:1] == ["verify"]:
        verify_parser().parse_args(words[1:])
        return
    args = cli._parser().parse_args(words)
    if hasattr(args, "recipe"):
        script = cli.find_recipe(args.recipe)
    if args.function is cli.run_recipe:
        args, options = cli._options_of_run().parse_known_args(args.options, args)
        if args.launch_config is not None:
            cli.find_config(cli.recipes_folder() / cli.LAUNCH_CONFIGS, args.launch_config)
        config = [] if args.config is None else ["--config", str(cli.find_config(script.with_suffix(""), args.config))]
        check_recipe(script, [*config, *options], monkeypatch)


def check_installation(words: list[str]) -> None:
    assert (REPOSITORY / "constraints.txt").is_file()
    for word in words:
        if "[" in word:
            extras = Requirement(word.replace(".[", "hf-genkit[")).extras
            assert extras <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{name(page)}-{number}" for number, (page, _) in enumerate(COMMANDS)]
)
def test_a_command_has_only_options_that_there_are(page, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\w+", word)]
    found = recipe_of(words)
    if words[:2] == ["accelerate", "launch"]:
        launch_command_parser().parse_args(words[2:])
        check_recipe(*found, monkeypatch)
    elif words[0] == "python" and found is not None:
        check_recipe(*found, monkeypatch)
    elif words[:3] == ["python", "-m", "hf_genkit.verify"]:
        verify_parser().parse_args(words[3:])
    elif words[0] == "python":
        assert (REPOSITORY / words[1]).is_file()
    elif words[0] == "hf-genkit":
        check_cli(words[1:], monkeypatch)
    elif words[:2] == ["pip", "install"]:
        check_installation(words[2:])
    else:
        assert command in ("make docs", "pytest -n 2"), f"no check knows `{command}`"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_an_extra_that_the_text_names_exists(page):
    for extras in re.findall(r"hf-genkit\[([\w,]+)\]", page.read_text(encoding="utf-8")):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


OPTION_ROW = re.compile(r"^\| (`--[^|]+) \|", re.M)


@pytest.mark.parametrize(
    "page", sorted(p for p in PAGES if p.parent.name == "recipes" and p.stem != "index"), ids=name
)
def test_an_option_in_a_table_is_one_of_the_recipe(page, monkeypatch):
    """A renamed option would stay in the table for good."""
    from hf_genkit import GenkitParser

    seen = []
    read = GenkitParser.parse_args_into_dataclasses

    def remember(parser, args=None):
        seen.append({option for action in parser._actions for option in action.option_strings})
        return read(parser, args)

    monkeypatch.setattr(GenkitParser, "parse_args_into_dataclasses", remember)
    for config in sorted((REPOSITORY / "recipes" / page.stem).glob("*.yaml")):
        parse(REPOSITORY / "recipes" / f"{page.stem}.py", ["--config", str(config), "--output_dir", "x"], monkeypatch)
    named = {option for row in OPTION_ROW.findall(page.read_text()) for option in re.findall(r"--\w+", row)}
    assert named <= set().union(*seen)
