"""What is normal and what is not, for a VAE that detects anomalies, and what its scores are worth."""

from pathlib import Path

import torch

from ..arguments import AnomalyArguments, DataArguments, check_choice
from ..data import ArrayImageDataset, ImageData, build_image_dataset, load_data
from ..evaluation import AnomalyReport, anomaly_report, anomaly_threshold, save_reconstructions, worst_cases
from ..hub import Result
from ..models.vae.configuration_vae import ANOMALY_KINDS
from .claim_arguments import anomaly_arguments
from .vae_trainer import VAETrainer


WORST = 12


def anomaly_pictures(
    args: AnomalyArguments, data: ImageData, data_args: DataArguments, seed: int = 0
) -> tuple[ArrayImageDataset, ArrayImageDataset, ArrayImageDataset, ArrayImageDataset]:
    """
    The images to train on, to choose the threshold on, and to test with.

    Args:
        args ([`~hf_genkit.AnomalyArguments`]): Which classes are normal, or which other data set is not.
        data ([`~hf_genkit.data.ImageData`]): Where the normal images are.
        data_args ([`~hf_genkit.DataArguments`]): Size and augmentation of the images.
        seed (`int`, *optional*, defaults to 0): Seed of the augmentation.

    Returns:
        `tuple`: Normal images for training, for validation and for the test, and anomalies for the test.

    Raises:
        `ValueError`: There is no such score or class, the other data set has no such split, or there are too few normal
            validation images for a threshold with so few false alarms.
    """
    check_choice("anomaly_kind", args.anomaly_kind, list(ANOMALY_KINDS))
    image_size = data_args.image_size
    splits = [data.splits["train"], data.evaluation_split]
    if args.normal_classes:
        splits = [data.split_by_class(split, args.normal_classes)[0] for split in splits]
    test, anomalies = anomaly_test(args, data, image_size)
    train = data.pictures(splits[0], image_size, augmentation=data_args.augmentation, seed=seed)
    validation = data.pictures(splits[1], image_size)
    anomaly_threshold(range(len(validation)), args.target_fpr)  # refuses too few
    return train, validation, test, anomalies


def anomaly_test(
    args: AnomalyArguments, data: ImageData, image_size: int | None = None
) -> tuple[ArrayImageDataset, ArrayImageDataset]:
    """
    The images to test with: normal ones, and anomalies.

    Args:
        args ([`~hf_genkit.AnomalyArguments`]): Which classes are normal, or which other data set is not.
        data ([`~hf_genkit.data.ImageData`]): Where the normal images are.
        image_size (`int`, *optional*): Side of the images; defaults to the data's.

    Raises:
        `ValueError`: There is no such class, or the other data set has no such split.
    """
    if args.normal_classes:
        normal, anomalies = data.split_by_class(data.test_split, args.normal_classes)
        return data.pictures(normal, image_size), data.pictures(anomalies, image_size)
    other, side = other_pictures(args), data.side(image_size)
    anomalies = build_image_dataset(
        other.test_split, image_column=other.input_column, size=(side, side), crop=True, channels=data.channels
    )
    return data.pictures(data.test_split, image_size), anomalies


def other_pictures(args: AnomalyArguments) -> ImageData:
    """The other data set, whose images are the anomalies."""
    return ImageData(
        load_data(args.anomaly_dataset_name, revision=args.anomaly_revision, test_split=args.anomaly_split)
    )


def check_anomaly_score(trainer: VAETrainer, kind: str) -> None:
    """
    Refuses, before anything is trained, a score that the model won't have.

    Raises:
        `ValueError`: The likelihood is asked for, which the model doesn't bound, or the trainer makes images black and
            white, which `model.is_anomaly` would not.
    """
    if kind == "likelihood" and not trainer.has_likelihood:
        raise ValueError(
            "`anomaly_kind` is 'likelihood', which a model with sigma 'optimal' does not have: use 'elbo'."
        )
    if trainer.args.binarize != "none":
        raise ValueError(f"`binarize` is '{trainer.args.binarize}', but the threshold is for images as they are.")


def judge_anomalies(
    trainer: VAETrainer,
    args: AnomalyArguments,
    validation: ArrayImageDataset,
    test: ArrayImageDataset,
    anomalies: ArrayImageDataset,
) -> tuple[AnomalyReport, dict[str, Path]]:
    """
    Scores normal images and anomalies, gives the model its threshold, and draws what it gets most wrong.

    Args:
        trainer ([`VAETrainer`]): The trainer of the model.
        args ([`~hf_genkit.AnomalyArguments`]): Which score, and how many false alarms.
        validation, test, anomalies ([`~hf_genkit.data.ArrayImageDataset`]): From [`anomaly_pictures`].

    Returns:
        `tuple`: The report, and the pictures that the first process wrote, by name.
    """
    kind = args.anomaly_kind
    scores = [trainer.anomaly_scores(part, kind).numpy() for part in (validation, test, anomalies)]
    report = anomaly_report(*scores[1:], validation_scores=scores[0], target_fpr=args.target_fpr)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.config.anomaly_kind, model.config.anomaly_threshold = kind, report.threshold
    normal = f"the classes {', '.join(args.normal_classes)}" if args.normal_classes else "all classes"
    other = "all other classes" if args.normal_classes else Path(args.anomaly_dataset_name).name
    trainer.describe(
        method=f"{trainer.method_sentence} It saw {normal} alone; the anomalies of the test are {len(anomalies):,} images "
        f"of {other}. The score is '{kind}'; images above {report.threshold:.6g} count as anomalies, which "
        f"{args.target_fpr:.1%} of normal images to come are expected to be."
    )
    if not trainer.is_world_process_zero():
        return report, {}
    folder = Path(trainer.args.output_dir)
    files = {
        "scores": folder / "scores.png",
        "false_alarms": folder / "false_alarms.png",
        "missed": folder / "missed.png",
    }
    report.plot(files["scores"])
    for name, part, values, wrong in zip(
        ("false_alarms", "missed"), (test, anomalies), scores[1:], worst_cases(*scores[1:], WORST), strict=True
    ):
        pixels = trainer.pixel_values({"pixel_values": torch.from_numpy(part.pixels[wrong]).to(model.device)})
        titles = [f"{values[index]:.3g}" for index in wrong]
        save_reconstructions(pixels, model.reconstruct(pixels), files[name], columns=WORST, titles=titles)
    return report, files


def anomaly_results(report: AnomalyReport, args: AnomalyArguments) -> list[Result]:
    """The report as results for a card, with what measuring them again needs; the intervals are over test images."""
    stated = anomaly_arguments(args, None if args.normal_classes else other_pictures(args))
    rates = {"false_positive_rate": report.false_positive_rate, "detection_rate": report.detection_rate}
    named = {"auroc": report.auroc, **rates}
    names = {"auroc": "AUROC", "false_positive_rate": "False positives", "detection_rate": "Detected anomalies"}
    return [
        *(
            Result(key, value.mean, names[key], interval=(value.low, value.high), args=stated)
            for key, value in named.items()
        ),
        Result("average_precision", report.average_precision, "Average precision", args=stated),
    ]
