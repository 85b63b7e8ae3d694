# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-genkit"]
# ///
"""
Trains a variational autoencoder on normal images, and scores how far other images are from them.

    accelerate launch recipes/detect_anomalies.py
    accelerate launch recipes/detect_anomalies.py --config recipes/detect_anomalies/fashion_mnist.yaml
    accelerate launch recipes/detect_anomalies.py --dataset_name me/xrays --image_size 64 --normal_classes normal \
        --output_dir xray-anomalies --push_to_hub

Without --config or --dataset_name it runs recipes/detect_anomalies/digits.yaml. The threshold is chosen on normal
validation images alone and saved with the model: `model.is_anomaly(pixel_values)` uses it. The output folder gets the
model, its card (README.md), scores.png, false_alarms.png and missed.png with the worst mistakes, and results.json.
"""

import sys
import time
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_genkit import (
    AnomalyArguments,
    DataArguments,
    GenkitParser,
    VAETrainer,
    VAETrainingConfig,
)
from hf_genkit.arguments import NewModelArguments, recipe_terminal
from hf_genkit.data import ImageData, load_data
from hf_genkit.trainers import (
    anomaly_pictures,
    anomaly_results,
    check_anomaly_score,
    finish_run,
    generative_model,
    judge_anomalies,
)
from hf_genkit.trainers.progress import show_one_line


LIMITS = [
    "It was tested with the anomalies named above alone; others may look normal to it.",
    "The threshold holds for images that come from where the normal ones came from.",
]


def main(argv: list[str]) -> None:
    start, command = time.time(), ["recipes/detect_anomalies.py", *argv]
    default = Path(__file__).with_suffix("") / "digits.yaml"
    parser = GenkitParser((AnomalyArguments, NewModelArguments, DataArguments, VAETrainingConfig), default)
    anomaly_args, model_args, data_args, args = parser.parse_args_into_dataclasses(argv)
    set_seed(args.seed)
    with PartialState().main_process_first():
        data = ImageData(load_data(**data_args.for_loading()), **data_args.image_columns())
        train, validation, test, anomalies = anomaly_pictures(anomaly_args, data, data_args, args.seed)
        model = generative_model(model_args, data, ["genkit_vae"], data_args.image_size)
    processor = data.processor(data_args.image_size)
    trainer = VAETrainer(model, args, train_dataset=train, eval_dataset=validation, processing_class=processor)
    check_anomaly_score(trainer, anomaly_args.anomaly_kind)
    show_one_line(trainer, "VAE").train(args.resume_from_checkpoint)

    trainer.fit_prior(train)
    report, pictures = judge_anomalies(trainer, anomaly_args, validation, test, anomalies)
    trainer.accelerator.print(f"\n{report}")
    finish_run(
        trainer,
        data,
        data_args,
        results=anomaly_results(report, anomaly_args),
        metrics={row["Metric"]: row["Value"] for row in report.rows()} | {"threshold": report.threshold},
        command=command,
        seconds=time.time() - start,
        pictures=pictures,
        limits=LIMITS,
    )
    if args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    with recipe_terminal():
        main(sys.argv[1:])
