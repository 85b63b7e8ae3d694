"""A teacher's likeliest classes with an exact tail, against float64 formulas written down independently."""

import numpy as np
import pytest
import torch

from hf_genkit.losses.distillation import kl_divergence
from hf_genkit.losses.top_k import TopKTargets, teacher_events, top_k_divergence, top_k_targets


def random_logits(*items, classes=40, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(2, *items, classes, generator=generator, dtype=torch.float64)).to(dtype)


def np_events(logits, ids, temperature):
    e = np.exp(logits / temperature)
    p = e / e.sum(-1, keepdims=True)
    rows = [np.append(row[chosen], np.delete(row, chosen).sum()) for row, chosen in zip(p, ids, strict=True)]
    return np.array(rows)


def np_divergence(student, teacher, k, temperature):
    ids = np.argsort(-teacher)[:, :k]
    p, q = np_events(teacher, ids, temperature), np_events(student, ids, temperature)
    return temperature**2 * np.where(p > 0, p * np.log(np.where(p > 0, p / q, 1)), 0).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("k", [1, 5, 39])
def test_tail_is_one_event_with_all_that_is_missing(k, temperature):
    student, teacher = random_logits(16)
    values = top_k_divergence(student, top_k_targets(teacher, k, temperature), temperature=temperature)
    np.testing.assert_allclose(values, np_divergence(student.numpy(), teacher.numpy(), k, temperature), rtol=1e-9)


def test_value_is_below_the_dense_one_and_reaches_it_with_all_classes():
    student, teacher = random_logits(4, 4)
    dense = kl_divergence(student, teacher)
    values = [top_k_divergence(student, top_k_targets(teacher, k)) for k in (1, 10, 40)]
    assert (values[0] <= values[1]).all()
    assert (values[1] <= values[2]).all()
    torch.testing.assert_close(values[2], dense)


def test_gradient_is_right():
    student, teacher = random_logits(3, classes=8)
    student.requires_grad_()
    for k in (1, 3, 8):
        targets = top_k_targets(teacher, k, 2.0)
        assert torch.autograd.gradcheck(lambda s: top_k_divergence(s, targets, temperature=2.0), student)  # noqa: B023


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_near_convergence_nothing_is_negative(dtype):
    _, teacher = random_logits(500, classes=1000, dtype=dtype)
    targets = top_k_targets(teacher, 16, 2.0)
    close = (teacher.double() + 1e-4 * torch.randn(500, 1000, dtype=torch.float64)).to(dtype)
    assert top_k_divergence(close, targets, temperature=2.0).min() >= 0
    assert top_k_divergence(teacher, targets, temperature=2.0).max() < 1e-5


def test_rounding_of_the_logarithms_cancels():
    _, teacher = random_logits(200, classes=2000, dtype=torch.float32)
    close = teacher + 1e-2 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(1))
    expected = top_k_divergence(close.double(), top_k_targets(teacher.double(), 64)).mean().item()
    assert top_k_divergence(close, top_k_targets(teacher, 64)).mean().item() == pytest.approx(expected, rel=2e-4)


def test_tail_of_a_teacher_that_rounding_lifted_above_one_is_empty_and_finite():
    targets = TopKTargets(torch.tensor([[0, 1]]), torch.tensor([[0.5001, 0.5001]]).log())
    student = torch.zeros(1, 4, requires_grad=True)
    value = top_k_divergence(student, targets)
    value.sum().backward()
    assert teacher_events(targets)[0, -1] == -1e4
    assert torch.isfinite(value).all()
    assert torch.isfinite(student.grad).all()


def test_student_that_is_all_tail_has_a_finite_gradient():
    student = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    top_k_divergence(student, top_k_targets(torch.tensor([[9.0, 0.0, 0.0]]), 1)).sum().backward()
    torch.testing.assert_close(student.grad, torch.tensor([[-0.999753, 0.999753, 0.0]]), rtol=1e-3, atol=1e-6)


def test_masked_items_count_nothing_whatever_they_hold():
    student, teacher = random_logits(4)
    targets = top_k_targets(teacher, 5)
    student[1] = torch.nan
    student.requires_grad_()
    mask = torch.tensor([True, False, True, True])
    values = top_k_divergence(student, targets, mask=mask)
    values.sum().backward()
    assert values[1] == 0
    assert not student.grad[1].any()
    torch.testing.assert_close(values[mask], top_k_divergence(student[mask], TopKTargets(*(x[mask] for x in targets))))


def test_targets_come_likeliest_first_in_float32():
    _, teacher = random_logits(6, dtype=torch.bfloat16)
    targets = top_k_targets(teacher, 4, 2.0)
    assert targets.log_probs.dtype == torch.float32
    assert torch.equal(targets.ids[:, 0], teacher.argmax(-1))
    assert (targets.log_probs.diff() <= 0).all()
    torch.testing.assert_close(targets.log_probs, (teacher.float() / 2).log_softmax(-1).gather(-1, targets.ids))


def test_bad_input_is_refused_in_one_sentence():
    student, teacher = random_logits(4)
    for k in (0, 41):
        with pytest.raises(ValueError, match=f"between 1 and the number of classes, 40, got {k}"):
            top_k_targets(teacher, k)
    with pytest.raises(ValueError, match="temperature must be positive, got -1"):
        top_k_divergence(student, top_k_targets(teacher, 2), temperature=-1)
    with pytest.raises(ValueError, match=r"\[3, 40\] and the ids \[4, 2\]"):
        top_k_divergence(student[:3], top_k_targets(teacher, 2))
