"""The command of a recipe as a card or a report gives it: one that others can type."""

import shlex
from pathlib import Path


PACKAGE = Path(__file__).parents[1]


def recipe_command(words: list[str]) -> str:
    """
    The command that runs a recipe again. A config that came with the recipes is given as it is found elsewhere, wherever
    it lay when the recipe ran.

    Args:
        words (`list[str]`): The recipe as in a checkout, such as `"recipes/distill.py"`, and the options it was given.

    Returns:
        `str`: `accelerate launch recipes/distill.py --config recipes/distill/digits.yaml` in a checkout, and
            `hf-genkit run distill --config digits` where the package is installed.
    """
    script, installed = Path(words[0]), PACKAGE / "recipes"
    folder = installed if installed.is_dir() else PACKAGE.with_name("recipes")
    options = []
    for word in words[1:]:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if value.endswith(".yaml") and Path(value).resolve().parent == (folder / script.stem).resolve():
            value = (
                Path(value).stem if folder == installed else Path(script.with_suffix(""), Path(value).name).as_posix()
            )
        options.append(f"{option}{equals}{value}")
    start = ["hf-genkit", "run", script.stem] if folder == installed else ["accelerate", "launch", script.as_posix()]
    return shlex.join([*start, *options])
