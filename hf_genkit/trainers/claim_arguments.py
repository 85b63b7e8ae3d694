"""What a card says of data and evaluation so that a figure can be measured again, and the same read back."""

import json
from dataclasses import MISSING, fields
from pathlib import Path

import datasets
import xxhash
from httpx2 import HTTPError
from huggingface_hub import HfApi
from transformers import BitsAndBytesConfig, TrainingArguments

from ..arguments import AnomalyArguments, DataArguments, DiffusionModelArguments, check_choice
from ..data import ClassificationData, ImageData, LanguageData, SpeechData
from ..data.decoding import open_image
from ..evaluation.picture_judge import NAMES
from ..hub import Claim, hub_id
from .adapters import bare, is_adapter
from .base import GenkitTrainer
from .base_config import GenkitConfig
from .diffusion_config import DiffusionConfig
from .diffusion_distillation_config import DiffusionDistillationConfig
from .gan_config import GANTrainingConfig
from .vae_config import VAETrainingConfig


PICTURES = "pictures"  # the metrics of generated pictures, which share their arguments

_DRAWING = ("num_judged_pictures", "num_inference_steps", "guidance_scale", "super_resolution_factor", "channels_last")
_LEVELS = ("weighting", "snr_gamma", "timestep_density", "edm_mean", "edm_std", "stratified_timesteps")
# Of each trainer's arguments those that the value of a metric depends on, the seed apart.
ARGUMENTS: dict[type[GenkitConfig], dict[str, tuple[str, ...]]] = {
    VAETrainingConfig: {
        "loss": ("binarize", "per_device_eval_batch_size"),
        "nll": ("binarize", "likelihood_samples", "per_device_eval_batch_size"),
        PICTURES: ("num_judged_pictures", "latent_prior"),
    },
    GANTrainingConfig: {PICTURES: ("num_judged_pictures",)},
    DiffusionConfig: {
        "loss": (*_LEVELS, "super_resolution_factor", "channels_last"),
        "psnr": _DRAWING,
        "psnr_bicubic": _DRAWING,
        PICTURES: _DRAWING,
    },
    DiffusionDistillationConfig: {PICTURES: _DRAWING},  # its loss is nothing without the teacher
}
ALWAYS = ("num_judged_pictures", "num_inference_steps", "likelihood_samples")
"""What is written even where it is the default."""

# Of the arguments of data: what has a place of its own in a card, and what changes nothing but training.
ELSEWHERE = ("dataset_name", "dataset_config", "dataset_revision")
TRAINING_ONLY = ("augmentation", "labelled_samples")
CAPTIONS = ("caption_column", "caption_template")
ANOMALIES = ("anomaly_dataset_name", "anomaly_revision", "anomaly_split", "anomaly_name", "anomaly_fingerprint")
ANOMALY_METRICS = ("auroc", "average_precision", "false_positive_rate", "detection_rate")


def kind_of(metric: str) -> str:
    """A metric's key in `ARGUMENTS`: `PICTURES` for "fd_dinov2_s" and its like."""
    return PICTURES if metric.partition("_")[0] in NAMES else metric


def dtype_argument(args: TrainingArguments) -> dict[str, str]:
    """The type that a trainer computes in, where it is not float32."""
    dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else None
    return {} if dtype is None else {"dtype": dtype}


def model_arguments(trainer: GenkitTrainer, seed: int = 0) -> dict:
    """
    What the metrics of a model of classes, language or speech depend on beside its weights.

    Args:
        trainer ([`GenkitTrainer`]): The model's.
        seed (`int`, *optional*, defaults to 0): What the masks of the test set were drawn with, where it has masks.
    """
    found = {"seed": seed} if trainer.task == "fill-mask" else {}
    model = trainer.accelerator.unwrap_model(trainer.model)
    held = getattr(bare(model).config, "quantization_config", None)
    if is_adapter(model) and isinstance(held, BitsAndBytesConfig):  # which the base was loaded with
        found["bits"] = 4 if held.load_in_4bit else 8
    return found | dtype_argument(trainer.args)


def evaluation_arguments(args: GenkitConfig, metric: str) -> dict | None:
    """
    The arguments of a trainer of a generative model that a metric's value depends on.

    Args:
        args ([`GenkitConfig`]): The trainer's.
        metric (`str`): Such as "loss" or "fd_dinov2_s".

    Returns:
        `dict` or `None`: `None` for a metric that can't be measured again with what is published.
    """
    names = ARGUMENTS.get(type(args), {}).get(kind_of(metric))
    if names is None:
        return None
    defaults = {each.name: each.default for each in fields(args)}
    values = {name: getattr(args, name) for name in names}
    kept = {name: value for name, value in values.items() if name in ALWAYS or value != defaults[name]}
    return {"seed": args.seed, **kept, **dtype_argument(args)}


