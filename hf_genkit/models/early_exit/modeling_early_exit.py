"""Classifiers that can answer early: any architecture of transformers, with heads at some of its layers."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_early_exit import EarlyExitConfig
from .layers_early_exit import layers_of, pooled, width_of


THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)


class AllAnswered(Exception):
    """Stops a forward pass at an exit where every sample has its answer."""


@dataclass
class EarlyExitOutput(ModelOutput):
    """
    Output of a classifier with early exits.

    Args:
        loss (`torch.FloatTensor`): The sum over all exits and the last layer of the cross-entropies with the labels.
        logits (`torch.FloatTensor` of shape `(batch, classes)`):
            The last layer's; with `exit_threshold` those of the exit that answered each sample.
        exit_logits (`tuple(torch.FloatTensor)`): Each exit's, `(batch, classes)`, of all that were computed.
        exit_features (`tuple(torch.FloatTensor)`):
            Means over the positions of each layer that has an exit, which its head reads, `(batch, channels)`, and behind
            them those of the last layer.
        exit_index (`torch.LongTensor` of shape `(batch,)`):
            With `exit_threshold`, which exit answered each sample, counted from 0; the number of exits for the last layer.
        hidden_states, attentions: As the classifier itself returns them where they are asked for.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    exit_logits: tuple[torch.FloatTensor, ...] | None = None
    exit_features: tuple[torch.FloatTensor, ...] | None = None
    exit_index: torch.LongTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class ExitHead(nn.Sequential):
    """From the mean over a layer's positions to logits."""

    def __init__(self, width: int, classes: int):
        super().__init__(nn.LayerNorm(width), nn.Linear(width, classes))


