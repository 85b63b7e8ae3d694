"""Gradients must not depend on how a batch is cut: the headline of the trainer."""

import pytest
import torch
from transformers import TrainerCallback

from hf_genkit.losses import DISTILLATION_LOSSES

from .tiny import CONFIGS, Samples, tiny_model


class GradientRecorder(TrainerCallback):
    """Keeps the gradient of each optimizer step, as one vector."""

    def __init__(self):
        self.gradients: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))

    @property
    def gradient(self) -> torch.Tensor:
        """That of the last step."""
        return self.gradients[-1]


def gradient(make_trainer, kind, batch, accumulation, folder, **options):
    recorder = GradientRecorder()
    trainer = make_trainer(
        kind,
        folder=folder,
        callbacks=[recorder],
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        max_grad_norm=0.0,
        **options,
    )
    trainer.train()
    return recorder.gradient, trainer


def assert_same_gradient(found, expected):
    assert abs(found.norm() / expected.norm() - 1) < 1e-4
    assert torch.cosine_similarity(found, expected, dim=0) > 0.9999


@pytest.mark.parametrize("kind", CONFIGS)
def test_accumulation_does_not_change_the_gradient(make_trainer, kind):
    expected, _ = gradient(make_trainer, kind, 8, 1, "whole")
    for batch, accumulation in ((4, 2), (2, 4)):
        found, _ = gradient(make_trainer, kind, batch, accumulation, f"cut-{batch}")
        assert_same_gradient(found, expected)


@pytest.mark.parametrize("loss_type", [name for name in DISTILLATION_LOSSES if name != "dist"])
def test_every_loss_is_exact_with_padding_and_unlabelled_items(make_trainer, loss_type):
    options = {"token_level": True, "loss_type": loss_type, "temperature": 2.0, "label_smoothing_factor": 0.1}
    expected, _ = gradient(make_trainer, "bert", 8, 1, "whole", **options)
    found, _ = gradient(make_trainer, "bert", 2, 4, "cut", **options)
    assert_same_gradient(found, expected)


def test_dist_is_exact_in_its_part_between_classes(make_trainer):
    options = {"loss_type": "dist", "loss_kwargs": {"gamma": 0.0}}
    expected, _ = gradient(make_trainer, "vit", 8, 1, "whole", **options)
    found, _ = gradient(make_trainer, "vit", 2, 4, "cut", **options)
    assert_same_gradient(found, expected)


def test_gradient_is_the_textbook_one(make_trainer):
    """Against the loss written out by hand over the whole batch, unlabelled samples included."""
    found, trainer = gradient(make_trainer, "vit", 4, 2, "run", alpha=0.3, temperature=3.0)
    student, teacher = tiny_model("vit"), tiny_model("vit", seed=1, scale=4.0).eval()
    samples = [Samples("vit")[i] for i in range(8)]
    pixels = torch.stack([sample["pixel_values"] for sample in samples])
    labels = torch.tensor([sample["labels"] for sample in samples])
    logits = student(pixel_values=pixels).logits
    with torch.no_grad():
        targets = torch.softmax(teacher(pixel_values=pixels).logits / 3.0, -1)
    soft = 9.0 * (targets * (targets.log() - torch.log_softmax(logits / 3.0, -1))).sum(-1).mean()
    hard = torch.nn.functional.cross_entropy(logits[labels != -100], labels[labels != -100])
    (0.3 * soft + 0.7 * hard).backward()
    expected = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    logged = trainer.state.log_history[0]
    assert logged["kd_loss"] == pytest.approx(soft.item(), rel=1e-4)
    assert logged["ce_loss"] == pytest.approx(hard.item(), rel=1e-4)
    assert logged["loss"] == pytest.approx((0.3 * soft + 0.7 * hard).item(), rel=1e-4)


def test_logged_components_are_means_over_the_steps_of_the_window(make_trainer):
    every = make_trainer("vit", folder="every", logging_steps=1)
    every.train()
    window = make_trainer("vit", folder="window", logging_steps=4)
    window.train()
    for name in ("loss", "kd_loss", "ce_loss"):
        steps = [log[name] for log in every.state.log_history if name in log]
        (mean,) = [log[name] for log in window.state.log_history if name in log]
        assert mean == pytest.approx(sum(steps) / len(steps), rel=1e-4)
