"""The losses on relations against float64 numpy formulas, written down as loops over samples."""

import numpy as np
import pytest
import torch

from hf_genkit.losses import BATCH_LOSSES, FEATURE_LOSSES, RELATION_LOSSES


def vectors(samples, width, seed=0, dtype=torch.float64):
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def smooth_l1(x):
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


def np_distances(x):
    found = np.array([[np.sqrt(np.sum((a - b) ** 2)) for b in x] for a in x])
    return found / found[found > 0].mean()


def np_angles(x):
    found = np.zeros([len(x)] * 3)
    for i, j, k in np.ndindex(found.shape):
        a, b = x[j] - x[i], x[k] - x[i]
        if j != i != k:
            found[i, j, k] = a @ b / np.sqrt((a @ a) * (b @ b))
    return found


def np_similarity(x):
    products = x @ x.T
    return products / np.sqrt(np.sum(products**2, axis=1, keepdims=True))


def np_neighbours(x):
    x = x / np.sqrt(np.sum(x**2, axis=1, keepdims=True))
    closeness = (x @ x.T + 1) / 2
    return closeness / closeness.sum(1, keepdims=True)


REFERENCES = {
    "rkd_distance": lambda s, t: np.mean(smooth_l1(np_distances(s) - np_distances(t))),
    "rkd_angle": lambda s, t: np.mean(smooth_l1(np_angles(s) - np_angles(t))),
    "similarity": lambda s, t: np.sum((np_similarity(t) - np_similarity(s)) ** 2) / len(s) ** 2,
    "pkt": lambda s, t: np.mean(np_neighbours(t) * np.log(np_neighbours(t) / np_neighbours(s))),
}


@pytest.mark.parametrize("name", RELATION_LOSSES)
def test_the_mean_over_samples_is_the_published_value(name):
    student, teacher = vectors(8, 5, dtype=torch.float32), 3 * vectors(8, 11, seed=1, dtype=torch.float32)
    values = RELATION_LOSSES[name](student, teacher)
    assert values.shape == (8,)
    assert values.dtype == torch.float32
    expected = REFERENCES[name](student.double().numpy(), teacher.double().numpy())
    np.testing.assert_allclose(values.double().mean(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", RELATION_LOSSES)
def test_gradients_pass_gradcheck(name):
    teacher = vectors(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: RELATION_LOSSES[name](x, teacher), vectors(5, 3).requires_grad_())


@pytest.mark.parametrize("name", RELATION_LOSSES)
def test_equal_relations_cost_nothing(name):
    student = vectors(8, 5)
    rotation = torch.linalg.qr(vectors(5, 5, seed=2))[0]
    torch.testing.assert_close(RELATION_LOSSES[name](student, 2 * student @ rotation), torch.zeros(8).double())


@pytest.mark.parametrize("name", RELATION_LOSSES)
def test_a_single_sample_gives_zero_without_nan_gradients(name):
    student = vectors(1, 5).requires_grad_()
    values = RELATION_LOSSES[name](student, vectors(1, 7, seed=1))
    values.sum().backward()
    torch.testing.assert_close(values, torch.zeros(1).double())
    torch.testing.assert_close(student.grad, torch.zeros(1, 5).double())


@pytest.mark.parametrize("name", RELATION_LOSSES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_collapsed_student_has_finite_gradients(name, value):
    student = torch.full((4, 5), value, requires_grad=True)
    RELATION_LOSSES[name](student, vectors(4, 7, seed=1, dtype=torch.float32)).sum().backward()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e3


@pytest.mark.parametrize("name", RELATION_LOSSES)
def test_half_precision_and_autocast_are_computed_in_float32(name):
    student, teacher = vectors(8, 5, dtype=torch.bfloat16), vectors(8, 7, seed=1, dtype=torch.bfloat16)
    expected = RELATION_LOSSES[name](student.float(), teacher.float())
    with torch.inference_mode():
        teacher = teacher.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = RELATION_LOSSES[name](student.requires_grad_(), teacher)
    values.sum().backward()
    assert torch.equal(values, expected)


def test_what_relates_the_items_of_a_batch_is_marked():
    """A marked loss of half a batch is another one than that of the whole; an unmarked one is the same."""
    for name, loss in (RELATION_LOSSES | FEATURE_LOSSES).items():
        shape = (8, 5) if name in RELATION_LOSSES else (8, 3, 5)
        student, teacher = (torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(2))
        same = torch.allclose(loss(student, teacher)[:4], loss(student[:4], teacher[:4]))
        assert same == (name not in BATCH_LOSSES), name


@pytest.mark.parametrize("name", RELATION_LOSSES)
def test_unequal_batches_are_refused(name):
    with pytest.raises(ValueError, match="student has 3 samples and teacher 4"):
        RELATION_LOSSES[name](vectors(3, 5), vectors(4, 5))
