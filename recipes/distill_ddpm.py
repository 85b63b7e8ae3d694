# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit"]
# ///
"""
Distils a diffusion model into a student that draws in 1 to 8 steps: progressively, or by consistency.

    accelerate launch recipes/train_ddpm.py && accelerate launch recipes/distill_ddpm.py
    accelerate launch recipes/distill_ddpm.py --config recipes/distill_ddpm/fashion_mnist.yaml
    accelerate launch recipes/distill_ddpm.py --teacher_model_name_or_path me/flowers-ddpm \
        --dataset_name huggan/flowers-102-categories --image_size 64 --method consistency --max_steps 20000 \
        --learning_rate 1e-4 --feature_extractor facebook/dinov2-small --output_dir flowers-few-steps --push_to_hub

Without --config or --dataset_name it runs recipes/distill_ddpm/digits.yaml. The output folder gets the student as a
pipeline, its card (README.md), results.json with the scores of students, of the teacher and of its DPM++ in as few steps,
few_steps.png with their pictures, and in stages/ the students of more steps that came before.
"""

import sys
import time
from functools import partial
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, GenkitParser
from hf_genkit.arguments import recipe_terminal
from hf_genkit.arguments.few_step_arguments import FewStepArguments
from hf_genkit.data import ImageData, load_data
from hf_genkit.evaluation import text_table
from hf_genkit.hub import Result
from hf_genkit.trainers import finish_run, picture_judges, with_captions
from hf_genkit.trainers.diffusion_distillation_config import DiffusionDistillationConfig
from hf_genkit.trainers.diffusion_distillation_trainer import DiffusionDistillationTrainer
from hf_genkit.trainers.diffusion_models import distinct_captions
from hf_genkit.trainers.few_step_report import compare_few_steps, diffusion_teacher
from hf_genkit.trainers.progress import show_one_line
from hf_genkit.trainers.report import claim_comparison


LIMITS = [
    "What the teacher gets wrong the student has learned along.",
    "The scores compare models that were judged with the same features, images and number of samples only.",
]


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/distill_ddpm.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((FewStepArguments, DataArguments, DiffusionDistillationConfig), default)
    few_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    claim_comparison(args, few_args, data_args)
    set_seed(args.seed)
    size = data_args.image_size
    with PartialState().main_process_first():
        data = ImageData(load_data(**data_args.for_loading()), **data_args.image_columns())
        train = data.pictures(data.splits["train"], size, augmentation=data_args.augmentation, seed=args.seed)
    teacher = diffusion_teacher(few_args, data, train, args, size)
    tokenizer = teacher.components.get("tokenizer")
    captioned = partial(with_captions, data=data, args=few_args, tokenizer=tokenizer)
    held_out = (data.evaluation_split, data.test_split)
    validation, test = (captioned(data.pictures(split, size), split) for split in held_out)
    trainer = DiffusionDistillationTrainer(
        teacher,
        args,
        prompts=distinct_captions(few_args, data) if tokenizer else (),
        train_dataset=captioned(train, data.splits["train"]),
        eval_dataset=validation,
        processing_class=data.processor(size),
    )
    trainer.check_run(args.resume_from_checkpoint)  # a classifier that judges may be trained first
    trainer.judge, test_judge = picture_judges(few_args, data_args, data, args, train, validation, test)
    show_one_line(trainer, "student").train(args.resume_from_checkpoint)

    trainer.judge, trainer.eval_dataset = test_judge, test
    metrics = trainer.evaluate(metric_key_prefix="test")
    rows, found, picture = compare_few_steps(trainer, teacher, test_judge, few_args)
    shown = [
        {key: f"{cell:.4g}" if isinstance(cell, float) else str(cell) for key, cell in row.items()} for row in rows
    ]
    trainer.accelerator.print(f"\n{text_table(shown)}")
    trainer.describe(comparison=rows)
    finish_run(
        trainer,
        data,
        data_args,
        results=[Result("loss", metrics["test_loss"], name="Loss"), *trainer.results_of(metrics, "test_")],
        metrics=metrics | found,
        command=command,
        seconds=time.time() - start,
        limits=LIMITS,
        pictures={"few_steps": picture},
        captions=few_args,
    )
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
