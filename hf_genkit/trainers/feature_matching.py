"""What a student's hidden states are held against: layers, widths and positions brought together with a teacher's."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from ..losses import EQUAL_WIDTH_LOSSES, FEATURE_LOSSES, RELATION_LOSSES, mean_over_positions


MOST_PREFIX_TOKENS = 5  # of a ViT: its class token, and up to four registers


class FeatureMatcher:
    """
    Compares the `hidden_states` of a student and its teacher, index 0 of which is what the first layer reads.

    Maps `[B, C, H, W]` and tokens `[B, T, C]` are brought together: of a ViT the tokens before its square of patches are
    left out, and where two grids differ the larger one is pooled to the smaller. Relations compare the means over all
    positions of the last hidden states.

    Args:
        student_shapes (`Sequence[Sequence[int]]`): Shapes of the student's hidden states for some batch.
        teacher_shapes (`Sequence[Sequence[int]]`): The teacher's, for the same samples.
        features (`dict[str, float]`): Names of `FEATURE_LOSSES` and their weights.
        relations (`dict[str, float]`): Names of `RELATION_LOSSES` and their weights.
        layer_map (`str` or `list[list[int]]`, *optional*, defaults to `"last"`):
            "last", "uniform" (student layer i of n with teacher layer i/n of the way), or pairs of indices.
        projector (`str`, *optional*, defaults to `"auto"`):
            "auto" maps the student's width to the teacher's where they differ and a loss needs them equal, "always" also
            where they agree, "none" never.
        images (`bool`, *optional*, defaults to `False`):
            Whether tokens are patches of images. Maps `[B, C, H, W]` always are.
        states (`str`, *optional*, defaults to `"hidden_states"`): What the outputs call the hidden states.

    Attributes:
        pairs (`list[tuple[int, int]]`): The student's and the teacher's layers that belong together.
        weights (`dict[str, float]`): The weight of each term that a call returns.

    Raises:
        `ValueError`: `layer_map` is out of range, a projector is needed but off, or the positions can't be compared: other
            tokens, no square of patches, a single position for "attention".
    """

    def __init__(
        self,
        student_shapes: Sequence[Sequence[int]],
        teacher_shapes: Sequence[Sequence[int]],
        features: dict[str, float],
        relations: dict[str, float],
        layer_map: str | list[list[int]] = "last",
        projector: str = "auto",
        *,
        images: bool = False,
        states: str = "hidden_states",
    ):
        self.features, self.relations, self.states = features, relations, states
        self.weights = {f"{name}_loss": weight for name, weight in {**features, **relations}.items()}
        self.images = images or any(len(shape) == 4 for shape in (*student_shapes, *teacher_shapes))
        self.pairs = _pairs(layer_map, len(student_shapes), len(teacher_shapes)) if features else []
        self.widths: dict[str, tuple[int, int]] = {}
        last = [(-1, -1)] if relations and not self.images else []
        for ours, theirs in self.pairs + last:
            self._check_positions(student_shapes[ours], teacher_shapes[theirs])
        for ours, theirs in self.pairs if self.images and "attention" in features else []:
            if _cells(student_shapes[ours]) == 1 or _cells(teacher_shapes[theirs]) == 1:
                raise ValueError(
                    f"'attention' compares where two models are active, but layer {ours} of the student or layer {theirs} of "
                    "the teacher has a single position: leave it out of `layer_map`."
                )
        needing = [name for name in features if name in EQUAL_WIDTH_LOSSES]
        for ours, theirs in self.pairs if needing else []:
            widths = _width(student_shapes[ours]), _width(teacher_shapes[theirs])
            if widths[0] != widths[1] and projector == "none":
                raise ValueError(
                    f"`projector` is 'none', but '{needing[0]}' needs equal widths and layer {ours} of the student has "
                    f"{widths[0]} channels, layer {theirs} of the teacher {widths[1]}."
                )
            if widths[0] != widths[1] or projector == "always":
                self.widths[f"{ours}-{theirs}"] = widths

    def _check_positions(self, ours: Sequence[int], theirs: Sequence[int]) -> None:
        if self.images:
            for shape in (ours, theirs):
                if len(shape) == 3:
                    _side(shape[1])
        elif ours[1] != theirs[1]:
            raise ValueError(
                f"The student reads a sample as {ours[1]} tokens and the teacher as {theirs[1]}, but features and relations "
                "need the same tokens: both need the same tokenizer."
            )

    def projectors(self) -> nn.ModuleDict:
        """New linear maps from the student's channels to the teacher's, named after the layers they join: "2-4"."""
        return nn.ModuleDict({name: nn.Linear(*widths) for name, widths in self.widths.items()})

    def project(
        self, companions: nn.ModuleDict, outputs: ModelOutput, beside: Mapping
    ) -> dict[str, dict[str, Tensor]]:
        """
        What the student's companions do in its forward pass.

        Args:
            companions (`nn.ModuleDict`): What [`~FeatureMatcher.projectors`] returned; others beside them are left alone.
            outputs (`ModelOutput`): The student's, with `hidden_states`.
            beside (`Mapping`): Not used.

        Returns:
            `dict`: `projected`, the projected hidden states by the projector's name; empty without hidden states.
        """
        states = outputs.get(self.states)
        if states is None:
            return {}
        projected = {}
        for name in self.widths:
            linear, state = companions[name], states[int(name.split("-")[0])]
            channels = 1 if state.ndim == 4 else -1
            state = state.movedim(channels, -1).to(linear.weight.dtype)
            projected[name] = linear(state).movedim(-1, channels)
        return {"projected": projected}

    def __call__(
        self, outputs: ModelOutput, teacher_hidden_states: Sequence[Tensor], mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        The value of each term for each sample.

        Args:
            outputs (`ModelOutput`): The student's, with `hidden_states` and, where there are projectors, `projected`.
            teacher_hidden_states (`Sequence[torch.Tensor]`): The teacher's hidden states.
            mask (`torch.Tensor` of shape `[B, T]`, *optional*): True for the tokens that count; not for images.

        Returns:
            `dict[str, torch.Tensor]`: Such as `attention_loss`, each `[B]`, a mean over the pairs of layers. Losses in
            `BATCH_LOSSES` relate the samples, and their mean over the samples is the value of the batch.
        """
        values: dict[str, list[Tensor]] = {f"{name}_loss": [] for name in self.features}
        for ours, theirs in self.pairs:
            key = f"{ours}-{theirs}"
            for name in self.features:
                projected = key in self.widths and name in EQUAL_WIDTH_LOSSES
                state = outputs.projected[key] if projected else outputs[self.states][ours]
                compared = self._align(state, teacher_hidden_states[theirs])
                values[f"{name}_loss"].append(FEATURE_LOSSES[name](*compared, mask))
        found = {name: torch.stack(each).mean(0) for name, each in values.items()}
        if self.relations:
            last = outputs[self.states][-1], teacher_hidden_states[-1]
            pooled = [mean_over_positions(_as_positions(state), mask) for state in last]
            found |= {f"{name}_loss": RELATION_LOSSES[name](*pooled) for name in self.relations}
        return found

    def _align(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Two hidden states as `[B, P, C]` and `[B, P, D]` of the same positions."""
        if not self.images:
            return ours, theirs
        grids = [_as_grid(state) for state in (ours, theirs)]
        size = [min(sides) for sides in zip(*(grid.shape[2:] for grid in grids), strict=True)]
        return tuple(_as_positions(F.adaptive_avg_pool2d(grid, size)) for grid in grids)


def _pairs(layer_map: str | list[list[int]], ours: int, theirs: int) -> list[tuple[int, int]]:
    """The layers that belong together, by their indices into so many hidden states of the student and the teacher."""
    if layer_map == "last":
        return [(ours - 1, theirs - 1)]
    if layer_map == "uniform":
        return [(i, max(1, round(i * (theirs - 1) / (ours - 1)))) for i in range(1, ours)]
    for pair in layer_map:
        for index, states, whose in zip(pair, (ours, theirs), ("student", "teacher"), strict=True):
            if not -states <= index < states:
                raise ValueError(
                    f"`layer_map` holds {list(pair)}, but the {whose}'s layers go from 0 (what the first one reads) to "
                    f"{states - 1}, or from -{states} to -1."
                )
    return [(first % ours, second % theirs) for first, second in layer_map]


def _width(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) == 4 else shape[2]


def _cells(shape: Sequence[int]) -> int:
    """How many cells an image's grid has."""
    return math.prod(shape[2:]) if len(shape) == 4 else _side(shape[1]) ** 2


def _side(tokens: int) -> int:
    """The side of the square of patches among a ViT's tokens."""
    side = math.isqrt(tokens)
    if tokens - side**2 > MOST_PREFIX_TOKENS:
        raise ValueError(
            f"An image is {tokens} tokens of a model, which is no square of patches with at most {MOST_PREFIX_TOKENS} tokens "
            "before it: its positions can't be compared."
        )
    return side


def _as_grid(state: Tensor) -> Tensor:
    """`[B, C, H, W]` of a map, or of the patches among tokens, which come last."""
    if state.ndim == 4:
        return state
    side = _side(state.shape[1])
    return state[:, -(side**2) :].mT.unflatten(-1, (side, side))


def _as_positions(state: Tensor) -> Tensor:
    """`[B, P, C]` of a map or of tokens, all of them."""
    return state.flatten(2).mT if state.ndim == 4 else state
