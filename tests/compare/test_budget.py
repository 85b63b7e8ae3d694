"""Budgets and the clock: what must be counted alike for every family."""

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from hf_genkit.compare.budget import Budget, StepCost, TrainingClock


COST = StepCost(seconds=0.5, flops=1e6)
ARGS = SimpleNamespace(device=torch.device("cpu"), world_size=1)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("30s", 30, "seconds"),
        ("1.5m", 90, "seconds"),
        ("2h", 7200, "seconds"),
        ("500steps", 500, "steps"),
        ("500 Steps", 500, "steps"),
        ("1e15flops", 1e15, "flops"),
    ],
)
def test_a_budget_is_read(text, amount, unit):
    assert Budget.from_string(text) == Budget(text, amount, unit)


@pytest.mark.parametrize("text", ["", "ten minutes", "10", "10 min", "0s", "-3s", "1e999s", "nan s", "10m 3s"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ValueError, match=r"`budget` is '.*', but it must be like 30s"):
        Budget.from_string(text)


@pytest.mark.parametrize(
    ("text", "cycle", "steps"),
    [
        ("10s", 1, 20),
        ("10.4s", 2, 20),
        ("7steps", 2, 6),
        ("7steps", 1, 7),
        ("3e6flops", 1, 3),
        ("0.3s", 1, None),
        ("1steps", 2, None),
    ],
)
def test_a_budget_pays_for_whole_cycles_or_is_refused(text, cycle, steps):
    budget = Budget.from_string(text)
    if steps is not None:
        assert budget.steps(COST, cycle, "GAN") == steps
        return
    with pytest.raises(ValueError, match=f"`budget` is '{text}', but .* of the GAN takes"):
        budget.steps(COST, cycle, "GAN")


def test_three_steps_are_three_in_spite_of_rounding():
    assert 0.3 / 0.1 < 3
    assert Budget.from_string("0.3s").steps(StepCost(0.1, 1.0), 1, "VAE") == 3


class Steps:
    """Walks a clock through steps, its time being what the test says."""

    def __init__(self, clock: TrainingClock):
        self.clock, self.time = clock, 0.0
        clock.now = lambda: self.time
        self.state, self.control = TrainerState(max_steps=100), TrainerControl()
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 100)

    def step(self, inside: float, after: float = 0.0) -> None:
        self.clock.on_step_begin(ARGS, self.state, self.control)
        self.time += inside
        self.state.global_step += 1
        self.clock.on_step_end(ARGS, self.state, self.control, lr_scheduler=self.schedule)
        self.time += after


def test_what_happens_between_steps_is_not_counted():
    steps = Steps(TrainingClock())
    steps.step(1.0, after=50.0)
    steps.step(2.0)
    assert steps.clock.seconds == 3.0


def test_training_stops_when_the_time_is_up_and_not_before_the_least_steps():
    steps = Steps(TrainingClock(limit=3.0, least=3))
    stops = []
    for _ in range(4):
        steps.step(1.6)
        stops.append(steps.control.should_training_stop)
    assert stops == [False, False, True, True]


def test_the_learning_rate_goes_by_time_where_time_is_the_budget():
    steps, rates = Steps(TrainingClock(limit=10.0)), []
    for seconds in (2.5, 5.0, 5.0):
        steps.step(seconds)
        rates += steps.schedule.get_last_lr()
    assert rates == pytest.approx([0.75, 0.25, 0.0])
    untimed = Steps(TrainingClock())
    untimed.step(5.0)
    assert untimed.schedule.get_last_lr() == [1.0]


def test_a_step_costs_what_the_later_cycles_took():
    steps = Steps(TrainingClock())
    for seconds in (9, 9, 5, 5, 5, 5, 1, 3, 1, 3):  # the first cycle counts FLOPs, the next ones warm up
        steps.step(float(seconds))
    steps.clock.flops = [10, 30]
    assert steps.clock.cost(cycle=2) == StepCost(seconds=2.0, flops=20.0)


def test_flops_are_those_of_forward_and_backward_and_of_the_first_steps_alone():
    clock, layer = TrainingClock(counted=1), torch.nn.Linear(4, 8, bias=False)
    state, control = TrainerState(), TrainerControl()
    for _ in range(2):
        clock.on_step_begin(ARGS, state, control)
        layer(torch.ones(2, 4)).sum().backward()
        state.global_step += 1
        clock.on_step_end(ARGS, state, control)
    assert clock.flops == [2 * (2 * 2 * 4 * 8)]  # the gradient of the input is not needed


def test_a_gradient_penalty_can_be_counted():
    clock, state, control = TrainingClock(counted=1), TrainerState(), TrainerControl()
    layer, pixels = torch.nn.Linear(4, 1), torch.ones(2, 4, requires_grad=True)
    clock.on_step_begin(ARGS, state, control)
    (gradient,) = torch.autograd.grad(layer(pixels).sum(), pixels, create_graph=True)
    gradient.square().sum().backward()
    clock.on_step_end(ARGS, state, control)
    assert clock.flops[0] > 2 * 2 * 4


def test_attention_is_counted_on_a_cpu():
    clock, state, control = TrainingClock(counted=1), TrainerState(), TrainerControl()
    clock.on_step_begin(ARGS, state, control)
    query = torch.ones(1, 1, 4, 8)
    torch.nn.functional.scaled_dot_product_attention(query, query, query)
    clock.on_step_end(ARGS, state, control)
    assert clock.flops == [2 * (2 * 4 * 4 * 8)]
