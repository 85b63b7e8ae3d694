"""Distillation across tokenizers: order and size of the vocabularies must not matter, and nothing may be cut."""

import warnings

import numpy as np
import pytest
import torch

from hf_genkit.losses.uld import universal_logit_distillation


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def np_uld(student, teacher, temperature):
    p, q = (-np.sort(-softmax(x / temperature)) for x in (student, teacher))
    wider = max(p.shape[-1], q.shape[-1])
    p, q = (np.pad(x, ((0, 0), (0, wider - x.shape[-1]))) for x in (p, q))
    return temperature**2 * np.abs(p - q).sum(-1)


@pytest.mark.parametrize("classes", [(12, 12), (12, 30), (30, 12)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_no_vocabulary_is_cut(classes, temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(8, c, generator=generator) for c in classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = universal_logit_distillation(student, teacher, temperature=temperature)
    expected = np_uld(student.double().numpy(), teacher.double().numpy(), temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_names_of_the_tokens_do_not_matter():
    student, teacher = torch.randn(2, 5, 20)
    values = universal_logit_distillation(student, teacher)
    shuffled = universal_logit_distillation(student[:, torch.randperm(20)], teacher[:, torch.randperm(20)])
    torch.testing.assert_close(values, shuffled)
    torch.testing.assert_close(universal_logit_distillation(student, student[:, torch.randperm(20)]), torch.zeros(5))


def test_gradient_is_right_and_masked_items_have_none():
    student = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: universal_logit_distillation(s, teacher, temperature=2.0), student)
    with torch.no_grad():
        student[1] = torch.nan
    mask = torch.tensor([True, False, True])
    values = universal_logit_distillation(student, teacher, mask=mask)
    values.sum().backward()
    assert values[1] == 0
    assert not student.grad[1].any()
    assert student.grad[mask].any(dim=-1).all()


def test_half_precision_is_computed_in_float32():
    student, teacher = torch.randn(2, 4, 20).bfloat16()
    values = universal_logit_distillation(student, teacher)
    torch.testing.assert_close(values, universal_logit_distillation(student.float(), teacher.float()))


def test_bad_input_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        universal_logit_distillation(torch.zeros(1, 2), torch.zeros(1, 2), temperature=0)
    with pytest.raises(ValueError, match=r"\[2, 3\] and teacher_logits \[4, 3\]"):
        universal_logit_distillation(torch.zeros(2, 3), torch.zeros(4, 3))
