"""Modules that train beside a student, such as projectors or a discriminator, and never leave with it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import make_dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils import ModelOutput


NAME = "companions"


def attach(student: nn.Module, companions: nn.ModuleDict, run: Callable[..., Mapping[str, Any]]) -> None:
    """
    Makes modules train beside a student, until [`detach`].

    They become a submodule of it, so that they are in its optimizer, its gradient clipping and DDP's buckets, and run
    within its forward pass, so that DDP sees which parameters a loss depends on. They are in neither
    `student.state_dict()` nor what `save_pretrained` writes; [`companion_state`] is for a resume.

    Args:
        student (`nn.Module`):
            A model that returns a [`~transformers.utils.ModelOutput`], or an adapter of peft around one. From now on
            its call also takes the keyword `beside` (`dict`): whatever the companions need, such as a teacher's outputs.
        companions (`nn.ModuleDict`): The modules.
        run (`Callable`):
            Called as `run(companions, outputs, beside)` after each forward pass of the student; what it returns, a
            dictionary, is added to the student's outputs.

    Raises:
        `ValueError`: The student has companions already.
    """
    if NAME in student._modules:
        raise ValueError(f"This {type(student).__name__} has companions already: detach them first.")
    student.add_module(NAME, companions)

    def keep_what_is_beside(student, args, kwargs):
        student.companions.beside = kwargs.pop("beside", {})
        return args, kwargs

    def run_companions(student, args, outputs):
        extra = run(student.companions, outputs, student.companions.beside)
        student.companions.beside = {}
        return _extended(type(outputs), tuple(extra))(**outputs, **extra) if extra else outputs

    def leave_out(student, state, prefix, metadata):
        for name in [name for name in state if name.startswith(f"{prefix}{NAME}.")]:
            del state[name]

    def do_not_miss(student, incompatible):
        missing = incompatible.missing_keys
        missing[:] = [name for name in missing if NAME not in name.split(".")]

    companions.hooks = [
        student.register_forward_pre_hook(keep_what_is_beside, with_kwargs=True),
        student.register_forward_hook(run_companions),
        student.register_state_dict_post_hook(leave_out),
        student.register_load_state_dict_post_hook(do_not_miss),
    ]


def detach(student: nn.Module) -> None:
    """Takes a student's companions away, and every trace of them; a student without any stays as it is."""
    if NAME in student._modules:
        for hook in student.companions.hooks:
            hook.remove()
        del student.companions


def companion_parameters(student: nn.Module) -> int:
    """How many of a student's parameters are its companions': what `num_parameters()` counts too much."""
    return sum(p.numel() for p in student.companions.parameters()) if NAME in student._modules else 0


def companion_state(student: nn.Module) -> dict[str, torch.Tensor]:
    """The companions' weights and buffers, for a checkpoint that a run is resumed from."""
    return dict(student.companions.state_dict())


def load_companion_state(student: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Gives the companions what [`companion_state`] returned."""
    student.companions.load_state_dict(state)


@functools.cache
def _extended(kind: type[ModelOutput], names: tuple[str, ...]) -> type[ModelOutput]:
    """The class of outputs that has these fields, too: DDP takes outputs apart and makes them anew by their fields."""
    return make_dataclass(kind.__name__, [(name, Any, None) for name in names], bases=(kind,))
