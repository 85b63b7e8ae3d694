# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[peft]"]
# ///
"""
Draws pictures with a diffusion pipeline, a VAE or a GAN; mends, changes or enlarges an image with a pipeline.

    python recipes/sample.py --model_name_or_path outputs/ddpm-digits --num_images 40 --guidance_scale 3
    python recipes/sample.py --model_name_or_path outputs/ddpm-digits --class_labels 3 7 --sampler dpm++ \
        --num_inference_steps 15 --dtype bfloat16
    python recipes/sample.py --model_name_or_path outputs/ddpm-digits --init_image digit.png --mask_image mask.png
    python recipes/sample.py --model_name_or_path outputs/ddpm-digits --init_image digit.png --strength 0.4
    python recipes/sample.py --model_name_or_path outputs/gan-digits --num_images 100

The output folder gets grid.png, and each picture as a PNG that is named by its seed. A mask is white where to paint anew.
"""

import sys
import time
from pathlib import Path

from diffusers import DiffusionPipeline
from PIL import Image

from hf_genkit import GenkitParser, SamplingArguments
from hf_genkit.arguments import recipe_terminal
from hf_genkit.evaluation import save_grid
from hf_genkit.evaluation.drawing import draw, load_generative_model
from hf_genkit.evaluation.features import default_device
from hf_genkit.pipelines import make_sampler, speed_up
from hf_genkit.tuning import load_lora


def main(argv: list[str]) -> None:
    (args,) = GenkitParser(SamplingArguments).parse_args_into_dataclasses(argv)
    device = default_device()
    model = load_generative_model(args.model_name_or_path, args.task)
    if isinstance(model, DiffusionPipeline):
        if args.adapter is not None:
            load_lora(model, args.adapter)
        if args.sampler is not None:
            model.scheduler = make_sampler(model.scheduler, args.sampler)
        speed_up(model, bf16=args.dtype == "bfloat16", channels_last=args.channels_last, compile=args.compile)
    start = time.time()
    pictures = draw(
        model.to(device),
        args.num_images,
        class_labels=args.class_labels,
        prompts=args.prompts,
        image=None if args.init_image is None else Image.open(args.init_image),
        mask=None if args.mask_image is None else Image.open(args.mask_image),
        seed=args.seed,
        batch_size=args.batch_size,
        guidance_scale=args.guidance_scale,
        strength=args.strength,
        num_inference_steps=args.num_inference_steps,
    )
    seconds = (time.time() - start) / args.num_images
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_grid(pictures, folder / "grid.png")
    for index, picture in enumerate(pictures):
        save_grid(picture[None], folder / f"{args.seed + index:05d}.png", scale=1, padding=0)
    print(f"{args.num_images} pictures, {seconds:.3g} s each, are in {folder}.")


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
