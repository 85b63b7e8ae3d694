"""The `hf-genkit` command: lists, copies and runs the recipes, checks cards against models, and writes reports."""

import argparse
import ast
import difflib
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path


LAUNCH_CONFIGS = "accelerate_configs"
NO_READER = 128 + 13
"""The exit status of a program that writes to a pipe which nobody reads any more (by SIGPIPE, which Windows lacks)."""
EXAMPLES = """examples:
  hf-genkit recipes
  hf-genkit run distill --config fashion_mnist --output_dir student
  hf-genkit run train_vae --launch_config ddp --num_processes 4 --dataset_name me/pictures
  hf-genkit copy train_vae my-recipes
  hf-genkit verify me/student
"""


def recipes_folder() -> Path:
    """Where the recipes are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def find_recipe(name: str) -> Path:
    """
    The script of a recipe.

    Args:
        name (`str`): The recipe, such as "distill".

    Raises:
        `ValueError`: There is no such recipe.
    """
    scripts = {path.stem: path for path in recipes_folder().glob("*.py")}
    if name not in scripts:
        raise ValueError(f"There is no recipe '{name}'{_nearest(name, scripts)}.")
    return scripts[name]


def find_config(folder: Path, name: str) -> Path:
    """
    A YAML file that is given by its path or, where it is one of a folder, by its name.

    Args:
        folder (`Path`): Where the named ones are, such as `recipes/distill`.
        name (`str`): A path, or a name such as "fashion_mnist".

    Raises:
        `ValueError`: It is neither.
    """
    named = {path.stem: path for path in folder.glob("*.yaml")}
    if name not in named and not Path(name).is_file():
        raise ValueError(f"There is no file '{name}', and none of that name in {folder.name}{_nearest(name, named)}.")
    return named.get(name, Path(name))


def _nearest(word: str, known: Iterable[str]) -> str:
    """As `hf_genkit.arguments.checks.nearest`, which is not to be had without importing the package."""
    matches = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else f" (there are {', '.join(sorted(known))})"


def list_recipes(args: argparse.Namespace) -> int:
    """Prints each recipe's name, what it does, and its configs."""
    lines = textwrap.TextWrapper(
        width=shutil.get_terminal_size().columns, initial_indent=" " * 4, subsequent_indent=" " * 4
    )
    for script in sorted(recipes_folder().glob("*.py")):
        summary = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))).partition("\n\n")[0]
        configs = ", ".join(sorted(path.stem for path in script.with_suffix("").glob("*.yaml")))
        print(script.stem, lines.fill(summary), lines.fill(f"Configs: {configs}"), sep="\n")
    print("\n`hf-genkit run RECIPE --help` shows a recipe's options.")
    return 0


def copy_recipe(args: argparse.Namespace) -> int:
    """Copies a recipe and its configs into a folder, as a whole or not at all."""
    script = find_recipe(args.recipe)
    folder, configs = Path(args.folder), script.with_suffix("")
    for there in (folder / script.name, folder / configs.name):
        if there.exists():
            raise ValueError(f"'{there}' exists and is not overwritten: choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".copy-") as unfinished:
        shutil.copyfile(script, Path(unfinished, script.name))
        shutil.copytree(configs, Path(unfinished, configs.name), copy_function=shutil.copyfile)
        for name in (configs.name, script.name):
            Path(unfinished, name).rename(folder / name)
    print(f"{folder / script.name} and the configs in {folder / configs.name} are yours to edit. To run them:")
    words = ["accelerate", "launch", folder / script.name, "--config", folder / configs.name / "debug.yaml"]
    print(f"    {shlex.join(map(str, words))}")
    return 0


def run_recipe(args: argparse.Namespace) -> int:
    """Runs a recipe through `accelerate launch`, and passes its exit status on."""
    script = find_recipe(args.recipe)
    args, options = _options_of_run().parse_known_args(args.options, args)
    if args.config is not None:
        options = ["--config", str(find_config(script.with_suffix(""), args.config)), *options]
    words = [str(script), *options]
    if args.num_processes is not None:
        words = ["--num_processes", str(args.num_processes), *words]
    if args.launch_config is not None:
        words = ["--config_file", str(find_config(recipes_folder() / LAUNCH_CONFIGS, args.launch_config)), *words]

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(words))
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 128 - error.returncode  # ended by a signal
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


def write_report(args: argparse.Namespace) -> int:
    """Writes the report of a run's or a comparison's output folder."""
    from .report import render_html, render_markdown, report_of_folder
    from .report import write_report as write

    report = report_of_folder(args.folder)
    if args.output is None and not args.markdown:
        print(f"The report is {write(report, args.folder, overwrite=args.overwrite)}.")
        return 0
    text = render_markdown(report) if args.markdown else render_html(report, args.folder)
    if args.output is None:
        print(text, end="")
        return 0
    output = Path(args.output)
    if output.exists() and not args.overwrite:
        raise ValueError(f"'{output}' exists: choose another file, or pass --overwrite.")
    unfinished = output.with_name(f".{output.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(output)
    print(f"The report is {output}.")
    return 0


def _options_of_run() -> argparse.ArgumentParser:
    """What `hf-genkit run` itself takes, before or after the recipe's name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", metavar="NAME|FILE", help="one of the recipe's configs, or a YAML file")
    parser.add_argument("--num_processes", type=int, metavar="N", help="how many processes accelerate starts")
    parser.add_argument(
        "--launch_config", metavar="NAME|FILE", help="accelerate's config: single, ddp, fsdp2, or a YAML file"
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "hf-genkit",
        description="Train, shrink, adapt, judge and share models on the Hugging Face stack.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version("hf-genkit"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("recipes", help="list the recipes and their configs")
    command.set_defaults(function=list_recipes)

    command = commands.add_parser("copy", help="copy a recipe and its configs, to edit them")
    command.add_argument("recipe", metavar="RECIPE")
    command.add_argument("folder", metavar="DIR")
    command.set_defaults(function=copy_recipe)

    command = commands.add_parser(
        "run",
        help="run a recipe through accelerate launch",
        parents=[_options_of_run()],
        usage="hf-genkit run RECIPE [--config NAME|FILE] [--num_processes N] [--launch_config NAME|FILE] [--option value ...]",
        allow_abbrev=False,
        description="All other options are the recipe's: `hf-genkit run RECIPE --help` shows them.",
    )
    command.add_argument("recipe", metavar="RECIPE")
    command.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    command.set_defaults(function=run_recipe)

    commands.add_parser("verify", help="measure again what a model's card claims")

    command = commands.add_parser("report", help="write the report of an output folder as one HTML page")
    command.add_argument("folder", metavar="FOLDER")
    command.add_argument("--output", metavar="FILE", help="where to; defaults to report.html in the folder")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    command.add_argument("--markdown", action="store_true", help="as Markdown, which is printed without --output")
    command.set_defaults(function=write_report)
    return parser


def main(argv: list[str] | None = None) -> int:
    """
    Runs the `hf-genkit` command.

    Args:
        argv (`list[str]`, *optional*, defaults to `sys.argv[1:]`): Its words.

    Returns:
        `int`: The exit status.
    """
    try:
        try:
            return _main(sys.argv[1:] if argv is None else argv)
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return NO_READER


def _main(argv: list[str]) -> int:
    if argv[:1] == ["verify"]:  # all other words, --help among them, are its own
        sys.argv = ["hf-genkit verify", *argv[1:]]
        runpy.run_module("hf_genkit.verify", run_name="__main__", alter_sys=True)
        return 0
    args = _parser().parse_args(argv)
    try:
        return args.function(args)
    except BrokenPipeError:
        raise
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
