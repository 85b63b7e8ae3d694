# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit[peft]"]
# ///
"""
Trains a diffusion model on images: plain, by class, from captions, of latents, for enlarging, or a LoRA adapter.

    accelerate launch recipes/train_ddpm.py
    accelerate launch recipes/train_ddpm.py --config recipes/train_ddpm/fashion_mnist.yaml
    accelerate launch recipes/train_ddpm.py --dataset_name huggan/flowers-102-categories --image_size 64 \
        --prediction_type v --weighting min_snr --bf16 true --max_steps 50000 \
        --feature_extractor facebook/dinov2-small --output_dir flowers-ddpm --push_to_hub

Without --config or --dataset_name it runs recipes/train_ddpm/digits.yaml. The output folder gets the pipeline, its card
(README.md), samples.png, noising.png, denoising.png, curves.png and results.json.
"""

import sys
import time
from functools import partial
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, DiffusionConfig, DiffusionModelArguments, DiffusionTrainer, GenkitParser
from hf_genkit.arguments import recipe_terminal
from hf_genkit.data import ImageData, load_data
from hf_genkit.hub import Result
from hf_genkit.trainers import diffusion_components, finish_run, picture_judges, with_captions
from hf_genkit.trainers.progress import show_one_line
from hf_genkit.tuning import add_lora


LIMITS = [
    "Samples show what the training data hold, with their gaps and biases.",
    "The scores compare models that were judged with the same features, images and number of samples only.",
]
ENLARGED = (
    "Distances compare enlarged images with the very ones they were reduced from: they can lie below real data's."
)


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/train_ddpm.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((DiffusionModelArguments, DataArguments, DiffusionConfig), default)
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    set_seed(args.seed)
    with PartialState().main_process_first():
        data = ImageData(load_data(**data_args.for_loading()), **data_args.image_columns())
        size = data_args.image_size
        parts = diffusion_components(model_args, data, args, size)
        if model_args.lora_rank > 0:
            base = {"base": model_args.model_name_or_path, "revision": model_args.model_revision}
            parts["model"] = add_lora(parts["model"], rank=model_args.lora_rank, **base)
        captioned = partial(with_captions, data=data, args=model_args, tokenizer=parts.get("tokenizer"))
        train = data.pictures(data.splits["train"], size, augmentation=data_args.augmentation, seed=args.seed)
        train = captioned(train, data.splits["train"])
        held_out = (data.evaluation_split, data.test_split)
        validation, test = (captioned(data.pictures(split, size), split) for split in held_out)
    trainer = DiffusionTrainer(
        args=args, train_dataset=train, eval_dataset=validation, processing_class=data.processor(size), **parts
    )
    trainer.check_run(args.resume_from_checkpoint)  # a classifier that judges may be trained first
    trainer.judge, test_judge = picture_judges(model_args, data_args, data, args, train, validation, test)
    show_one_line(trainer, "diffusion model").train(args.resume_from_checkpoint)

    trainer.judge, trainer.eval_dataset = test_judge, test  # whose images are enlarged, too
    metrics = trainer.evaluate(metric_key_prefix="test")
    results = [Result("loss", metrics["test_loss"], name="Loss")]
    if args.super_resolution_factor > 1:
        metrics |= trainer.super_resolution_psnr(min(len(test), args.num_judged_pictures))
        names = {"psnr": "PSNR of enlarged images (dB)", "psnr_bicubic": "PSNR of bicubic enlargement (dB)"}
        results += [Result(key, metrics[key], name=name) for key, name in names.items()]
    finish_run(
        trainer,
        data,
        data_args,
        results=results + trainer.results_of(metrics, "test_"),
        metrics=metrics,
        command=command,
        seconds=time.time() - start,
        captions=model_args,
        limits=LIMITS + [ENLARGED] * (args.super_resolution_factor > 1),
    )
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
