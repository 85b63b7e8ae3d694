"""CTC against every alignment counted one by one, and against what reaches the gradient in silence."""

import itertools
import math

import pytest
import torch

from hf_genkit.losses import ctc_loss


def by_enumeration(logits, labels, blank):
    """Minus the log of the summed probability of all paths that collapse to the labels, per label."""
    probabilities = logits.softmax(-1)
    total = 0.0
    for path in itertools.product(range(logits.shape[-1]), repeat=len(logits)):
        collapsed = [c for i, c in enumerate(path) if c != blank and (i == 0 or path[i - 1] != c)]
        if collapsed == labels:
            total += math.prod(float(probabilities[i, c]) for i, c in enumerate(path))
    return -math.log(total) / len(labels)


@pytest.mark.parametrize("blank", [0, 2])
def test_loss_is_that_of_all_alignments_per_label(blank):
    logits = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = [c for c in range(3) if c != blank]
    labels = torch.tensor([[first, second, second], [second, -100, -100], [first, second, -100]])
    lengths = torch.tensor([5, 2, 4])
    found = ctc_loss(logits, labels, lengths, blank)
    for i, row in enumerate(labels):
        expected = by_enumeration(logits[i, : lengths[i]], [c for c in row.tolist() if c != -100], blank)
        assert found[i].item() == pytest.approx(expected, rel=1e-12)


def test_impossible_and_unlabelled_samples_and_later_frames_reach_neither_loss_nor_gradient():
    logits = torch.randn(3, 4, 5)
    logits[0, 2:] = torch.nan
    logits[2] = torch.nan
    logits.requires_grad_()
    labels = torch.tensor([[1, 2, -100], [3, 3, 3], [-100, -100, -100]])  # 3 3 3 needs two blanks: five frames
    values = ctc_loss(logits, labels, torch.tensor([2, 4, 4]), blank=0)
    values.sum().backward()
    assert values[0] > 0
    assert values[1] == 0
    assert values[2] == 0
    assert logits.grad[0, :2].abs().sum() > 0
    assert torch.equal(logits.grad[0, 2:], torch.zeros(2, 5))
    assert torch.equal(logits.grad[1:], torch.zeros(2, 4, 5))


def test_half_precision_is_computed_in_float32():
    logits, labels, lengths = torch.randn(2, 60, 30), torch.randint(1, 30, (2, 20)), torch.tensor([60, 55])
    half = ctc_loss(logits.bfloat16(), labels, lengths)
    assert half.dtype == torch.float32
    assert torch.equal(half, ctc_loss(logits.bfloat16().float(), labels, lengths))
