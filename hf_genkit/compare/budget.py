"""A budget of training, and the clock that counts what is used of it: seconds, optimizer steps and FLOPs."""

import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback

from ..arguments.comparison_arguments import parse_budget


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CLOCK_NAMES = {"wall": "time on the wall clock", "cpu": "CPU time"}


def flop_counter() -> FlopCounterMode:
    """
    A counter of all FLOPs together, without torch's tracker of modules: that puts hooks on gradients which a gradient
    penalty, a gradient within the loss, can't have.
    """
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = nullcontext()
    counter.mod_tracker.parents = {"Global"}
    return counter


@dataclass(frozen=True)
class StepCost:
    """
    What an optimizer step of a model costs, the mean over whole cycles of its phases.

    Args:
        seconds (`float`): On the clock of the comparison.
        flops (`float`): Multiplications and additions of matrix products and convolutions, forward and backward, on all
            processes together.
    """

    seconds: float
    flops: float


@dataclass(frozen=True)
class Budget:
    """
    How much training a model gets.

    Args:
        text (`str`): As it was written.
        amount (`float`): Seconds, optimizer steps or FLOPs.
        unit (`str`): "seconds", "steps" or "flops".
    """

    text: str
    amount: float
    unit: str

    @classmethod
    def from_string(cls, text: str) -> "Budget":
        """
        Reads "30s", "10m", "2h", "500steps" or "1e15flops".

        Raises:
            `ValueError`: It is none of these.
        """
        return cls(text, *parse_budget(text))

    @property
    def seconds(self) -> float | None:
        """At how many seconds training stops; `None` where they are not counted."""
        return self.amount if self.unit == "seconds" else None

    def steps(self, cost: StepCost, cycle: int, title: str) -> int:
        """
        How many optimizer steps the budget pays for, in whole cycles.

        Args:
            cost ([`StepCost`]): Of one step.
            cycle (`int`): Steps in which each network is trained once: of a GAN `n_critic + 1`, else 1.
            title (`str`): What the model is called.

        Raises:
            `ValueError`: It does not pay for one cycle.
        """
        each = {"steps": 1.0, "seconds": cost.seconds, "flops": cost.flops}[self.unit]
        cycles = math.floor(self.amount / (each * cycle) * (1 + 1e-9))
        if cycles < 1:
            what = "one step" if cycle == 1 else f"its {cycle} phases"
            raise ValueError(
                f"`budget` is '{self.text}', but {what} of the {title} takes {each * cycle:.3g} {self.unit}: give "
                "more."
            )
        return cycles * cycle


class TrainingClock(TrainerCallback):
    """
    Counts what happens between the beginning and the end of each optimizer step: data loading, logs, evaluations and
    checkpoints are left out, for all models alike. Add it last, so that what others do in a step is inside.

    Args:
        clock (`str`, *optional*, defaults to `"wall"`): "wall", or "cpu" for the CPU time of the process.
        limit (`float`, *optional*):
            Seconds after which training stops. The schedule of the learning rate then goes by time: its `max_steps` are
            the whole limit, however many steps are taken.
        least (`int`, *optional*, defaults to 1): Steps that are taken in any case.
        counted (`int`, *optional*, defaults to 0): In how many of the first steps FLOPs are counted, which slows them down.
    """

    def __init__(self, clock: str = "wall", limit: float | None = None, least: int = 1, counted: int = 0):
        self.now, self.limit, self.least, self.counted = CLOCKS[clock], limit, least, counted
        self.times: list[float] = []
        self.flops: list[int] = []
        self.at: dict[int, float] = {}
        self._counter: FlopCounterMode | None = None

    @property
    def seconds(self) -> float:
        """All steps together."""
        return sum(self.times)

    def on_step_begin(self, args, state, control, **kwargs):
        self._stack = ExitStack()
        if state.global_step < self.counted:
            self._stack.enter_context(
                sdpa_kernel(SDPBackend.MATH)
            )  # the CPU's fused attention has no count of its own
            self._counter = self._stack.enter_context(flop_counter())
        self._start = self.now()

    def on_step_end(self, args, state, control, **kwargs):
        if args.device.type != "cpu":
            torch.accelerator.synchronize()
        self.times.append(self.now() - self._start)
        self._stack.close()
        if self._counter is not None:
            self.flops.append(self._counter.get_total_flops() * args.world_size)
            self._counter = None
        if self.limit is not None:
            used = self._share_of_limit()
            schedule = kwargs["lr_scheduler"]
            schedule.last_epoch = round(min(used, 1.0) * state.max_steps) - 1
            schedule.step()
            if used >= 1.0 and state.global_step >= self.least:
                control.should_training_stop = control.should_log = True

    def _share_of_limit(self) -> float:
        """How much of the time is used, by the first process's clock, so that all go the same way."""
        used = [self.seconds / self.limit]
        return broadcast_object_list(used)[0] if PartialState().num_processes > 1 else used[0]

    def on_log(self, args, state, control, **kwargs):
        self.at[state.global_step] = self.seconds

    def cost(self, cycle: int) -> StepCost:
        """
        What a step costs: the FLOPs of the first cycle, and the seconds of the later half of the others.

        Args:
            cycle (`int`): As in [`Budget.steps`]; two cycles or more were run.
        """
        cycles = len(self.times) // cycle
        later = self.times[cycle * (1 + (cycles - 1) // 2) : cycle * cycles]
        return StepCost(sum(later) / len(later), sum(self.flops[:cycle]) / cycle)
