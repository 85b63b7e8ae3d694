"""Models that make pictures: losses, likelihoods and the metrics of generated pictures, measured as the recipes do."""

from functools import partial
from pathlib import Path

from transformers import PrinterCallback

from ..arguments import DataArguments, DiffusionModelArguments, NewModelArguments
from ..data import ImageData, load_data
from ..evaluation import FeatureExtractor, PictureJudge
from ..hub import Claim, hub_id
from ..hub.push import JUDGE_FOLDER, PIPELINE_INDEX
from ..trainers import diffusion_components, generative_model, with_captions
from ..trainers.claim_arguments import ANOMALIES, CAPTIONS, PICTURES, kind_of, read_evaluation_arguments
from ..trainers.diffusion_config import DiffusionConfig
from ..trainers.diffusion_trainer import DiffusionTrainer
from ..trainers.gan_config import GANTrainingConfig
from ..trainers.gan_trainer import GANTrainer
from ..trainers.vae_config import VAETrainingConfig
from ..trainers.vae_trainer import VAETrainer
from ..tuning.lora import import_peft
from .data import read_data
from .repository import LocalCopy, fetch, on_base
from .settings import Settings


ADAPTER = "adapter_config.json"
MODELS = {
    "genkit_vae": (VAETrainer, VAETrainingConfig),
    "genkit_vq_vae": (VAETrainer, VAETrainingConfig),
    "genkit_gan": (GANTrainer, GANTrainingConfig),
}
OWN = {
    "dtype": str,
    "extractor": str,
    "extractor_name": str,
    "extractor_revision": str,
    "extractor_size": int,
    "extractor_folder": str,
    "extractor_fingerprint": str,
    "normal_classes": list,
    **dict.fromkeys(ANOMALIES, str),
}
"""Arguments of figures that are read here, not by the trainer's config."""


class PublishedTrainer(DiffusionTrainer):
    """A [`DiffusionTrainer`] that draws with the very scheduler that its pipeline came with."""

    def sampler(self):
        return self.noise_scheduler


def measure_pictures(claims: list[Claim], copy: LocalCopy, settings: Settings) -> dict[str, float]:
    """
    Measures figures of a VAE, a GAN, a diffusion model or a few-step student of one.

    Takes and gives what [`~hf_genkit.verify.tasks.measure_task`] does.

    Raises:
        `ValueError`: The model, the data or what judges pictures are not to be had, or they don't belong together.
    """
    claim = claims[0]
    options, data = read_data(claim, DataArguments, settings.dataset_names, read_images)
    is_diffusion = copy.has(PIPELINE_INDEX) or copy.has(ADAPTER)
    build = _diffusion if is_diffusion else trainer_of_network
    trainer, test = build(claim, copy, settings, data, options.image_size)
    trainer.remove_callback(PrinterCallback)
    args, slug = claim.result.args, ""
    if kind_of(claim.result.metric) == PICTURES:
        extractor = _extractor(args, copy, settings)
        trainer.judge, slug = PictureJudge(extractor, test), extractor.slug
    trainer.eval_dataset = test  # whose images are enlarged, too
    found = {name.removeprefix("test_"): value for name, value in _evaluate(trainer, claim, test).items()}
    if trainer.judge is not None:  # the card's extractor may go by another name
        short = {each.result.metric: each.result.metric.partition("_")[0] for each in claims}
        found |= {metric: found[f"{name}_{slug}"] for metric, name in short.items() if f"{name}_{slug}" in found}
    return found


def _evaluate(trainer, claim: Claim, test) -> dict[str, float]:
    metric = claim.result.metric
    if metric == "nll":
        return trainer.log_likelihood(test, trainer.args.likelihood_samples)
    if metric.startswith("psnr"):
        return trainer.super_resolution_psnr(min(len(test), trainer.args.num_judged_pictures))
    return trainer.evaluate(test, metric_key_prefix="test")


def read_images(options: DataArguments) -> ImageData:
    """The images of a data set."""
    return ImageData(load_data(**options.for_loading()), **options.image_columns())


def trainer_of_network(claim, copy, settings, data, image_size):
    """The trainer of a VAE or a GAN, and the test set."""
    with copy.loading():
        model = generative_model(NewModelArguments(str(copy.folder)), data, list(MODELS), image_size)
    trainer_class, config_class = MODELS[model.config.model_type]
    stated = read_evaluation_arguments(config_class, claim, OWN)
    config = config_class(**{**settings.trainer_options(claim.result.args), **stated})
    trainer = trainer_class(model, config, processing_class=data.processor(image_size))
    if "latent_prior" in stated:
        trainer.prior = stated["latent_prior"]  # which was fitted in training, and saved
    return trainer, data.pictures(data.test_split, image_size)


def _diffusion(claim, copy, settings, data, image_size):
    """The trainer of a diffusion model, a few-step student or an adapter of one, and the test set."""
    folder, base = copy.folder, None
    if copy.has(ADAPTER):
        folder = settings.folder / "adapter"
        base = on_base(copy, folder, settings.base_model)
    captions = {name: claim.dataset.args[name] for name in CAPTIONS if name in claim.dataset.args}
    models = DiffusionModelArguments(model_name_or_path=str(base or folder), **captions)
    stated = read_evaluation_arguments(DiffusionConfig, claim, OWN)
    config = DiffusionConfig(**{**settings.trainer_options(claim.result.args), "ema_decay": 0, **stated})
    with copy.loading():
        parts = diffusion_components(models, data, config, image_size)
    if base is not None:
        parts["model"] = import_peft().PeftModel.from_pretrained(parts["model"], str(folder), is_trainable=True)
    trainer = PublishedTrainer(args=config, processing_class=data.processor(image_size), **parts)
    split = data.test_split
    captioned = partial(with_captions, data=data, args=models, tokenizer=parts.get("tokenizer"))
    return trainer, captioned(data.pictures(split, image_size), split)


def _extractor(args: dict, copy: LocalCopy, settings: Settings) -> FeatureExtractor:
    """What judged the pictures: one of the Hub, the one beside the model, or the one that the user has."""
    name, size, wanted = args.get("extractor_name"), args.get("extractor_size"), args.get("extractor_fingerprint")
    if settings.feature_extractor is not None:
        folder = fetch(settings.feature_extractor).folder
    elif args.get("extractor_folder") == JUDGE_FOLDER:
        folder = fetch(str(copy.folder / JUDGE_FOLDER)).folder
    elif hub_id(args.get("extractor")) is not None:
        folder = fetch(args["extractor"], args.get("extractor_revision")).folder
    else:
        raise ValueError(
            f"The pictures were judged with features of '{name}', which is not on the Hub: give it with "
            "--feature_extractor."
        )
    extractor = FeatureExtractor(str(folder), name=name or Path(folder).name, size=size)
    if settings.feature_extractor is not None and wanted is not None and extractor.fingerprint != wanted:
        raise ValueError(f"'{settings.feature_extractor}' is not '{name}', whose features judged the pictures.")
    extractor.model.to(settings.device)
    return extractor
