"""Where a recipe's model comes from: a name, or a config to be filled in by the data."""

import copy
from dataclasses import dataclass
from functools import cached_property

from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from ..data import image_processor_for, train_tokenizer
from ..data.token_samples import set_chat_template
from .models import classifier_from_config, classifier_from_pretrained, load_processor, new_config
from .quantized_loading import in_few_bits
from .task_data import TaskData
from .tasks import AUTO_CLASSES, CLASSIFICATION, SPEECH


@dataclass(frozen=True)
class ModelSource:
    """
    A model that is loaded by its name or made of a config, and its tokenizer or processor.

    Args:
        name (`str`, *optional*): Hub id or local folder.
        options (`dict`, *optional*): A new model's config, see [`~hf_genkit.trainers.models.new_config`].
        revision (`str`, *optional*): Commit, tag or branch of `name`.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from its repo.
        from_scratch (`bool`, *optional*, defaults to `False`): Take the config of `name`, but random weights.
        vocab_size (`int`, *optional*, defaults to 4096): Of the tokenizer that a new language model learns.
        chat_template (`str`, *optional*): File with the chat template of a tokenizer that has none.
        language (`str`, *optional*): Language of a multilingual model of speech.
    """

    name: str | None = None
    options: dict | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    from_scratch: bool = False
    vocab_size: int = 4096
    chat_template: str | None = None
    language: str | None = None

    @property
    def _loading(self) -> dict:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's config, before the data have filled it in."""
        if self.name is None:
            return new_config(self.options)
        return AutoConfig.from_pretrained(self.name, **self._loading)

    def processor(self, data: TaskData):
        """
        The model's image processor, tokenizer or processor; a new language model's tokenizer is trained on the data.

        Raises:
            `ValueError`: A new model needs a tokenizer that can't be made of the data.
        """
        processor = self._plain_processor(data)
        if self.chat_template is not None:
            set_chat_template(processor, self.chat_template)
        if data.task == SPEECH and self.language is not None:
            processor.tokenizer.set_prefix_tokens(language=self.language, task="transcribe")
        return processor

    def _plain_processor(self, data: TaskData):
        if self.name is not None and data.task in CLASSIFICATION:
            return load_processor(self.name, data.task, **self._loading)
        if self.name is not None:
            return (AutoProcessor if data.task == SPEECH else AutoTokenizer).from_pretrained(
                self.name, **self._loading
            )
        if data.task == "image-classification":
            channels = self.options.get("num_channels", data.data.channels)
            return image_processor_for(channels, data.args.image_size or data.data.first_image().size[::-1])
        if data.task in ("text-generation", "fill-mask"):
            texts = data.data.texts(data.data.splits["train"])
            return train_tokenizer(texts, self.vocab_size, masked=data.task == "fill-mask")
        raise ValueError(f"A new model for {data.task} needs a tokenizer, which comes with a model given by name.")

    def new_model(self, data: TaskData, processor, bits: int | None = None) -> PreTrainedModel:
        """
        The model as it is before training, in float32; seed torch first.

        Args:
            data ([`TaskData`]): Says the task, and the classes where there are any.
            processor: The model's image processor, tokenizer or processor.
            bits (`int`, *optional*): 4 or 8 to hold a loaded one, but for its head, with bitsandbytes.
        """
        if self.name is not None and not self.from_scratch:
            return self._loaded(data, bits)
        auto_class = AUTO_CLASSES[data.task]
        if data.task in CLASSIFICATION and self.from_scratch:
            config = copy.deepcopy(self.config)
            config.id2label, config.label2id = data.data.id2label, data.data.label2id
            return auto_class.from_config(config)
        if data.task in CLASSIFICATION:
            return classifier_from_config(self.options, data.data, processor)
        if self.options is None:
            return auto_class.from_config(self.config)
        ids = {name: getattr(processor, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        return auto_class.from_config(new_config(self.options, {"vocab_size": len(processor), **ids}))

    def _loaded(self, data: TaskData, bits: int | None) -> PreTrainedModel:
        if data.task in CLASSIFICATION:
            return classifier_from_pretrained(self.name, data.data, bits=bits, **self._loading)
        model = AUTO_CLASSES[data.task].from_pretrained(
            self.name, dtype="float32", **in_few_bits(bits), **self._loading
        )
        if data.task == SPEECH and self.language is not None:
            model.generation_config.update(language=self.language, task="transcribe")
        return model
