"""Closed forms and their gradients where rounding shows: close to convergence, and for impossible classes."""

import pytest
import torch

from hf_genkit.losses.closed_forms import CLOSED_FORMS, hard_term, probabilities, soft_term
from hf_genkit.losses.distillation import DISTILLATION_LOSSES


def nearly_equal(distance):
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(200, 2000, generator=generator)
    return teacher + distance * torch.randn(200, 2000, generator=generator), teacher


def values_of(name, student, teacher):
    return CLOSED_FORMS[name](*probabilities(student), *probabilities(teacher))[0]


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd"])
def test_rounding_of_the_normaliser_cancels(name):
    """All log-probabilities of an item are a little too large together, as after a rounded log-sum-exp."""
    (log_student, _), teacher = (probabilities(logits.double()) for logits in nearly_equal(0.1))
    expected, found = (
        CLOSED_FORMS[name](log_student + shift, (log_student + shift).exp(), *teacher)[0] for shift in (0, 1e-4)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd"])
def test_nothing_is_negative_however_close(name):
    assert values_of(name, *nearly_equal(1e-4)).min() >= 0


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_gradients_are_those_of_the_values(name):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    _, gradient = CLOSED_FORMS[name](*probabilities(student.detach()), *probabilities(teacher))
    values = DISTILLATION_LOSSES[name](student, teacher)
    torch.testing.assert_close(gradient, torch.autograd.grad(values.sum(), student)[0])


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_a_class_that_one_side_rules_out_leaves_all_finite(name):
    options = {"temperature": 2.0, "loss_type": name, "loss_kwargs": {}}
    for student, teacher in (([0.0, 1.0, 2.0], [0.0, -torch.inf, 1.0]), ([0.0, -torch.inf, 2.0], [0.0, 1.0, 1.0])):
        values, gradient = soft_term(torch.tensor([student]), torch.tensor([teacher]), None, torch.ones(1), **options)
        assert torch.isfinite(values).all()
        assert torch.isfinite(gradient).all()


def test_hard_term_of_an_unlabelled_item_is_zero():
    values, gradient = hard_term(probabilities(torch.randn(2, 4)), torch.tensor([-100, 3]), torch.ones(2), 0.1)
    assert values[0] == 0
    assert not gradient[0].any()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(2))
