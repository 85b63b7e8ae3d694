"""
Measures again what the card of a model claims, and prints claim beside measured.

    python -m hf_genkit.verify me/model
    python -m hf_genkit.verify me/model --revision v1 --dataset_name path/to/data --json found.json

The exit status is 0 if every figure agrees, 1 if one differs, and 2 if one that the card says how to measure can't be.
"""

import argparse
import json
import sys
from pathlib import Path

import datasets
import diffusers
from transformers.utils import logging

from .checking import verify_card


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = argparse.ArgumentParser(
        prog="python -m hf_genkit.verify",
        description="Measures again what the card of a model claims; exit status 0: all agrees, 1: something differs, "
        "2: it can't be checked.",
    )
    add = found.add_argument
    add("repo", metavar="REPO", help="The model: Hub id or local folder.")
    add("--revision", help="Commit, tag or branch of the model.")
    add("--dataset_name", nargs="+", default=[], help="Hub id or local folder of the data that the card speaks of.")
    add("--base_model", help="Hub id or local folder of an adapter's base, where the recorded one is not to be had.")
    add("--feature_extractor", help="Hub id or local folder of what judged pictures, where it is not on the Hub.")
    add(
        "--tolerance",
        nargs="+",
        default=[],
        metavar="[METRIC=]DIFFERENCE",
        help="Largest difference to allow, such as accuracy=0.01 fd=2, or one number for all.",
    )
    add("--json", type=Path, metavar="FILE", help="Write what was found there, too.")
    add("--use_cpu", action="store_true", help="Leave an accelerator alone.")
    add("--trust_remote_code", action="store_true", help="Run modeling code that comes with the repository.")
    return found


def read_tolerances(texts: list[str]) -> dict[str, float]:
    """Difference by metric, or under "" for all others; `ValueError` for anything but numbers of at least 0."""
    found = {}
    for text in texts:
        metric, _, number = text.rpartition("=")
        try:
            found[metric] = float(number)
        except ValueError:
            found[metric] = -1.0
        if not 0 <= found[metric] < float("inf"):
            raise ValueError(f"`tolerance` is '{text}', but it must be a number of at least 0, or METRIC=NUMBER.")
    return found


def main(argv: list[str] | None = None) -> int:
    """
    Runs the command.

    Args:
        argv (`list[str]`, *optional*): Its words; defaults to those of the command line.

    Returns:
        `int`: The exit status.
    """
    args = parser().parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    diffusers.utils.logging.disable_progress_bar()
    try:
        if args.json is not None and not args.json.absolute().parent.is_dir():
            raise ValueError(f"There is no folder to write '{args.json}' into.")
        found = verify_card(
            args.repo,
            args.revision,
            dataset_names=args.dataset_name,
            base_model=args.base_model,
            feature_extractor=args.feature_extractor,
            tolerances=read_tolerances(args.tolerance),
            trust_remote_code=args.trust_remote_code,
            use_cpu=args.use_cpu,
        )
    except (ImportError, OSError, ValueError) as error:
        print(f"It can't be checked: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(found.text())
    if args.json is not None:
        args.json.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
    for reason, names in found.failed.items():
        print(f"It can't be checked: {', '.join(names)}: {reason}", file=sys.stderr)
    return 1 if not found.agrees else 2 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
