"""Models that make images, and the classifier that judges them, fitted to a data set."""

from pathlib import Path

from transformers import AutoConfig, AutoModel, PreTrainedModel

from ..arguments import DataArguments, GenerativeModelArguments, NewModelArguments, check_choice
from ..data import ArrayImageDataset, ImageData
from ..evaluation import FeatureExtractor, PictureJudge
from ..evaluation.picture_judge import METRICS
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationTrainer
from .generative_config import GenerativeConfig
from .models import classifier_from_config
from .progress import show_one_line


def generative_model(
    args: NewModelArguments, data: ImageData, model_types: list[str], image_size: int | None = None
) -> PreTrainedModel:
    """
    Loads or builds the model that a command line asks for.

    Args:
        args ([`~hf_genkit.arguments.NewModelArguments`]): A name, or the options of a config.
        data ([`~hf_genkit.data.ImageData`]): Decides size and channels of the images, and the classes.
        model_types (`list[str]`): The types that will do; the first is that of a config that names none.
        image_size (`int`, *optional*): Side of the images; defaults to the data's.

    Returns:
        `PreTrainedModel`: A loaded model, or a new one with random weights.

    Raises:
        `ValueError`: The model is of another type, its config has no such option, or the loaded model takes other
            images than the data has.
    """
    if data.is_streamed:
        raise ValueError("`streaming` is true, but pictures are judged against arrays of images: leave it out.")
    side = data.side(image_size)
    if args.model_name_or_path is not None:
        config = AutoConfig.from_pretrained(args.model_name_or_path)
        check_choice("model_type", config.model_type, model_types)
        model = AutoModel.from_pretrained(args.model_name_or_path, dtype="float32")
        wanted = (model.config.num_channels, model.config.image_size)
        if wanted != (data.channels, side):
            raise ValueError(
                f"'{args.model_name_or_path}' takes images of {wanted[0]} channels and {wanted[1]} pixels, but the "
                f"data have {data.channels} and {side}."
            )
        return model
    options = {"model_type": model_types[0], **(args.model_config or {})}
    model_type = options.pop("model_type")
    check_choice("model_type", model_type, model_types)
    known = AutoConfig.for_model(model_type).to_dict()
    is_conditional = model_type == "genkit_gan" and options.pop("conditional", False)
    if model_type == "genkit_gan" and {"num_labels", "id2label"} & set(options):
        raise ValueError('`model_config` sets the classes, but the data decide them: set "conditional": true.')
    for name in options:
        check_choice(f"option of a '{model_type}' config", name, sorted(known))
    decided = {"image_size": side, "num_channels": data.channels}
    for name, value in decided.items():
        if options.get(name, value) != value:
            raise ValueError(f"`model_config` sets {name} to {options[name]}, but the data have {value}.")
    options |= decided
    if is_conditional:
        if not data.id2label:
            raise ValueError("`model_config` sets conditional, but the data set has no label column.")
        options["id2label"] = data.id2label
    return AutoModel.from_config(AutoConfig.for_model(model_type, **options))


def picture_judges(
    args: GenerativeModelArguments,
    data_args: DataArguments,
    data: ImageData,
    config: GenerativeConfig,
    train: ArrayImageDataset,
    validation: ArrayImageDataset,
    test: ArrayImageDataset,
) -> tuple[PictureJudge | None, PictureJudge | None]:
    """
    What judges generated pictures while a model is chosen, and what judges the chosen one.

    Args:
        args ([`~hf_genkit.GenerativeModelArguments`]): Which vision model makes the features.
        data_args ([`~hf_genkit.DataArguments`]): The name of the data, and the size of their images.
        data ([`~hf_genkit.data.ImageData`]): What a classifier is trained on.
        config ([`GenerativeConfig`]): The run's arguments.
        train, validation, test ([`~hf_genkit.data.ArrayImageDataset`]): The real pictures.

    Returns:
        `tuple`: A judge against the validation pictures, which only gives the Frechet distance unless another metric
        chooses the best model, and one against the test pictures with all metrics and the training pictures' score as
        floor; two times `None` without one.
    """
    name, size = f"{Path(data_args.dataset_name).name} classifier", data_args.image_size
    extractor = feature_extractor(args, data, Path(config.output_dir, "runs", name), size, use_cpu=config.use_cpu)
    if extractor is None:
        return None, None
    extractor.model.to(config.device)
    chosen_by_fd = (config.metric_for_best_model or "fd_").removeprefix("eval_").startswith(("fd_", "loss"))
    metrics = ["fd"] if chosen_by_fd else METRICS
    return PictureJudge(extractor, validation, metrics=metrics), PictureJudge(extractor, test, floor_set=train)


def feature_extractor(
    args: GenerativeModelArguments,
    data: ImageData,
    folder: Path,
    image_size: int | None = None,
    *,
    use_cpu: bool = False,
) -> FeatureExtractor | None:
    """
    The vision model that judges pictures.

    Args:
        args ([`~hf_genkit.GenerativeModelArguments`]): Its name, or "classifier", or "none".
        data ([`~hf_genkit.data.ImageData`]): What a classifier is trained on.
        folder (`Path`): Where a classifier that is trained here is kept, and found again; its name becomes its own.
        image_size (`int`, *optional*): Side of the images; defaults to the data's.
        use_cpu (`bool`, *optional*, defaults to `False`): Whether to train it on the CPU in any case.

    Returns:
        [`~hf_genkit.evaluation.FeatureExtractor`] or `None`.

    Raises:
        `ValueError`: It shall be a classifier, and the data have no labels.
    """
    if args.feature_extractor == "none":
        return None
    if args.feature_extractor != "classifier":
        return FeatureExtractor(args.feature_extractor, size=args.feature_size)
    if not data.id2label:
        raise ValueError(
            "`feature_extractor` is 'classifier', but the data set has no labels to train one: name a vision model of "
            "the Hub, or set 'none'."
        )
    if not folder.is_dir():
        _train_classifier(data, folder, min(data.side(image_size), 32), use_cpu)
    return FeatureExtractor(str(folder), name=folder.name, size=args.feature_size)


def _train_classifier(data: ImageData, folder: Path, side: int, use_cpu: bool) -> None:
    """A small ConvNeXt with 64 features: so few that a thousand pictures are enough to compare."""
    processor = data.processor(side)
    options = {"model_type": "convnext", "patch_size": max(1, side // 8), "num_stages": 2}
    options |= {"depths": [2, 2], "hidden_sizes": [32, 64]}
    samples = len(data.splits["train"])
    unfinished = folder.with_name(f"unfinished {folder.name}")
    args = DistillationConfig(
        str(unfinished),
        alpha=0.0,
        max_steps=min(1500, max(100, 40 * samples // 64)),
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=50,
        seed=0,
        use_cpu=use_cpu,
    )
    trainer = DistillationTrainer(
        classifier_from_config(options, data, processor),
        args=args,
        train_dataset=data.pictures(data.splits["train"], side, augmentation="shift:1"),
        eval_dataset=data.pictures(data.evaluation_split, side),
        processing_class=processor,
    )
    show_one_line(trainer, "classifier for features").train()
    trainer.save_model(_internal_call=True)
    if trainer.is_world_process_zero():
        unfinished.rename(folder)
    trainer.accelerator.wait_for_everyone()
