# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit"]
# ///
"""
Trains a generative adversarial network on images, judges its samples and its stability, and writes its card.

    accelerate launch recipes/train_gan.py
    accelerate launch recipes/train_gan.py --config recipes/train_gan/fashion_mnist.yaml
    accelerate launch recipes/train_gan.py --dataset_name huggan/flowers-102-categories --image_size 64 \
        --model_config '{"architecture": "r3gan"}' --loss_type relativistic --r1_gamma 1 --r2_gamma 1 \
        --feature_extractor facebook/dinov2-small --output_dir flowers-gan --push_to_hub

Without --config or --dataset_name it runs recipes/train_gan/digits.yaml. The output folder gets the model, the generator
alone in generator/, the card (README.md), samples.png, interpolation.png, stability.png and results.json.
"""

import sys
import time
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, GANTrainer, GANTrainingConfig, GenerativeModelArguments, GenkitParser
from hf_genkit.arguments import recipe_terminal
from hf_genkit.data import ImageData, load_data
from hf_genkit.trainers import finish_run, generative_model, picture_judges
from hf_genkit.trainers.progress import show_one_line


LIMITS = [
    "Samples show what the training data hold, with their gaps and biases; rare kinds of images may be missing.",
    "The scores compare models that were judged with the same features, images and number of samples only.",
]


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/train_gan.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((GenerativeModelArguments, DataArguments, GANTrainingConfig), default)
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    set_seed(args.seed)
    with PartialState().main_process_first():
        data = ImageData(load_data(**data_args.for_loading()), **data_args.image_columns())
        size = data_args.image_size
        model = generative_model(model_args, data, ["genkit_gan"], size)
        train = data.pictures(data.splits["train"], size, augmentation=data_args.augmentation, seed=args.seed)
        validation, test = data.pictures(data.evaluation_split, size), data.pictures(data.test_split, size)
    trainer = GANTrainer(
        model, args, train_dataset=train, eval_dataset=validation, processing_class=data.processor(size)
    )
    trainer.check_run(args.resume_from_checkpoint)  # a classifier that judges may be trained first
    trainer.judge, test_judge = picture_judges(model_args, data_args, data, args, train, validation, test)
    show_one_line(trainer, "GAN").train(args.resume_from_checkpoint)

    trainer.judge = test_judge
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    verdict = trainer.analyze_stability()
    if trainer.is_world_process_zero():
        model.export_generator().save_pretrained(Path(args.output_dir, "generator"))
        print(f"\n{verdict}")
    finish_run(
        trainer,
        data,
        data_args,
        results=trainer.results_of(metrics, "test_"),
        metrics={**metrics, "stability": verdict.title},
        command=command,
        seconds=time.time() - start,
        limits=LIMITS,
    )
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
