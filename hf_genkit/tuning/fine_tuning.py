"""The data, the model and its processor that a command line of fine-tuning asks for, fitted to each other."""

import copy
from functools import cached_property

import datasets
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedModel
from transformers.utils import cached_file

from ..arguments import AdaptationArguments, FineTuningDataArguments, FineTuningModelArguments, check_choice
from ..data import ClassificationData, LanguageData, SpeechData, image_processor_for, load_data, train_tokenizer
from ..data.columns import LABEL_NAMES
from ..data.token_samples import set_chat_template
from ..trainers.inputs import with_float_pixels
from ..trainers.models import classifier_from_config, classifier_from_pretrained, load_processor, new_config
from ..trainers.quantized_loading import in_few_bits
from ..trainers.tasks import AUTO_CLASSES, CLASSIFICATION, SPEECH
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
        self.model_args, self.adaptation, self.data_args = model_args, adaptation, data_args
        self._check_source()
        splits = load_data(**data_args.for_loading())
        self.task = model_args.task if model_args.task != "auto" else self._task_of(splits["train"])
        self.data = self._data(splits)
        if self.task in CLASSIFICATION:
            check_choice("task", self.task, [self.data.task])
        self._check_config()
        self.processor = self._processor()
        self._check_length()

    def _check_source(self) -> None:
        """Refuses what can't be trained as it is: an adapter, or weights in few bits without one."""
        name = self.model_args.model_name_or_path
        if name is None:
            return
        found = cached_file(
            name, "adapter_config.json", revision=self.model_args.model_revision,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
        if found is not None:
            raise ValueError(f"'{name}' is an adapter: make a plain model of it with recipes/merge_adapters.py first.")
        if self.adaptation.peft == "none" and hasattr(self._config, "quantization_config"):
            raise ValueError(
                f"'{name}' is quantized, so its weights can't be changed: start from its full-precision weights."
            )

    def _check_config(self) -> None:
        """Refuses an architecture that has no head for the task."""
        config = self._config
        if type(config) not in AUTO_CLASSES[self.task]._model_mapping and not hasattr(config, "auto_map"):
            raise ValueError(
                f"A '{config.model_type}' model has no head for {self.task}: choose another model or task."
            )

    def _check_length(self) -> None:
        """Refuses texts that are longer than the model can read."""
        if self.task in ("image-classification", SPEECH):
            return
        known = [getattr(self._config, "max_position_embeddings", None), self.processor.model_max_length]
        most = min(value for value in known if value is not None)
        if self.data_args.max_length > most:
            raise ValueError(
                f"`max_length` is {self.data_args.max_length}, but the model reads at most {most} tokens."
            )

    def check_head(self) -> None:
        """
        Refuses a model of other classes than the data's, whose head would be replaced by a new one.

        Raises:
            `ValueError`: The classes differ in name or order.
        """
        known = [name for _, name in sorted(self._config.id2label.items())]
        if self.task in CLASSIFICATION and known != self.labels:
            raise ValueError(
                f"'{self.model_args.model_name_or_path}' knows the classes {', '.join(known[:10])}, but the data have "
                f"{', '.join(self.labels[:10])}: fine-tune it with recipes/finetune.py first."
            )

    # ---- Data ----

    def _task_of(self, train: datasets.Dataset | datasets.IterableDataset) -> str:
        """The task that the columns and, for plain text, the model tell."""
        args, features = self.data_args, train.features or {}
        if args.audio_column or any(isinstance(feature, datasets.Audio) for feature in features.values()):
            return SPEECH
        named = args.prompt_column or args.messages_column
        if not named and (args.label_column or any(name in features for name in LABEL_NAMES)):
            return ClassificationData(datasets.DatasetDict(train=train), **args.columns()).task
        config = self._config
        architectures = config.architectures or []
        is_masked = any("MaskedLM" in name or "ForPreTraining" in name for name in architectures)
        is_causal = type(config) in AUTO_CLASSES["text-generation"]._model_mapping
        return "fill-mask" if is_masked or not is_causal or config.model_type == "bert" else "text-generation"

    @cached_property
    def _config(self):
        args = self.model_args
        if args.model_name_or_path is None:
            return new_config(args.model_config)
        return AutoConfig.from_pretrained(
            args.model_name_or_path, revision=args.model_revision, trust_remote_code=args.trust_remote_code
        )

    def _data(self, splits):
        args = self.data_args
        if self.task in CLASSIFICATION:
            return ClassificationData(splits, **args.columns())
        if self.task == SPEECH:
            return SpeechData(splits, audio_column=args.audio_column, text_column=args.text_column)
        columns = ("text_column", "prompt_column", "completion_column", "messages_column")
        return LanguageData(splits, **{name: getattr(args, name) for name in columns})

    def _processor(self):
        processor = self._plain_processor()
        if self.model_args.chat_template is not None:
            set_chat_template(processor, self.model_args.chat_template)
        if self.task == SPEECH and self.model_args.language is not None:
            processor.tokenizer.set_prefix_tokens(language=self.model_args.language, task="transcribe")
        return processor

    def _plain_processor(self):
        args, name = self.model_args, self.model_args.model_name_or_path
        if name is None:
            if self.task == "image-classification":
                channels = args.model_config.get("num_channels", self.data.channels)
                return image_processor_for(channels, self.data_args.image_size or self.data.first_image().size[::-1])
            if self.task in ("text-generation", "fill-mask"):
                texts = self.data.texts(self.data.splits["train"])
                return train_tokenizer(texts, args.vocab_size, masked=self.task == "fill-mask")
            raise ValueError(
                f"`model_config` makes a new model, but {self.task} needs a tokenizer from `model_name_or_path`."
            )
        options = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
        if self.task in CLASSIFICATION:
            return load_processor(name, self.task, **options)
        return (AutoProcessor if self.task == SPEECH else AutoTokenizer).from_pretrained(name, **options)

    def inputs(self, split, *, augmentation: str | None = None, seed: int = 0):
        """
        Model inputs of a split.

        Args:
            split (`datasets.Dataset`): One of the data's splits.
            augmentation (`str`, *optional*): Such as "flip,shift:2", for images.
            seed (`int`, *optional*, defaults to 0): Seed of the augmentation or of the masking.
        """
        args = self.data_args
        if self.task in CLASSIFICATION:
            return self.data.inputs(split, self.processor, augmentation=augmentation, seed=seed, **args.for_inputs())
        if self.task == SPEECH:
            return self.data.inputs(split, self.processor, max_label_length=args.max_length)
        return self.data.inputs(
            split,
            self.processor,
            max_length=args.max_length,
            completion_only=args.completion_only,
            masking=args.mask_probability if self.task == "fill-mask" else None,
            seed=seed,
        )

    def collator(self):
        """What pads texts for classification; everything else comes as whole batches."""
        return self.data.collator(self.processor) if self.task in CLASSIFICATION else None

    def readable(self, batch: dict) -> dict:
        """A collated batch with pixels, where there are any, as the model reads them."""
        return with_float_pixels(batch, self.processor if self.task == "image-classification" else None)

    @property
    def labels(self) -> list[str]:
        """The names of the classes; empty for language and speech."""
        return list(self.data.id2label.values()) if self.task in CLASSIFICATION else []

    # ---- Model ----

    def new_model(self) -> PreTrainedModel:
        """The model as it is before training, with an adapter or frozen layers where that is asked for; seed torch first."""
        model, how = self._whole_model(), self.adaptation
        if how.peft != "none":
            return add_lora(
                model,
                rank=how.lora_rank,
                alpha=how.lora_alpha,
                dropout=how.lora_dropout,
                targets=how.target_modules or None,
                dora=how.dora,
                revision=self.model_args.model_revision,
            )
        if how.freeze_first is not None or how.freeze_patterns:
            freeze_layers(model, first=how.frozen_layers, patterns=how.freeze_patterns or None)
        return model

    def _whole_model(self) -> PreTrainedModel:
        args, bits = self.model_args, self._bits(self.adaptation)
        loading = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
        if args.model_name_or_path is not None and not args.from_scratch:
            if self.task in CLASSIFICATION:
                return classifier_from_pretrained(args.model_name_or_path, self.data, bits=bits, **loading)
            model = AUTO_CLASSES[self.task].from_pretrained(
                args.model_name_or_path, dtype="float32", **in_few_bits(bits), **loading
            )
            if self.task == SPEECH and args.language is not None:
                model.generation_config.update(language=args.language, task="transcribe")
            return model
        if self.task in CLASSIFICATION:
            if args.from_scratch:
                config = copy.deepcopy(self._config)
                config.id2label, config.label2id = self.data.id2label, self.data.label2id
                return AUTO_CLASSES[self.task].from_config(config)
            return classifier_from_config(args.model_config, self.data, self.processor)
        if args.model_config is None:
            return AUTO_CLASSES[self.task].from_config(self._config)
        ids = {name: getattr(self.processor, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        return AUTO_CLASSES[self.task].from_config(
            new_config(args.model_config, {"vocab_size": len(self.processor), **ids})
        )

    @staticmethod
    def _bits(adaptation: AdaptationArguments) -> int | None:
        return 4 if adaptation.peft == "qlora" else None

    def callbacks(self) -> list:
        """What goes on while the model trains: gradual unfreezing, where that is asked for."""
        every = self.adaptation.unfreeze_every
        return [] if every is None else [GradualUnfreezing(every=every)]
