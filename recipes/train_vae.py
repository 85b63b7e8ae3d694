# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit"]
# ///
"""
Trains a variational autoencoder (or a VQ-VAE) on images, judges its samples and writes its card with pictures.

    accelerate launch recipes/train_vae.py
    accelerate launch recipes/train_vae.py --config recipes/train_vae/fashion_mnist.yaml
    accelerate launch recipes/train_vae.py --dataset_name huggan/flowers-102-categories --image_size 64 \
        --model_config '{"latent_dim": 64, "likelihood": "gaussian"}' --feature_extractor facebook/dinov2-small \
        --output_dir flowers-vae --push_to_hub

Without --config or --dataset_name it runs recipes/train_vae/digits.yaml. The output folder gets the model, its card
(README.md), samples.png, reconstructions.png, interpolation.png, curves.png and results.json.
"""

import sys
import time
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import DataArguments, GenerativeModelArguments, GenkitParser, VAETrainer, VAETrainingConfig
from hf_genkit.arguments import recipe_terminal
from hf_genkit.data import ImageData, load_data
from hf_genkit.hub import Result
from hf_genkit.trainers import finish_run, generative_model, picture_judges
from hf_genkit.trainers.progress import show_one_line


LIMITS = [
    "Samples show what the training data hold, with their gaps and biases, and are smoother than real images.",
    "The scores compare models that were judged with the same features, images and number of samples only.",
]


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/train_vae.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((GenerativeModelArguments, DataArguments, VAETrainingConfig), default)
    model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    set_seed(args.seed)
    with PartialState().main_process_first():
        data = ImageData(load_data(**data_args.for_loading()), **data_args.image_columns())
        size = data_args.image_size
        model = generative_model(model_args, data, ["genkit_vae", "genkit_vq_vae"], size)
        train = data.pictures(data.splits["train"], size, augmentation=data_args.augmentation, seed=args.seed)
        validation, test = data.pictures(data.evaluation_split, size), data.pictures(data.test_split, size)
    trainer = VAETrainer(
        model, args, train_dataset=train, eval_dataset=validation, processing_class=data.processor(size)
    )
    trainer.check_run(args.resume_from_checkpoint)  # a classifier that judges may be trained first
    test_judge = None
    if trainer.is_variational:  # a VQ-VAE draws no samples
        trainer.judge, test_judge = picture_judges(model_args, data_args, data, args, train, validation, test)
    show_one_line(trainer, "VAE").train(args.resume_from_checkpoint)

    trainer.judge = test_judge
    trainer.fit_prior(train)
    metrics = trainer.evaluate(test, metric_key_prefix="test")
    results = [
        Result("loss", metrics["test_loss"], name=f"Loss{' (nats per image)' if trainer.has_likelihood else ''}")
    ]
    if trainer.has_likelihood and args.likelihood_samples > 0:
        metrics |= trainer.log_likelihood(test, args.likelihood_samples)
        name = f"Negative log-likelihood (nats per image, {args.likelihood_samples} importance samples)"
        results.append(Result("nll", metrics["nll"], name=name))
    finish_run(
        trainer,
        data,
        data_args,
        results=results + trainer.results_of(metrics, "test_"),
        metrics=metrics,
        command=command,
        seconds=time.time() - start,
        limits=LIMITS,
    )
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
