"""Teachers made of the student itself: the moving average of its weights, and the base under its adapter."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import broadcast
from torch import nn
from transformers import TrainerCallback


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """
    Moves the average of a model on: `average = decay * average + (1 - decay) * model`, for parameters and for buffers
    such as the batch norms' statistics; whole numbers are copied.

    Args:
        average (`nn.Module`): A copy of the model, changed in place.
        model (`nn.Module`): The model, which may have modules beside that the average lacks.
        decay (`float`): What the average keeps of itself; 0 copies the model.
    """
    current = {**dict(model.named_parameters()), **dict(model.named_buffers())}  # tied weights count once
    pairs = []
    for name, mean in [*average.named_parameters(), *average.named_buffers()]:
        if mean.is_floating_point():
            pairs.append((mean, current[name]))
        else:
            mean.copy_(current[name])
    means, values = zip(*pairs, strict=True)
    torch._foreach_lerp_(means, values, 1 - decay)


class AverageWeights(TrainerCallback):
    """Moves the average on after each optimizer step, before an evaluation or a checkpoint sees it."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:  # else a checkpoint has filled it
            self._move(decay=0)

    def on_step_end(self, args, state, control, **kwargs):
        self._move(min(args.ema_decay, (1 + state.global_step) / (10 + state.global_step)))

    def on_train_end(self, args, state, control, **kwargs):
        if args.export_ema:
            self._student.load_state_dict(self.trainer.teacher.model.state_dict())

    def _move(self, decay: float) -> None:
        average = self.trainer.teacher.model
        move_average(average, self._student, decay)
        broadcast(list(average.buffers()))  # batch norms saw other samples on each process

    @property
    def _student(self) -> nn.Module:
        return self.trainer.accelerator.unwrap_model(self.trainer.model)


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """
    Inside, a model of peft is its base alone, in evaluation mode. Afterwards every module is in the mode that it was in,
    and every parameter trains or not as before: peft itself would let all weights of the adapter train.
    """
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
