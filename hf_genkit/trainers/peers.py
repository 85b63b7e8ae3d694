"""Models that learn side by side and from each other, as one module."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .tasks import CLASSIFICATION, CTC, DISTILLED, task_of
from .teacher import frames_a_second, match_labels


class PeersConfig(PreTrainedConfig):
    """The configurations of [`Peers`], which tell one run from another."""

    model_type = "genkit_peers"
    keys_to_ignore_at_inference = ()


class Peers(PreTrainedModel):
    """
    What [`MutualDistillationTrainer`] wraps and optimises: every forward pass of every peer goes through it.

    Args:
        models (`Sequence[PreTrainedModel]`): The peers.

    Raises:
        `ValueError`: There are fewer than two, one is no `PreTrainedModel`, or two are one and the same object.
    """

    config_class = PeersConfig
    supports_gradient_checkpointing = True

    def __init__(self, models: Sequence[PreTrainedModel]):
        models = list(models)
        if len(models) < 2:
            raise ValueError(f"`models` holds {len(models)} model, but mutual learning takes at least two.")
        for number, model in enumerate(models):
            if not isinstance(model, PreTrainedModel):
                raise ValueError(f"Peer {number} is a {type(model).__name__}, but it must be a PreTrainedModel.")
            if any(model is other for other in models[:number]):
                raise ValueError(f"Peer {number} is an earlier peer itself: give each a model of its own.")
        super().__init__(PeersConfig(**{f"peer_{number}": _identity(model) for number, model in enumerate(models)}))
        self.main_input_name = models[0].main_input_name
        self.peers = nn.ModuleList(models)

    def forward(self, inputs: Sequence[Mapping[str, torch.Tensor]]) -> list[ModelOutput]:
        """
        Args:
            inputs (`Sequence[Mapping[str, torch.Tensor]]`): For each peer, what it reads.

        Returns:
            `list[ModelOutput]`: What each of them answers.
        """
        return [peer(**own) for peer, own in zip(self.peers, inputs, strict=True)]


def common_task(peers: Sequence[PreTrainedModel]) -> str:
    """
    The task of all peers.

    Returns:
        `str`: A key of `hf_genkit.trainers.tasks.DISTILLED`.

    Raises:
        `ValueError`: They have different tasks, vocabularies or numbers of frames, or heads for something else.
    """
    first = peers[0]
    task = task_of(first, DISTILLED)
    for number, peer in enumerate(peers):
        if (other := task_of(peer, DISTILLED)) != task:
            raise ValueError(f"Peer {number} is for {other} and peer 0 for {task}, but all peers must have one task.")
        if task in CLASSIFICATION:
            _check_classifier(number, peer)
            continue
        ours, theirs = (model.config.get_text_config().vocab_size for model in (first, peer))
        if ours != theirs:
            raise ValueError(
                f"Peer {number} has a vocabulary of {theirs} tokens and peer 0 one of {ours}, but all peers must share one."
            )
        if task == CTC:
            ours, theirs = frames_a_second(first), frames_a_second(peer)
            if ours != theirs:
                raise ValueError(
                    f"Peer {number} makes {theirs} frames of a second of sound and peer 0 {ours}, but they must line up."
                )
    return task


def label_orders(task: str, peers: Sequence[PreTrainedModel]) -> list[torch.Tensor | None]:
    """
    For each peer, where peer 0's classes stand among its own; `None` where the order is the same.

    Raises:
        `ValueError`: A peer has another label set than peer 0.
    """
    if task not in CLASSIFICATION:
        return [None] * len(peers)
    orders = []
    for number, peer in enumerate(peers):
        try:
            orders.append(match_labels(peers[0], peer))
        except ValueError as error:
            raise ValueError(f"Peer {number} can't be a teacher of peer 0. {error}") from None
    return orders


def _identity(model: PreTrainedModel) -> dict:
    config = model.config.to_diff_dict()
    return {name: value for name, value in config.items() if not name.startswith(("_", "transformers_"))}


def _check_classifier(number: int, peer: PreTrainedModel) -> None:
    if peer.config.problem_type not in (None, "single_label_classification"):
        raise ValueError(f"Peer {number}'s problem_type is '{peer.config.problem_type}', not single-label.")
    if peer.config.num_labels < 2:
        raise ValueError(f"Peer {number}'s num_labels is {peer.config.num_labels}, but it takes at least 2 classes.")
