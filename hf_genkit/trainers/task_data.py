"""A data set for the task that it and a model are for, and what turns its rows into the model's inputs."""

from dataclasses import replace

import datasets
from transformers import PreTrainedConfig

from ..arguments import FineTuningDataArguments, check_choice
from ..data import ClassificationData, LanguageData, SpeechData, load_data
from ..data.columns import LABEL_NAMES
from .inputs import with_float_pixels
from .tasks import AUTO_CLASSES, CLASSIFICATION, SPEECH


class TaskData:
    """
    Data for classification, language or speech.

    Args:
        args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.
        config (`PreTrainedConfig`): Of the model that reads them, which tells what plain text is for.
        task (`str`, *optional*, defaults to `"auto"`): A key of `AUTO_CLASSES`, or "auto" to find it out.

    Attributes:
        task (`str`): A key of `AUTO_CLASSES`.
        data ([`~hf_genkit.data.ClassificationData`], [`~hf_genkit.data.LanguageData`] or [`~hf_genkit.data.SpeechData`]):
            The data set.

    Raises:
        `ValueError`: The data don't fit the task.
    """

    def __init__(self, args: FineTuningDataArguments, config: PreTrainedConfig, task: str = "auto"):
        self.args, self.config = args, config
        splits = load_data(**args.for_loading())
        self.task = task if task != "auto" else self._task_of(splits["train"], config)
        self.data = self._data(splits)
        if self.task in CLASSIFICATION:
            check_choice("task", self.task, [self.data.task])

    def _task_of(self, train: datasets.Dataset | datasets.IterableDataset, config: PreTrainedConfig) -> str:
        """The task that the columns and, for plain text, the model tell."""
        args, features = self.args, train.features or {}
        if args.audio_column or any(isinstance(feature, datasets.Audio) for feature in features.values()):
            return SPEECH
        named = args.prompt_column or args.messages_column
        has_images = any(isinstance(feature, datasets.Image) for feature in features.values())
        if not named and (has_images or args.label_column or any(name in features for name in LABEL_NAMES)):
            return ClassificationData(datasets.DatasetDict(train=train), **args.columns()).task
        architectures = config.architectures or []
        is_masked = any("MaskedLM" in name or "ForPreTraining" in name for name in architectures)
        is_causal = type(config) in AUTO_CLASSES["text-generation"]._model_mapping
        return "fill-mask" if is_masked or not is_causal or config.model_type == "bert" else "text-generation"

    def _data(self, splits):
        args = self.args
        if self.task in CLASSIFICATION:
            return ClassificationData(splits, **args.columns())
        if self.task == SPEECH:
            return SpeechData(splits, audio_column=args.audio_column, text_column=args.text_column)
        columns = ("text_column", "prompt_column", "completion_column", "messages_column")
        return LanguageData(splits, **{name: getattr(args, name) for name in columns})

    @property
    def labels(self) -> list[str]:
        """The names of the classes; empty for language and speech."""
        return list(self.data.id2label.values()) if self.task in CLASSIFICATION else []

    def check_model(self, config: PreTrainedConfig, processor) -> None:
        """
        Refuses a model that can't do the task, or not on texts as long as these.

        Raises:
            `ValueError`: The architecture has no head for the task, or `max_length` is more than the model can read.
        """
        if type(config) not in AUTO_CLASSES[self.task]._model_mapping and not hasattr(config, "auto_map"):
            raise ValueError(
                f"A '{config.model_type}' model has no head for {self.task}: choose another model or task."
            )
        if self.task in ("image-classification", SPEECH):
            return
        known = [getattr(config, "max_position_embeddings", None), processor.model_max_length]
        most = min(value for value in known if value is not None)
        if self.args.max_length > most:
            raise ValueError(f"`max_length` is {self.args.max_length}, but the model reads at most {most} tokens.")

    def elsewhere(self, name: str) -> "TaskData":
        """
        Another data set of the same form, for its test split alone.

        Args:
            name (`str`): Hub id or local folder.

        Raises:
            `ValueError`: It has no such split, or other classes.
        """
        split = self.args.test_split or "test"
        own = {"dataset_config": None, "dataset_revision": None, "max_train_samples": None}
        splits = {"train_split": split, "eval_split": split, "test_split": split}
        other = TaskData(replace(self.args, dataset_name=name, **own, **splits), self.config, self.task)
        if other.labels != self.labels:
            raise ValueError(f"'{name}' has the classes {', '.join(other.labels)}, not {', '.join(self.labels)}.")
        return other

    def training_splits(self, labels: int | None, seed: int) -> tuple:
        """
        The training data with few labels, see [`~hf_genkit.data.ClassificationData.training_splits`].

        Raises:
            `ValueError`: Labels are counted, but the data have none that could be left out.
        """
        if self.task in CLASSIFICATION:
            return self.data.training_splits(labels, seed)
        if labels is not None:
            raise ValueError(f"`labelled_samples` is {labels}, but {self.task} has no labels to leave out.")
        return self.data.splits["train"], self.data.splits["train"]

    def inputs(self, split, *processors, augmentation: str | None = None, seed: int = 0):
        """
        Model inputs of a split.

        Args:
            split (`datasets.Dataset`): One of the data's splits.
            processors: The model's tokenizer or processor, and for classification its teacher's, where there is one.
            augmentation (`str`, *optional*): Such as "flip,shift:2", for images.
            seed (`int`, *optional*, defaults to 0): Seed of the augmentation or of the masking.
        """
        args = self.args
        if self.task in CLASSIFICATION:
            return self.data.inputs(split, *processors, augmentation=augmentation, seed=seed, **args.for_inputs())
        if self.task == SPEECH:
            return self.data.inputs(split, processors[0], max_label_length=args.max_length)
        return self.data.inputs(
            split,
            processors[0],
            max_length=args.max_length,
            completion_only=args.completion_only,
            masking=args.mask_probability if self.task == "fill-mask" else None,
            seed=seed,
        )

    def collator(self, *processors):
        """What pads texts for classification; everything else comes as whole batches."""
        return self.data.collator(*processors) if self.task in CLASSIFICATION else None

    def readable(self, batch: dict, processor) -> dict:
        """A collated batch with pixels, where there are any, as the model reads them."""
        return with_float_pixels(batch, processor if self.task == "image-classification" else None)
