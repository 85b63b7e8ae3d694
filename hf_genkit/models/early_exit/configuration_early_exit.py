"""The configuration of a classifier with early exits."""

from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig


# What one place alone may say, and it is not `base_config`.
LABELS = ("id2label", "label2id", "num_labels", "problem_type")


class EarlyExitConfig(PreTrainedConfig):
    r"""
    Configuration of an [`EarlyExitForImageClassification`] or [`EarlyExitForSequenceClassification`].

    Args:
        base_config (`dict` or `PreTrainedConfig`):
            Configuration of the classifier that gets the exits, `model_type` included: any architecture of transformers
            that keeps its layers in lists, such as ViT, ConvNeXt, ResNet, BERT, DistilBERT and Llama.
        exits (`list[int]`):
            The layers behind which there is an exit, counted from 0, increasing. Of networks in stages (ConvNeXt,
            ResNet, Swin) the blocks of all stages are counted. The last layer needs none: behind it the classifier's own
            head answers.

    The classes (`id2label`, `label2id` or `num_labels`) are those of `base_config` unless they are given.

    Raises:
        `ValueError`: `base_config` has no `model_type`, or `exits` are not increasing integers of 0 or more.

    Example:

    ```python
    >>> from transformers import ViTConfig

    >>> config = EarlyExitConfig(base_config=ViTConfig(num_hidden_layers=6), exits=[1, 3])
    >>> model = EarlyExitForImageClassification(config)
    ```
    """

    model_type = "genkit_early_exit"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["exit_logits", "exit_features", "exit_index"]

    base_config: dict | PreTrainedConfig | None = None
    exits: list[int] | None = None

    def __post_init__(self, **kwargs):
        base = self.base_config.to_dict() if isinstance(self.base_config, PreTrainedConfig) else self.base_config
        if base is not None:  # transformers makes an empty one to see what the defaults are
            if "model_type" not in base:
                raise ValueError("`base_config` has no `model_type`, which tells the architecture, such as 'vit'.")
            if not self.exits or sorted(set(self.exits)) != list(self.exits) or self.exits[0] < 0:
                raise ValueError(
                    f"`exits` is {self.exits}, but it must be one or more increasing numbers of layers, from 0."
                )
            theirs = {name: base[name] for name in LABELS if name in base}
            self.base_config = {name: value for name, value in base.items() if name not in (*LABELS, "dtype")}
            if self.id2label is None and "num_labels" not in kwargs:
                self.id2label, self.label2id = theirs.get("id2label"), theirs.get("label2id")
                if "num_labels" in theirs:
                    kwargs["num_labels"] = theirs["num_labels"]
            self.problem_type = self.problem_type or theirs.get("problem_type")
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As for every configuration, but a checkpoint of another model type is refused.

        Raises:
            `ValueError`: If `config_dict` names another `model_type`.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"The checkpoint holds a model of type '{model_type}', but {cls.__name__} needs '{cls.model_type}'."
            )
        return super().from_dict(config_dict, **kwargs)

    def of_base(self) -> PreTrainedConfig:
        """The configuration of the classifier without its exits."""
        config = AutoConfig.for_model(**self.base_config)
        config.id2label, config.label2id, config.problem_type = self.id2label, self.label2id, self.problem_type
        return config


__all__ = ["EarlyExitConfig"]
