"""The model and its processor that a command line of fine-tuning asks for, fitted to the data."""

from transformers import PreTrainedModel
from transformers.utils import cached_file

from ..arguments import AdaptationArguments, FineTuningDataArguments, FineTuningModelArguments
from ..trainers.model_source import ModelSource
from ..trainers.quantized_loading import in_few_bits
from ..trainers.task_data import TaskData
from ..trainers.tasks import CLASSIFICATION
from .freezing import GradualUnfreezing, freeze_layers
from .lora import add_lora, import_peft


class FineTuning:
    """
    What is trained on what.

    Args:
        model_args ([`~hf_genkit.FineTuningModelArguments`]): Where the model comes from.
        adaptation ([`~hf_genkit.AdaptationArguments`]): Which of its weights are trained.
        data_args ([`~hf_genkit.FineTuningDataArguments`]): Where the data come from.

    Attributes:
        task (`str`): A key of `hf_genkit.trainers.tasks.AUTO_CLASSES`.
        data ([`~hf_genkit.data.ClassificationData`], [`~hf_genkit.data.LanguageData`] or [`~hf_genkit.data.SpeechData`]):
            The data set.
        processor: The model's tokenizer or processor.

    Raises:
        `ValueError`: The data don't fit the task.
        `ImportError`: An adapter is asked for and peft is not installed, or 4 bits and bitsandbytes is not.
    """

    def __init__(
        self,
        model_args: FineTuningModelArguments,
        adaptation: AdaptationArguments,
        data_args: FineTuningDataArguments,
    ):
        if adaptation.peft != "none":
            import_peft()
        in_few_bits(self._bits(adaptation))
        self.model_args, self.adaptation = model_args, adaptation
        self.source = ModelSource(
            model_args.model_name_or_path,
            model_args.model_config,
            revision=model_args.model_revision,
            trust_remote_code=model_args.trust_remote_code,
            from_scratch=model_args.from_scratch,
            vocab_size=model_args.vocab_size,
            chat_template=model_args.chat_template,
            language=model_args.language,
        )
        self._check_source()
        self.task_data = TaskData(data_args, self.source.config, model_args.task)
        self.task, self.data = self.task_data.task, self.task_data.data
        self.processor = self.source.processor(self.task_data)
        self.task_data.check_model(self.source.config, self.processor)

    def _check_source(self) -> None:
        """Refuses what can't be trained as it is: an adapter, or weights in few bits without one."""
        name = self.source.name
        if name is None:
            return
        found = cached_file(
            name, "adapter_config.json", revision=self.source.revision,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        if found is not None:
            raise ValueError(f"'{name}' is an adapter: make a plain model of it with recipes/merge_adapters.py first.")
        if self.adaptation.peft == "none" and hasattr(self.source.config, "quantization_config"):
            raise ValueError(
                f"'{name}' is quantized, so its weights can't be changed: start from its full-precision weights."
            )

    def check_head(self) -> None:
        """
        Refuses a model of other classes than the data's, whose head would be replaced by a new one.

        Raises:
            `ValueError`: The classes differ in name or order.
        """
        known = [name for _, name in sorted(self.source.config.id2label.items())]
        if self.task in CLASSIFICATION and known != self.labels:
            raise ValueError(
                f"'{self.source.name}' knows the classes {', '.join(known[:10])}, but the data have "
                f"{', '.join(self.labels[:10])}: fine-tune it with recipes/finetune.py first."
            )

    def inputs(self, split, *, augmentation: str | None = None, seed: int = 0):
        """Model inputs of a split, see [`~hf_genkit.trainers.task_data.TaskData.inputs`]."""
        return self.task_data.inputs(split, self.processor, augmentation=augmentation, seed=seed)

    def collator(self):
        """What pads texts for classification; everything else comes as whole batches."""
        return self.task_data.collator(self.processor)

    def readable(self, batch: dict) -> dict:
        """A collated batch with pixels, where there are any, as the model reads them."""
        return self.task_data.readable(batch, self.processor)

    @property
    def labels(self) -> list[str]:
        """The names of the classes; empty for language and speech."""
        return self.task_data.labels

    def new_model(self) -> PreTrainedModel:
        """The model as it is before training, with an adapter or frozen layers where that is asked for; seed torch first."""
        how = self.adaptation
        model = self.source.new_model(self.task_data, self.processor, self._bits(how))
        if how.peft != "none":
            return add_lora(
                model,
                rank=how.lora_rank,
                alpha=how.lora_alpha,
                dropout=how.lora_dropout,
                targets=how.target_modules or None,
                dora=how.dora,
                revision=self.source.revision,
            )
        if how.freeze_first is not None or how.freeze_patterns:
            freeze_layers(model, first=how.frozen_layers, patterns=how.freeze_patterns or None)
        return model

    @staticmethod
    def _bits(adaptation: AdaptationArguments) -> int | None:
        return 4 if adaptation.peft == "qlora" else None

    def callbacks(self) -> list:
        """What goes on while the model trains: gradual unfreezing, where that is asked for."""
        every = self.adaptation.unfreeze_every
        return [] if every is None else [GradualUnfreezing(every=every)]
