"""The losses on hidden states against float64 numpy formulas written down independently."""

import numpy as np
import pytest
import torch

from hf_genkit.losses import EQUAL_WIDTH_LOSSES, FEATURE_LOSSES, linear_cka


PER_SAMPLE = [name for name in FEATURE_LOSSES if name != "cka"]


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair(name, samples=6, dtype=torch.float64):
    width = 5 if name in EQUAL_WIDTH_LOSSES else 9
    return features(samples, 7, 5, dtype=dtype) + 0.5, features(samples, 7, width, seed=1, dtype=dtype)


def np_attention(s, t):
    maps = [np.mean(x**2, axis=-1) for x in (s, t)]
    ours, theirs = (m / np.sqrt(np.sum(m**2)) for m in maps)
    return np.mean((ours - theirs) ** 2)


def np_cka(s, t):
    x, y = (f.mean(1) - f.mean((0, 1)) for f in (s, t))
    return 1 - np.sum((y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


REFERENCES = {
    "mse": lambda s, t: [np.mean((a - b) ** 2) for a, b in zip(s, t, strict=True)],
    "cosine": lambda s, t: [
        np.mean([1 - a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(x, y, strict=True)])
        for x, y in zip(s, t, strict=True)
    ],
    "attention": lambda s, t: [np_attention(a, b) for a, b in zip(s, t, strict=True)],
    "cka": lambda s, t: [np_cka(s, t)] * len(s),
}


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_float32_agrees_with_the_float64_formula(name):
    student, teacher = pair(name, dtype=torch.float32)
    values = FEATURE_LOSSES[name](student, teacher)
    assert values.shape == (6,)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values, REFERENCES[name](student.double().numpy(), teacher.double().numpy()), rtol=2e-6)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_gradients_pass_gradcheck(name):
    student, teacher = pair(name, samples=3)
    mask = torch.ones(3, 7).bool()
    mask[0, 2:] = False
    assert torch.autograd.gradcheck(lambda x: FEATURE_LOSSES[name](x, teacher, mask), student.requires_grad_())


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_garbage_at_masked_positions_reaches_neither_loss_nor_gradient(name):
    student, teacher = pair(name)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]] * 5 + [[0] * 7])
    expected = FEATURE_LOSSES[name](student[:5, :4], teacher[:5, :4])
    student[mask == 0], teacher[mask == 0] = torch.nan, torch.inf
    values = FEATURE_LOSSES[name](student.requires_grad_(), teacher, mask)
    values.sum().backward()
    torch.testing.assert_close(values[:5], expected)
    assert values[5] == 0
    assert student.grad.isfinite().all()
    assert not student.grad[mask == 0].any()


def test_padding_is_no_part_of_a_sample_in_cka():
    student, teacher = pair("cka")
    expected = linear_cka(student[:, :4], teacher[:, :4])
    student[:, 4:] = torch.nan
    mask = (torch.arange(7) < 4).expand(6, 7)
    torch.testing.assert_close(linear_cka(student, teacher, mask), expected)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_a_sample_s_value_does_not_depend_on_its_batch(name):
    student, teacher = pair(name)
    values = FEATURE_LOSSES[name](student, teacher)
    alone = torch.cat([FEATURE_LOSSES[name](student[i : i + 1], teacher[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(values, alone)


def test_cka_ignores_rotation_scale_and_offset():
    student = features(12, 7, 5)
    rotation = torch.linalg.qr(features(5, 5, seed=2))[0]
    torch.testing.assert_close(linear_cka(student, 3 * student @ rotation + 1), torch.zeros(12).double())


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_dead_units_and_single_samples_have_finite_gradients(name):
    student, teacher = pair(name, samples=4, dtype=torch.float32)
    for dead in (torch.zeros_like(student), torch.zeros_like(student[:1]), torch.ones_like(student)):
        dead.requires_grad_()
        FEATURE_LOSSES[name](dead, teacher[: len(dead)]).sum().backward()
        assert dead.grad.isfinite().all()
        assert dead.grad.abs().max() < 1e3


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_half_precision_and_autocast_are_computed_in_float32(name):
    student, teacher = pair(name, dtype=torch.bfloat16)
    expected = FEATURE_LOSSES[name](student.float(), teacher.float())
    with torch.inference_mode():
        teacher = teacher.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = FEATURE_LOSSES[name](student.requires_grad_(), teacher)
    values.sum().backward()
    assert torch.equal(values, expected)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_what_does_not_fit_is_refused(name):
    student, teacher = pair(name)
    with pytest.raises(ValueError, match=r"student \[6, 7, 5\] and teacher \[6, 6, .\] must agree"):
        FEATURE_LOSSES[name](student, teacher[:, 1:])
    if name in EQUAL_WIDTH_LOSSES:
        with pytest.raises(ValueError, match="must agree in samples, positions and channels"):
            FEATURE_LOSSES[name](student, teacher[..., 1:])