class EarlyExitModel(PreTrainedModel):
    """
    What classifiers with early exits share; see [`EarlyExitForImageClassification`].

    `base` is the classifier as it was, and `exit_heads` are what it gained: for each exit the mean over positions, a
    layer norm and a linear layer ([BranchyNet, Teerapittayanon et al., 2016](https://huggingface.co/papers/1709.01686);
    [Be Your Own Teacher, Zhang et al., 2019](https://huggingface.co/papers/1905.08094)).
    """

    config_class = EarlyExitConfig
    base_model_prefix = "base"
    loader = None

    def __init__(self, config: EarlyExitConfig):
        super().__init__(config)
        if config.problem_type not in (None, "single_label_classification"):
            raise ValueError(f"The problem_type is '{config.problem_type}', but exits take one label for each sample.")
        self.base = self.loader.from_config(config.of_base())
        layers = layers_of(self.base)
        if len(layers) <= config.exits[-1] + 1:
            raise ValueError(
                f"`exits` is {config.exits}, but {type(self.base).__name__} has {len(layers)} layers: exits go from 0 to "
                f"{len(layers) - 2}."
            )
        self.exit_heads = nn.ModuleList(ExitHead(width, config.num_labels) for width in self.widths[:-1])
        self.post_init()

    @classmethod
    def from_base(cls, base: PreTrainedModel, exits: Sequence[int]) -> "EarlyExitModel":
        """
        A classifier's copy with exits, whose heads have random weights and need training.

        Args:
            base (`PreTrainedModel`): The classifier, trained or fresh. It is left as it is.
            exits (sequence of `int`): The layers behind which there is an exit, counted from 0.

        Raises:
            `ValueError`: The model is no such classifier, or has no such layers.
        """
        if type(base.config) not in cls.loader._model_mapping:
            raise ValueError(
                f"{type(base).__name__} is no model of {cls.loader.__name__}, which exits could be added to."
            )
        config = EarlyExitConfig(
            base_config=base.config,
            exits=list(exits),
            id2label=base.config.id2label,
            label2id=base.config.label2id,
        )
        model = cls._from_config(config).to(base.device, base.dtype)
        model.base.load_state_dict(base.state_dict())
        return model.train(base.training)

    @property
    def num_layers(self) -> int:
        """How many layers the classifier has."""
        return len(layers_of(self.base))

    @property
    def widths(self) -> list[int]:
        """How many channels each of the `exit_features` has."""
        layers = layers_of(self.base)
        return [width_of(layers[index]) for index in [*self.config.exits, -1]]

    @contextmanager
    def _watched(self, read: Callable) -> Iterator[None]:
        """Calls `read(number, layer, inputs, output)` behind each layer that has an exit, and behind the last one."""
        layers = layers_of(self.base)
        handles = [
            layers[index].register_forward_hook(functools.partial(read, number))
            for number, index in enumerate([*self.config.exits, -1])
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _run(
        self,
        inputs: Mapping[str, torch.Tensor],
        labels: torch.Tensor | None,
        exit_threshold: float | None,
        return_dict: bool | None = None,
    ) -> EarlyExitOutput | tuple:
        if exit_threshold is not None:
            self._check_threshold(exit_threshold, labels)
        features, logits = [], []

        def read(number, layer, args, output):
            features.append(pooled(output, inputs.get("attention_mask")))
            if number == len(self.exit_heads):
                return
            logits.append(self.exit_heads[number](features[-1]))
            if exit_threshold is not None and confident(logits, exit_threshold).any(0).all():
                raise AllAnswered

        outputs, all_logits = {}, logits
        try:
            with self._watched(read):
                outputs = self.base(**inputs, return_dict=True)
            all_logits = [*logits, outputs.logits]
        except AllAnswered:
            pass
        answers, index = all_logits[-1], None
        if exit_threshold is not None:
            index = first_confident(all_logits, exit_threshold)
            answers = torch.stack(all_logits)[index, torch.arange(len(index))]
        output = EarlyExitOutput(
            loss=None if labels is None else sum(F.cross_entropy(each.float(), labels) for each in all_logits),
            logits=answers,
            exit_logits=tuple(logits),
            exit_features=tuple(features),
            exit_index=index,
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def _check_threshold(self, threshold: float, labels: torch.Tensor | None) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"`exit_threshold` is {threshold}, but it must be at least 0 and at most 1.")
        if self.training or labels is not None:
            raise ValueError(
                f"`exit_threshold` is {threshold}, but training needs every exit: call eval() and leave out the labels."
            )

    @torch.no_grad()
    def predict(self, threshold: float = 0.9, **inputs) -> EarlyExitOutput:
        """
        Answers as early as possible: layers behind the exit where the whole batch has its answers are not computed. A
        sample's answer does not depend on the others, but the time is that of the slowest: most is saved with a batch
        of one.

        Args:
            threshold (`float`, *optional*, defaults to 0.9):
                The first exit whose highest probability reaches it gives the answer.
            inputs: What `forward` takes, without labels.

        Returns:
            [`EarlyExitOutput`]: With `logits` and `exit_index`.

        Raises:
            `ValueError`: The threshold is not between 0 and 1, or the model is in training mode.
        """
        return self(**inputs, exit_threshold=threshold)

    @torch.no_grad()
    def measure_exits(
        self, batches: Iterable[Mapping[str, torch.Tensor]], thresholds: Sequence[float] = THRESHOLDS
    ) -> list[dict]:
        """
        Accuracy against the layers that are computed, for samples that come one by one.

        Args:
            batches (iterable of `Mapping`): Inputs of `forward` with `labels`, of which -100 are left out.
            thresholds (sequence of `float`, *optional*): What [`~EarlyExitModel.predict`] might be given.

        Returns:
            `list[dict]`: For each threshold, and last for no exits at all (`None`): `threshold`, `accuracy`, `layers` (the
            mean share of layers that are computed, the head of each exit not counted) and `answered`, the share of
            samples that each exit, and last the whole model, answers.

        Raises:
            `ValueError`: No sample has a label.
        """
        was_training = self.training
        self.eval()
        logits, labels = [], []
        for batch in batches:
            batch = {name: value.to(self.device) for name, value in batch.items()}
            labels.append(batch.pop("labels"))
            output = self(**batch)
            logits.append(torch.stack([*output.exit_logits, output.logits]))
        self.train(was_training)
        labels = torch.cat(labels) if labels else torch.empty(0)
        kept = labels != -100
        if not kept.any():
            raise ValueError("No sample has a label, so there is no accuracy to measure.")
        logits, labels = torch.cat(logits, dim=1)[:, kept], labels[kept]
        depths = torch.tensor([*(i + 1 for i in self.config.exits), self.num_layers], device=labels.device)
        answers, found = logits.argmax(-1), []
        for threshold in [*thresholds, None]:
            index = torch.full_like(labels, len(logits) - 1)
            if threshold is not None:
                index = first_confident(logits, threshold)
            right = answers[index, torch.arange(len(index))] == labels
            counts = index.bincount(minlength=len(logits))
            found.append(
                {
                    "threshold": threshold,
                    "accuracy": right.float().mean().item(),
                    "layers": depths[index].float().mean().item() / self.num_layers,
                    "answered": (counts / len(index)).tolist(),
                }
            )
        return found


def confident(logits: Sequence[torch.Tensor] | torch.Tensor, threshold: float) -> torch.Tensor:
    """Which exits are sure of which samples, `(exits, batch)`."""
    stacked = torch.stack(tuple(logits)).float()
    return stacked.softmax(-1).amax(-1) >= threshold


def first_confident(logits: Sequence[torch.Tensor] | torch.Tensor, threshold: float) -> torch.Tensor:
    """The first exit that is sure of each sample, or else the last one, `(batch,)`."""
    sure = confident(logits, threshold)
    sure[-1] = True
    return sure.int().argmax(0)


class EarlyExitForImageClassification(EarlyExitModel):
    """
    An image classifier with early exits.

    Example:

    ```python
    >>> base = AutoModelForImageClassification.from_pretrained("me/my-vit")
    >>> model = EarlyExitForImageClassification.from_base(base, exits=[3, 7])
    >>> # ... training, such as with SelfDistillationTrainer(self_teacher="deep_supervision") ...
    >>> model.eval().predict(0.9, pixel_values=pixels).exit_index
    tensor([0])
    ```
    """

    main_input_name = "pixel_values"
    input_modalities = ("image",)
    loader = AutoModelForImageClassification

    def forward(
        self,
        pixel_values: torch.FloatTensor,
        labels: torch.LongTensor | None = None,
        exit_threshold: float | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> EarlyExitOutput | tuple:
        """
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch, channels, height, width)`): The images.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): Classes, -100 for none.
            exit_threshold (`float`, *optional*): See [`~EarlyExitModel.predict`].
            return_dict (`bool`, *optional*): Whether to return an [`EarlyExitOutput`] rather than a tuple.
            kwargs: More arguments for the classifier itself.
        """
        return self._run({"pixel_values": pixel_values, **kwargs}, labels, exit_threshold, return_dict)


class EarlyExitForSequenceClassification(EarlyExitModel):
    """A text classifier with early exits; used as [`EarlyExitForImageClassification`] is."""

    main_input_name = "input_ids"
    input_modalities = ("text",)
    loader = AutoModelForSequenceClassification

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        exit_threshold: float | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> EarlyExitOutput | tuple:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, tokens)`): The tokens.
            attention_mask (`torch.Tensor` of shape `(batch, tokens)`, *optional*): 1 for the tokens that count.
            token_type_ids (`torch.LongTensor` of shape `(batch, tokens)`, *optional*): For the models that know them.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): Classes, -100 for none.
            exit_threshold (`float`, *optional*): See [`~EarlyExitModel.predict`].
            return_dict (`bool`, *optional*): Whether to return an [`EarlyExitOutput`] rather than a tuple.
            kwargs: More arguments for the classifier itself.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: value for name, value in given.items() if value is not None}
        return self._run({**inputs, **kwargs}, labels, exit_threshold, return_dict)
