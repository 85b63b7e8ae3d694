"""A VAE that detects anomalies: how well its score tells them from normal images, measured as the recipe does."""

from contextlib import suppress

from ..arguments import AnomalyArguments, DataArguments
from ..evaluation import anomaly_report
from ..hub import Claim
from ..trainers.anomaly_detection import anomaly_test, other_pictures
from ..trainers.claim_arguments import fingerprint, read_anomaly_arguments
from .data import read_data
from .pictures import read_images, trainer_of_network
from .repository import LocalCopy
from .settings import Settings


def measure_anomalies(claims: list[Claim], copy: LocalCopy, settings: Settings) -> dict[str, float]:
    """
    Measures figures of a detector of anomalies with the score and the threshold that are saved with it.

    Takes and gives what [`~hf_genkit.verify.tasks.measure_task`] does.

    Raises:
        `ValueError`: The model has no threshold, or the normal images or the anomalies are not to be had.
    """
    claim, saved = claims[0], copy.read_json("config.json")
    kind, threshold = (saved.get(name) for name in ("anomaly_kind", "anomaly_threshold"))
    if kind is None or threshold is None:
        raise ValueError(
            f"'{copy.name}' tells no anomalies: its config.json has no `anomaly_kind` and `anomaly_threshold`."
        )
    options, data = read_data(claim, DataArguments, settings.dataset_names, read_images)
    args = _anomalies(claim, settings.dataset_names)
    trainer, _ = trainer_of_network(claim, copy, settings, data, options.image_size)
    scores = [trainer.anomaly_scores(part, kind).numpy() for part in anomaly_test(args, data, options.image_size)]
    report = anomaly_report(*scores, threshold=threshold)
    rates = {"false_positive_rate": report.false_positive_rate, "detection_rate": report.detection_rate}
    found = {name: rate.mean for name, rate in {"auroc": report.auroc, **rates}.items()}
    return found | {"average_precision": report.average_precision}


def _anomalies(claim: Claim, names: list[str]) -> AnomalyArguments:
    """Which images are anomalies; another data set is known by its fingerprint."""
    wanted = claim.result.args.get("anomaly_fingerprint")
    for name in names if wanted is not None else []:
        args = read_anomaly_arguments(claim, name)
        with suppress(ValueError):  # the normal images may have no such split
            if fingerprint(other_pictures(args)) == wanted:
                return args
    args = read_anomaly_arguments(claim)
    if wanted is not None and fingerprint(other_pictures(args)) != wanted:
        raise ValueError(
            f"The images of '{args.anomaly_dataset_name}' are not the anomalies that the figures were measured on: their "
            "fingerprint is another one."
        )
    return args
