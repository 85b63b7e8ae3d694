# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[bnb,onnx,peft,quantize]"]
# ///
"""
Trains a VAE, a GAN and a diffusion model with one budget, or takes models by name, judges them alike and writes a report.

    accelerate launch recipes/compare.py
    accelerate launch recipes/compare.py --dataset_name zalando-datasets/fashion_mnist --budget 10m \
        --feature_extractor facebook/dinov2-small --feature_size 56 --output_dir compared
    accelerate launch recipes/compare.py --dataset_name digits --models outputs/vae-digits outputs/gan-digits me/ddpm-digits
    accelerate launch recipes/compare.py --dataset_name beans --task image-classification \
        --models me/vit-beans me/tiny-vit-beans outputs/small outputs/small/onnx
    accelerate launch recipes/compare.py --dataset_name me/recordings --task automatic-speech-recognition \
        --models openai/whisper-tiny.en outputs/student outputs/quantized --push_to_hub --hub_space_id me/whisper-students

A budget is time in training steps (30s, 10m, 2h), optimizer steps (500steps) or training FLOPs (1e15flops), for each
model and seed. Without --config or --dataset_name it runs recipes/compare/digits.yaml. The output folder gets report.html,
report.md and report.json, results.json, the pictures, and the models of the first seed in vae/, gan/ and ddpm/ with their
cards. Runs that are done stay in its folder runs/ and are not repeated: the same command goes on where it was cut off.
--push_to_hub makes the report a static Space, which shows its page; the models stay here.
"""

import sys
from pathlib import Path

from accelerate import PartialState
from diffusers.utils import logging

from hf_genkit import GenkitParser
from hf_genkit.arguments import (
    ComparisonArguments,
    ComparisonOutputArguments,
    FineTuningDataArguments,
    recipe_command,
    recipe_terminal,
)
from hf_genkit.compare import check_report_space, compare_pictures, compare_task_models, push_report
from hf_genkit.report.public import public_text
from hf_genkit.report.writing import write_report


def main(argv: list[str]) -> None:
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((ComparisonArguments, FineTuningDataArguments, ComparisonOutputArguments), default)
    args, data_args, output = parser.parse_args_into_dataclasses(argv)
    logging.disable_progress_bar()  # of the components of each pipeline
    to_hub = {"token": output.hub_token, "private": output.hub_private_repo}
    if output.push_to_hub:
        space = check_report_space(output.hub_space_id or Path(output.output_dir).absolute().name, **to_hub)
    command = public_text(recipe_command(["recipes/compare.py", *argv]))
    compare = compare_pictures if args.task == "image-generation" else compare_task_models
    report = compare(args, data_args, output, command)
    if not PartialState().is_main_process:
        return
    page = write_report(report, output.output_dir, overwrite=True)
    print("\n".join(["", *report.summary, f"\nThe whole report is {page}."]))
    if output.push_to_hub:
        about = {"models": args.models, "datasets": [data_args.dataset_name]}
        print(f"It is at {push_report(report, output.output_dir, space, **about, **to_hub).repo_url}.")


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
