"""What a step costs is counted on real tensors, and measuring it changes nothing."""

import copy

import pytest
import torch
from torch import nn

from hf_genkit.tuning import freeze_layers, training_cost
from tests.trainers.tiny import tiny_model


BATCH = {"pixel_values": torch.randn(4, 1, 8, 8), "labels": torch.tensor([0, 1, 2, 0])}


def test_memory_is_what_the_optimizer_and_the_gradients_hold():
    model = tiny_model("vit")
    cost = training_cost(model, BATCH, steps=1)
    tensors = len(list(model.parameters()))
    assert (cost.trainable_parameters, cost.frozen_parameters) == (model.num_parameters(), 0)
    assert cost.optimizer_bytes == 8 * model.num_parameters() + 4 * tensors  # two moments, and a step count each
    assert cost.gradient_bytes == 4 * model.num_parameters()
    assert cost.step_seconds > 0


def test_plain_sgd_keeps_nothing():
    assert training_cost(tiny_model("vit"), BATCH, optimizer="sgd", steps=1).optimizer_bytes == 0


def test_frozen_layers_cost_neither_optimizer_nor_activations():
    model = tiny_model("vit")
    before = training_cost(model, BATCH, steps=1)
    report = freeze_layers(model, first="all")
    after = training_cost(model, BATCH, steps=1)
    assert (after.trainable_parameters, after.frozen_parameters) == (
        report.trainable_parameters,
        report.frozen_parameters,
    )
    assert after.optimizer_bytes < before.optimizer_bytes / 20
    assert 0 < after.activation_bytes < before.activation_bytes / 10


class Square(nn.Module):
    """The backward pass of (w * w * x) ** 2 needs w, which is there anyway, x and the product: 3 + 3 numbers."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return type("Output", (), {"loss": (self.w * self.w * x).square().sum()})


def test_activations_are_counted_once_and_without_the_weights():
    assert training_cost(Square(), {"x": torch.ones(3)}, steps=1).activation_bytes == 4 * (3 + 3)


def test_the_model_is_left_as_it_is():
    model = tiny_model("convnext").eval()
    before = copy.deepcopy(model.state_dict())
    training_cost(model, BATCH, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_can_not_be_measured_is_refused():
    model = tiny_model("vit")
    with pytest.raises(ValueError, match=r"`optimizer` is 'adam'.*\(did you mean 'adamw'\?\)"):
        training_cost(model, BATCH, optimizer="adam")
    with pytest.raises(ValueError, match=r"`steps` is 0"):
        training_cost(model, BATCH, steps=0)
    with pytest.raises(ValueError, match=r"gives no loss for pixel_values: are there labels\?"):
        training_cost(model, {"pixel_values": BATCH["pixel_values"]})
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="is frozen: a step would train nothing"):
        training_cost(model, BATCH)
