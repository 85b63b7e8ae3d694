"""Hard-label losses and the sum of items: what torch's own do, per item and without leaks from unlabelled positions."""

import subprocess
import sys

import pytest
import torch

from hf_genkit.losses import cross_entropy, label_smoothing_cross_entropy, reduce_items


def random_problem(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(4, 5, 10, generator=generator)).to(dtype)
    labels = torch.randint(10, (4, 5), generator=generator)
    labels[:, 3:] = -100
    return logits, labels


def test_cross_entropies_agree_with_torch_and_are_zero_without_label():
    logits, labels = random_problem()
    for smoothing in (0.0, 0.1, 0.5):
        expected = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing
        )
        torch.testing.assert_close(label_smoothing_cross_entropy(logits, labels, smoothing), expected.view(4, 5))
    assert torch.equal(cross_entropy(logits, labels), label_smoothing_cross_entropy(logits, labels, 0.0))
    assert torch.equal(cross_entropy(logits, labels)[:, 3:], torch.zeros(4, 2))


def test_cross_entropy_keeps_garbage_at_unlabelled_positions_out_of_the_gradient():
    logits, labels = random_problem(torch.bfloat16)
    logits[:, 3:] = torch.nan
    logits.requires_grad_()
    values = label_smoothing_cross_entropy(logits, labels)
    values.sum().backward()
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert torch.equal(logits.grad[:, 3:], torch.zeros(4, 2, 10, dtype=torch.bfloat16))


def test_bad_smoothing_is_named():
    with pytest.raises(ValueError, match="smoothing must be at least 0 and below 1, got 1"):
        label_smoothing_cross_entropy(*random_problem(), 1)


def test_reduce_items_drops_masked_nan_from_value_and_gradient():
    values = torch.tensor([1.0, torch.nan, 3.0, torch.inf], requires_grad=True)
    mask = torch.tensor([1, 0, 1, 0])
    assert reduce_items(values, mask).item() == 2.0
    assert reduce_items(values, mask, num_items=8).item() == 0.5
    assert reduce_items(values, torch.zeros(4)).item() == 0.0
    assert reduce_items(torch.tensor([1.0, 2.0])).item() == 1.5
    reduce_items(values, mask).backward()
    assert torch.equal(values.grad, torch.tensor([0.5, 0.0, 0.5, 0.0]))


def test_importing_losses_imports_no_data_or_trainer():
    code = "import sys, hf_genkit.losses; print([m for m in ('transformers.trainer', 'datasets', 'diffusers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