def read_evaluation_arguments(config: type[GenkitConfig], claim: Claim, others: dict[str, type] | None = None) -> dict:
    """
    The arguments of a trainer as a card states them, to make its config of.

    Args:
        config (`type[GenkitConfig]`): A key of `ARGUMENTS`, or another config, of which the seed alone can be stated.
        claim ([`~hf_genkit.hub.Claim`]): The figure.
        others (`dict[str, type]`, *optional*): Names and types of what is read elsewhere.

    Raises:
        `ValueError`: An argument is unknown or of another type.
    """
    names = ("seed", *ARGUMENTS.get(config, {}).get(kind_of(claim.result.metric), ()))
    return _typed(config, claim.result.args, names, others or {}, f"argument of {claim.result.metric}")


def anomaly_arguments(args: AnomalyArguments, other: ImageData | None = None) -> dict:
    """
    Which images are anomalies: the score and its threshold are in the model's config.

    Args:
        args ([`~hf_genkit.AnomalyArguments`]): Which classes are normal, or which other data set is not.
        other ([`~hf_genkit.data.ImageData`], *optional*): That data set.
    """
    if other is None:
        return {"normal_classes": list(args.normal_classes)}
    name = args.anomaly_dataset_name
    found = {"anomaly_name": Path(name).name, "anomaly_split": args.anomaly_split}
    found["anomaly_fingerprint"] = fingerprint(other)
    if name == "digits":
        return found | {"anomaly_dataset_name": name}
    if hub_id(name) is None:
        return found
    revision = commit_of(name, args.anomaly_revision, "dataset")
    return found | {"anomaly_dataset_name": name} | ({} if revision is None else {"anomaly_revision": revision})


def read_anomaly_arguments(claim: Claim, dataset_name: str | None = None) -> AnomalyArguments:
    """
    Which images are anomalies, as a card states it.

    Args:
        claim ([`~hf_genkit.hub.Claim`]): The figure.
        dataset_name (`str`, *optional*): Anomalies to take instead of those that the card names.

    Raises:
        `ValueError`: An argument is unknown or of another type, or the card names no anomalies that can be loaded.
    """
    names = ("normal_classes", "anomaly_dataset_name", "anomaly_revision", "anomaly_split")
    others = {"anomaly_name": str, "anomaly_fingerprint": str, "dtype": str}
    values = _typed(AnomalyArguments, claim.result.args, names, others, f"argument of {claim.result.metric}")
    if values.get("normal_classes"):
        return AnomalyArguments(**values)
    if dataset_name is not None:
        return AnomalyArguments(**values | {"anomaly_dataset_name": dataset_name, "anomaly_revision": None})
    name = values.get("anomaly_dataset_name")
    if name is None or (name != "digits" and Path(name).exists()):
        raise ValueError(
            f"The anomalies are images of '{claim.result.args.get('anomaly_name')}', which is not on the Hub: name that "
            "data set with --dataset_name, too."
        )
    return AnomalyArguments(**values)


def commit_of(name: str, revision: str | None = None, repo_type: str = "model") -> str | None:
    """
    The commit that a revision of a repository on the Hub stands for now.

    Args:
        name (`str`): The repository.
        revision (`str`, *optional*): Commit, tag or branch; defaults to the main branch.
        repo_type (`str`, *optional*, defaults to `"model"`): "model" or "dataset".

    Returns:
        `str` or `None`: The revision itself where the Hub isn't reached.
    """
    try:
        return HfApi().repo_info(name, revision=revision, repo_type=repo_type).sha
    except (HTTPError, OSError):
        return revision


def data_arguments(data, data_args: DataArguments) -> dict:
    """
    How the test split of a run is read: the options of its data that bear on it and differ from their defaults, and the
    fingerprint of its samples.

    Args:
        data ([`~hf_genkit.data.ClassificationData`], [`~hf_genkit.data.LanguageData`] or [`~hf_genkit.data.SpeechData`]):
            The data.
        data_args ([`~hf_genkit.DataArguments`]): Where they came from.
    """
    found = {"dataset_name": "digits"} if data_args.dataset_name == "digits" else {}
    for each in fields(data_args):
        value = getattr(data_args, each.name)
        if each.name not in (*ELSEWHERE, *TRAINING_ONLY) and value != each.default:
            found[each.name] = value
    if data.test_split_name == "validation":
        found["eval_fraction"] = data_args.eval_fraction  # in case the split was cut
    if not _has_images(data):
        found["max_length"] = data_args.max_length
    if not isinstance(data.test_split, datasets.IterableDataset):
        found["fingerprint"] = fingerprint(data)
    return found


