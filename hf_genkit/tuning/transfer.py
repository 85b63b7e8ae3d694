"""A pre-trained model and the task it is transferred to, as a command line asks for them."""

from pathlib import Path

import datasets
import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ..arguments import DataArguments
from ..arguments.transfer_arguments import TransferArguments, frozen_layers
from ..data import ClassificationData, image_processor_for
from ..data.class_subset import with_classes
from ..trainers.finetuning_trainer import FineTuningTrainer
from ..trainers.models import classifier_from_config, classifier_from_pretrained, load_processor
from ..trainers.tasks import AUTO_CLASSES
from .freezing import freeze_layers


class Transfer:
    """
    Makes models for a task out of a backbone: with its weights, some of them frozen, or from scratch.

    Args:
        args ([`~hf_genkit.arguments.TransferArguments`]): Which backbone, and which variants.
        data_args ([`~hf_genkit.DataArguments`]): The data's columns, and the size of its images.
        splits (`datasets.DatasetDict`): The data, from [`~hf_genkit.data.load_data`].

    Attributes:
        data ([`~hf_genkit.data.ClassificationData`]): The task.
        pretraining_data ([`~hf_genkit.data.ClassificationData`], *optional*): What a new backbone is trained on first.
        processor: The backbone's image processor or tokenizer.

    Raises:
        `ValueError`: A variant freezes more layers than there are, or a new backbone shall read texts.
    """

    def __init__(self, args: TransferArguments, data_args: DataArguments, splits: datasets.DatasetDict):
        self.args, self.source = args, args.model_name_or_path
        self.data, self.pretraining_data = ClassificationData(splits, **data_args.columns()), None
        if self.source is not None:
            self.processor = load_processor(self.source, self.data.task, **self._loading)
        else:
            self._divide(data_args)
        with torch.device("meta"):
            model = self._untrained() if self.source is not None else self.new_backbone()
        for variant in args.variants:
            if (frozen := frozen_layers(variant)) is not None:
                freeze_layers(model, first=frozen)

    def _divide(self, data_args: DataArguments) -> None:
        """Takes the classes for pre-training out of the data."""
        if self.data.task != "image-classification":
            raise ValueError("`model_config` pre-trains on images: for texts give `model_name_or_path`.")
        first = self.args.pretraining_classes
        others = [name for name in self.data.label2id if name not in first]
        parts = [with_classes(self.data, names) for names in (first, others)]
        self.pretraining_data, self.data = (ClassificationData(part, **data_args.columns()) for part in parts)
        channels = self.args.model_config.get("num_channels", self.data.channels)
        self.processor = image_processor_for(channels, data_args.image_size or self.data.first_image().size[::-1])

    @property
    def _loading(self) -> dict:
        return {"revision": self.args.model_revision, "trust_remote_code": self.args.trust_remote_code}

    def new_backbone(self) -> PreTrainedModel:
        """The model to pre-train, with random weights and a head for its own classes."""
        return classifier_from_config(self.args.model_config, self.pretraining_data, self.processor)

    def use_backbone(self, trainer: FineTuningTrainer) -> None:
        """Takes all further models from the pre-trained one, which is saved without its head."""
        self.source = str(Path(trainer.args.output_dir, "backbone"))
        if trainer.is_world_process_zero():
            trainer.accelerator.unwrap_model(trainer.model).base_model.save_pretrained(self.source)
        trainer.accelerator.wait_for_everyone()

    def new_model(self, variant: str) -> PreTrainedModel:
        """A model for the task, ready to be trained; seed torch first to get the same one again."""
        if variant == "scratch":
            return self._untrained()
        model = classifier_from_pretrained(self.source, self.data, **self._loading)
        if (frozen := frozen_layers(variant)) is not None:
            freeze_layers(model, first=frozen)
        return model

    def _untrained(self) -> PreTrainedModel:
        config: PreTrainedConfig = AutoConfig.from_pretrained(self.source, **self._loading)
        config.id2label, config.label2id = self.data.id2label, self.data.label2id
        return AUTO_CLASSES[self.data.task].from_config(config, trust_remote_code=self.args.trust_remote_code)
