"""Command lines, YAML files and terminals of recipes."""

import argparse
import dataclasses
import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.hf_argparser import HfArgumentParser
from transformers.utils.logging import disable_progress_bar

from .checks import nearest


class PlainLoader(yaml.SafeLoader):
    """Reads plain words as YAML 1.2 does: `5e-4` is a number, `off` and `no` are words and not booleans."""


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|false)$", re.IGNORECASE), list("tTfF"))
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


class GenkitParser(HfArgumentParser):
    """
    Reads dataclasses from the command line and, with `--config FILE.yaml`, from a YAML file.

    The YAML gives defaults and the command line wins. YAML values take the same road as the command line's, so types
    and choices are checked alike (`5e-4` is a number in both); null leaves an option at its default. An unknown key is
    an error that names the nearest known one, abbreviations are off, and a value that a dataclass refuses ends the
    program with that one sentence.

    Args:
        dataclass_types (`type` or `Iterable[type]`): The dataclasses to fill, from any number of modules.
        default_config (`Path`, *optional*): The YAML file of a command line that names neither a config nor data.
        kwargs (`dict[str, Any]`, *optional*): Passed to `argparse.ArgumentParser`.

    Example:

    ```python
    >>> from hf_genkit import DistillationConfig, GenkitParser
    >>> parser = GenkitParser(DistillationConfig)
    >>> (config,) = parser.parse_args_into_dataclasses(["--alpha", "0.9"])
    >>> config.alpha
    0.9
    ```
    """

    def __init__(self, dataclass_types, default_config: Path | None = None, **kwargs):
        self.default_config = default_config
        kwargs = {"allow_abbrev": False, "usage": "%(prog)s [--config FILE.yaml] [--option value ...]", **kwargs}
        super().__init__(dataclass_types, **kwargs)
        self.add_argument("--config", metavar="FILE.yaml", help="YAML file with defaults for any of these options.")

    def parse_args_into_dataclasses(self, args: list[str] | None = None) -> tuple:
        """
        Parses a command line.

        Args:
            args (`list[str]`, *optional*, defaults to `sys.argv[1:]`): The words of the command line.

        Returns:
            `tuple`: One instance of each dataclass, in the order they were given.
        """
        args = sys.argv[1:] if args is None else list(args)
        names_data = any(word.startswith(("--config", "--dataset_name", "--dataset-name")) for word in args)
        if self.default_config is not None and not names_data:
            args = ["--config", str(self.default_config), *args]
        config_finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config_finder.error = self.error
        config_finder.add_argument("--config")
        config_file = config_finder.parse_known_args(args)[0].config
        words_from_yaml = [] if config_file is None else self.words(self.read_config(config_file))
        namespace, unknown = self.parse_known_args(words_from_yaml + args)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0]).split("=")[0]
            options = [option for action in self._actions for option in action.option_strings]
            self.error(f"unknown option '{word}'{nearest(word, options)}.")
        values = vars(namespace)
        instances = []
        for cls in self.dataclass_types:
            names = [f.name for f in dataclasses.fields(cls) if f.init]
            try:
                instances.append(cls(**{name: values[name] for name in names}))
            except ValueError as error:
                self.error(str(error))
        return tuple(instances)

    def error(self, message: str):
        """Ends the program with one sentence: the usage line of a hundred options would hide it."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def read_config(self, path: str) -> dict[str, Any]:
        """The options that a YAML file gives, each of them known."""
        if not Path(path).is_file():
            self.error(f"the config file '{path}' does not exist.")
        try:
            values = yaml.load(Path(path).read_text(encoding="utf-8"), PlainLoader)
        except yaml.YAMLError as error:
            self.error(f"the config file '{path}' is not valid YAML: {' '.join(str(error).split())}.")
        if not isinstance(values, dict):
            self.error(f"the config file '{path}' must hold 'key: value' lines, not a {type(values).__name__}.")
        known = [action.dest for action in self._actions if action.dest not in ("help", "config")]
        for key in values:
            if key not in known:
                self.error(f"unknown key '{key}' in '{path}'{nearest(str(key), known)}.")
        return values

    def words(self, values: dict[str, Any]) -> list[str]:
        """Options as the words of a command line; one that is `None` has none."""
        words = []
        for key, value in values.items():
            if isinstance(value, list):
                words += [f"--{key}", *(json.dumps(each) if isinstance(each, dict) else str(each) for each in value)]
            elif value is not None:
                words.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
        return words


@contextmanager
def recipe_terminal() -> Iterator[None]:
    """
    Keeps a recipe's terminal readable: only downloads have bars of their own, and an error that hf_genkit, a file or
    the network raised ends the program with its sentence and the exit status 1. Other errors keep their traceback.
    """
    shows_downloads = not are_progress_bars_disabled()
    disable_progress_bar()
    if shows_downloads:
        enable_progress_bars()
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raised_in, _ = list(traceback.walk_tb(error.__traceback__))[-1]
        if not isinstance(error, OSError) and not raised_in.f_globals["__name__"].startswith("hf_genkit."):
            raise
        sys.exit(f"error: {error}")
