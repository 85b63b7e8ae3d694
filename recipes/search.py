# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[search]"]
# ///
"""
Searches the options of another recipe with optuna, each trial in a process and a folder of its own.

    accelerate launch recipes/search.py
    accelerate launch recipes/search.py --config recipes/search/digits.yaml --resume
    accelerate launch recipes/search.py --recipe train_vae --base_config digits --workers 2 \
        --space '{"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true},
                  "model_config.latent_dim": {"low": 4, "high": 32}}' \
        --objectives eval_loss:minimize --n_trials 30 --output_dir outputs/vae-search

Without --config it runs recipes/search/digits.yaml. The output folder gets study.db, trials/, trials.json, search.png
and best.yaml, which the recipe runs. A search that was stopped goes on with the same command and --resume.
"""

import signal
import sys
from pathlib import Path

from hf_genkit import GenkitParser
from hf_genkit.arguments import SearchArguments, recipe_command, recipe_terminal
from hf_genkit.cli import find_config, recipes_folder
from hf_genkit.tuning import Recipe, Search, SearchSpace, check_single_process, recipe_script, write_report


def main(argv: list[str]) -> None:
    parser = GenkitParser(SearchArguments, Path(__file__).with_suffix("") / "digits.yaml")
    (args,) = parser.parse_args_into_dataclasses(argv)
    check_single_process()
    script = recipe_script(args.recipe, Path(__file__).parent, recipes_folder())
    base = None if args.base_config is None else str(find_config(script.with_suffix(""), args.base_config))
    recipe = Recipe(script, base, args.options, args.launcher)
    search = Search(args, SearchSpace(args.space, recipe), {"recipe": script.name, "base": recipe.base})
    for note in search.notes():
        print(note)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    search.run(recipe.run)
    write_report(search, recipe, recipe_command(["recipes/search.py", *argv]))


if __name__ == "__main__":
    with recipe_terminal():
        try:
            main(sys.argv[1:])
        except KeyboardInterrupt:
            sys.exit("error: the search was stopped; the same command with --resume goes on with it.")