def caption_arguments(args: DiffusionModelArguments) -> dict[str, str]:
    """Where captions come from: their column, or the template that makes them of classes."""
    return {name: value for name in CAPTIONS if (value := getattr(args, name)) is not None}


def read_data_arguments(kind: type[DataArguments], claim: Claim, dataset_name: str | None = None) -> DataArguments:
    """
    The options of data as a card states them.

    Args:
        kind (`type[DataArguments]`): Their class.
        claim ([`~hf_genkit.hub.Claim`]): The figure.
        dataset_name (`str`, *optional*): Other data to read, see [`~hf_genkit.DataArguments`].

    Raises:
        `ValueError`: An option is unknown or of another type, or the card names no data that can be loaded.
    """
    dataset, others = claim.dataset, dict.fromkeys(("fingerprint", "dataset_name", *CAPTIONS), str) | {"classes": list}
    names = [each.name for each in fields(kind) if each.name not in (*ELSEWHERE, *TRAINING_ONLY)]
    values = _typed(kind, dataset.args, names, others, "argument of the data set")
    if dataset_name is not None:
        return kind(dataset_name=dataset_name, **values)
    if dataset.args.get("dataset_name") == "digits":
        return kind(dataset_name="digits", **values)
    if dataset.id is None or Path(dataset.id).exists():
        raise ValueError(
            f"The figures were measured on '{dataset.name}', which is not on the Hub: name that data set with "
            "--dataset_name."
        )
    return kind(dataset_name=dataset.id, dataset_config=dataset.config, dataset_revision=dataset.revision, **values)


def _typed(owner: type, stated: dict, names, others: dict[str, type], what: str) -> dict:
    """Those of the stated values that are fields of a dataclass; each is of the type of its default, others of their own."""
    defaults = {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(owner)
        if each.name in names
    }
    for name, value in stated.items():
        check_choice(what, name, sorted({*defaults, *others}))
        wanted = others.get(name)
        if wanted is None:
            default = defaults[name]
            wanted = type(default) if default is not None else int if name.startswith(("max_", "image_size")) else str
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ValueError(f"The card's {what} `{name}` is {value!r}, but it must be of the type {wanted.__name__}.")
    return {name: value for name, value in stated.items() if name not in others}


def fingerprint(data) -> str:
    """
    A 32-character hash of the samples of a test split: of their pixels, their files of audio, their texts and labels,
    whatever they are stored in.

    Args:
        data ([`~hf_genkit.data.ClassificationData`], [`~hf_genkit.data.LanguageData`] or [`~hf_genkit.data.SpeechData`]):
            The data, which don't stream.
    """
    split, columns = data.test_split.with_format(None), _columns(data)
    if isinstance(data, SpeechData):
        split = split.cast_column(data.audio_column, datasets.Audio(decode=False))
    elif _has_images(data):
        split = split.cast_column(data.input_column, datasets.Image(decode=False))
    digest = xxhash.xxh3_128()
    for index, row in enumerate(split.select_columns(columns)):
        for column in columns:
            value = _bytes(row[column], split.features[column], index, column)
            digest.update(len(value).to_bytes(8, "little"))
            digest.update(value)
    return digest.hexdigest()


def _has_images(data) -> bool:
    return isinstance(data, ClassificationData) and data.task == "image-classification"


def _columns(data) -> list[str]:
    """What of the rows makes the model's inputs and labels."""
    if isinstance(data, SpeechData):
        return [data.audio_column, data.text_column]
    if isinstance(data, LanguageData):
        return data.columns
    return [name for name in (data.input_column, data.text_pair_column, data.label_column) if name is not None]


def _bytes(value, feature, index: int, column: str) -> bytes:
    if isinstance(feature, datasets.Image):
        image = open_image(value, index, column)
        return f"{image.mode} {image.size} ".encode() + image.tobytes()
    if isinstance(feature, datasets.Audio) and value is not None:
        return Path(value["path"]).read_bytes() if value["bytes"] is None else value["bytes"]
    return json.dumps(value, sort_keys=True, default=str).encode()
