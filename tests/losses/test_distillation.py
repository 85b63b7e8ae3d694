"""The losses against float64 numpy formulas written down independently, and against what fails silently elsewhere."""

import warnings

import numpy as np
import pytest
import torch

from hf_genkit.losses import (
    DISTILLATION_LOSSES,
    align_vocabularies,
    dist,
    dkd,
    generalized_jsd,
    kl_divergence,
    logit_mse,
    lskd,
    reduce_items,
    reverse_kl,
    soft_cross_entropy,
    standardize_logits,
)


TEACHER = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
STUDENT = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
PER_ITEM = {name: loss for name, loss in DISTILLATION_LOSSES.items() if name != "dist"}


def random_problem(*items, classes=10, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        (3 * torch.randn(*items, classes, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(2)
    )
    return student, teacher, torch.randint(classes, items, generator=generator)


def np_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def np_kl(p, q):
    return np.sum(p * np.log(p / q), axis=-1)


def np_dkd(s, t, y, temperature, alpha=1.0, beta=8.0):
    values = []
    for s_row, t_row, label in zip(np_softmax(s / temperature), np_softmax(t / temperature), y, strict=True):
        binary_s, binary_t = (np.array([p[label], 1 - p[label]]) for p in (s_row, t_row))
        others_s, others_t = (np.delete(p, label) / np.delete(p, label).sum() for p in (s_row, t_row))
        values.append(alpha * np_kl(binary_t, binary_s) + beta * np_kl(others_t, others_s))
    return temperature**2 * np.array(values)


def np_dist(s, t, temperature, beta=1.0, gamma=1.0):
    s, t = np_softmax(s / temperature), np_softmax(t / temperature)
    inter = np.array([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s, t, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, t.T, strict=True)])
    return temperature**2 * (beta * inter + gamma * intra)


def np_jsd(s, t, temperature, beta=0.5):
    s, t = np_softmax(s / temperature), np_softmax(t / temperature)
    mixture = beta * t + (1 - beta) * s
    return temperature**2 * (beta * np_kl(t, mixture) + (1 - beta) * np_kl(s, mixture))


def np_lskd(s, t, temperature):
    s, t = ((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) / temperature for x in (s, t))
    return temperature**2 * np_kl(np_softmax(t), np_softmax(s))


REFERENCES = {
    "kl": lambda s, t, y, T: T**2 * np_kl(np_softmax(t / T), np_softmax(s / T)),
    "soft_ce": lambda s, t, y, T: -(T**2) * np.sum(np_softmax(t / T) * np.log(np_softmax(s / T)), axis=-1),
    "reverse_kl": lambda s, t, y, T: T**2 * np_kl(np_softmax(s / T), np_softmax(t / T)),
    "jsd": lambda s, t, y, T: np_jsd(s, t, T),
    "mse": lambda s, t, y, T: np.mean((s - t) ** 2, axis=-1),
    "dkd": lambda s, t, y, T: np_dkd(s, t, y, T),
    "uld": lambda s, t, y, T: T**2 * np.abs(np.sort(np_softmax(s / T)) - np.sort(np_softmax(t / T))).sum(-1),
    "dist": lambda s, t, y, T: np_dist(s, t, T),
    "lskd": lambda s, t, y, T: np_lskd(s, t, T),
}


@pytest.mark.parametrize("classes", [3, 10, 1000])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_float32_agrees_with_the_float64_formula_to_a_millionth(name, temperature, classes):
    student, teacher, labels = random_problem(64, classes=classes)
    values = DISTILLATION_LOSSES[name](student, teacher, temperature=temperature, labels=labels)
    expected = REFERENCES[name](student.double().numpy(), teacher.double().numpy(), labels.numpy(), temperature)
    assert values.dtype == torch.float32
    assert values.shape == (64,)
    np.testing.assert_allclose(values.double().mean(), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6 * temperature**2)


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.9])
def test_jsd_weights_the_teacher_by_beta_and_not_the_student(beta):
    student, teacher, _ = random_problem(64)
    expected = np_jsd(student.double().numpy(), teacher.double().numpy(), 2.0, beta)
    np.testing.assert_allclose(generalized_jsd(student, teacher, temperature=2.0, beta=beta), expected, rtol=1e-5)


def test_own_knobs_weigh_the_parts_they_name():
    student, teacher, labels = random_problem(64, dtype=torch.float64)
    arrays = student.numpy(), teacher.numpy()
    for alpha, beta in ((1.0, 0.0), (0.0, 1.0), (0.5, 2.0)):
        values = dkd(student, teacher, temperature=2.0, labels=labels, alpha=alpha, beta=beta)
        np.testing.assert_allclose(values, np_dkd(*arrays, labels.numpy(), 2.0, alpha, beta), rtol=1e-9)
        values = dist(student, teacher, temperature=2.0, beta=alpha, gamma=beta)
        np.testing.assert_allclose(values, np_dist(*arrays, 2.0, alpha, beta), rtol=1e-9)


def test_textbook_value():
    entropy = -(TEACHER.exp() * TEACHER).sum().item()
    assert soft_cross_entropy(STUDENT, TEACHER).item() == pytest.approx(0.8286, abs=5e-5)
    assert entropy == pytest.approx(0.8018, abs=5e-5)
    assert kl_divergence(STUDENT, TEACHER).item() == pytest.approx(0.0268, abs=5e-5)
    assert soft_cross_entropy(STUDENT, TEACHER).item() == pytest.approx(
        entropy + kl_divergence(STUDENT, TEACHER).item(), rel=1e-12
    )


def gradient(loss, student, teacher, **kwargs):
    student = student.clone().requires_grad_()
    loss(student, teacher, **kwargs).sum().backward()
    return student.grad


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradients_are_the_analytic_ones_times_the_squared_temperature(temperature):
    student, teacher, _ = random_problem(8, dtype=torch.float64)
    p_s, p_t = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)

    forward = (p_s - p_t) / temperature
    ratio = p_s.log() - p_t.log()
    reverse = p_s * (ratio - (p_s * ratio).sum(-1, keepdim=True)) / temperature
    expected = {kl_divergence: forward, soft_cross_entropy: forward, reverse_kl: reverse}
    for loss, value in expected.items():
        torch.testing.assert_close(gradient(loss, student, teacher, temperature=temperature), temperature**2 * value)

    for beta in (0.2, 0.5, 0.8):
        ratio = p_s.log() - (beta * p_t + (1 - beta) * p_s).log()
        jsd = (1 - beta) * p_s * (ratio - (p_s * ratio).sum(-1, keepdim=True)) / temperature
        grad = gradient(generalized_jsd, student, teacher, temperature=temperature, beta=beta)
        torch.testing.assert_close(grad, temperature**2 * jsd)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_gradients_pass_gradcheck(name):
    student, teacher, labels = random_problem(3, classes=4, dtype=torch.float64)
    labels[0], mask = -100, torch.tensor([True, True, False])

    def loss(student):
        return DISTILLATION_LOSSES[name](student, teacher, temperature=2.0, labels=labels, mask=mask)

    assert torch.autograd.gradcheck(loss, student.requires_grad_())


@pytest.mark.parametrize("name", ["kl", "soft_ce", "reverse_kl", "jsd", "dkd"])
def test_squared_temperature_keeps_the_scale_of_gradients(name):
    student, teacher, labels = random_problem(256)
    student, teacher = (logits - logits.mean(-1, keepdim=True) for logits in (student, teacher))
    norms = [
        gradient(DISTILLATION_LOSSES[name], student, teacher, temperature=t, labels=labels).norm()
        for t in (50.0, 100.0)
    ]
    assert norms[1] / norms[0] == pytest.approx(1.0, abs=0.05)  # without the factor it is 1/4


def test_kl_at_high_temperature_is_the_logit_mse():
    student, teacher, _ = random_problem(16, dtype=torch.float64)
    student, teacher = (logits - logits.mean(-1, keepdim=True) for logits in (student, teacher))
    kl = kl_divergence(student, teacher, temperature=1e4)
    torch.testing.assert_close(kl, logit_mse(student, teacher) / 2, rtol=1e-3, atol=0)


def test_jsd_is_exact_at_the_ends_and_tends_to_them():
    student, teacher, _ = random_problem(16, dtype=torch.float64)
    forward, reverse = (loss(student, teacher, temperature=2.0) for loss in (kl_divergence, reverse_kl))
    assert torch.equal(generalized_jsd(student, teacher, temperature=2.0, beta=0), forward)
    assert torch.equal(generalized_jsd(student, teacher, temperature=2.0, beta=1), reverse)
    for beta, end in ((1e-7, forward), (1 - 1e-7, reverse)):
        limit = generalized_jsd(student, teacher, temperature=2.0, beta=beta) / (beta * (1 - beta))
        torch.testing.assert_close(limit, end, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [10, 32000])
def test_half_precision_near_convergence_is_neither_negative_nor_wrong(dtype, classes):
    generator = torch.Generator().manual_seed(0)
    teacher = (3 * torch.randn(64, classes, generator=generator)).to(dtype)
    student = (teacher + 0.1 * torch.randn(64, classes, generator=generator)).to(dtype)
    expected = REFERENCES["kl"](student.double().numpy(), teacher.double().numpy(), None, 1.0)
    values = kl_divergence(student, teacher)
    assert 0.001 < expected.mean() < 0.01
    assert values.dtype == torch.float32
    assert values.min() >= 0
    np.testing.assert_allclose(values, expected, rtol=0.02, atol=1e-7)
    assert values.mean() == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_half_precision_inputs_and_autocast_are_computed_in_float32(name):
    student, teacher, labels = random_problem(8, dtype=torch.bfloat16)
    expected = DISTILLATION_LOSSES[name](student.float(), teacher.float(), temperature=3.0, labels=labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(DISTILLATION_LOSSES[name](student, teacher, temperature=3.0, labels=labels), expected)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_equal_logits_give_zero_and_teachers_from_inference_mode_are_accepted(name):
    student, _, labels = random_problem(8)
    with torch.inference_mode():
        teacher = student.clone()
    student.requires_grad_()
    values = DISTILLATION_LOSSES[name](student, teacher, temperature=2.0, labels=labels)
    values.sum().backward()
    if name != "soft_ce":
        torch.testing.assert_close(values, torch.zeros(8), rtol=0, atol=1e-6)
    torch.testing.assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_garbage_at_masked_positions_reaches_neither_loss_nor_gradient(name):
    loss = DISTILLATION_LOSSES[name]
    student, teacher, labels = random_problem(4, 5)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    for logits in (student, teacher):
        logits[mask == 0] = torch.tensor([torch.nan, torch.inf] * 5)
    labels[mask == 0] = -100
    student.requires_grad_()
    values = loss(student, teacher, temperature=2.0, labels=labels, mask=mask)
    reduce_items(values, mask).backward()

    assert torch.equal(values[mask == 0], torch.zeros(11))
    assert torch.equal(student.grad[mask == 0], torch.zeros(11, 10))
    kept = student.detach()[mask == 1].requires_grad_()
    alone = loss(kept, teacher[mask == 1], temperature=2.0, labels=labels[mask == 1])
    alone.mean().backward()
    torch.testing.assert_close(values[mask == 1], alone)
    torch.testing.assert_close(student.grad[mask == 1], kept.grad)


@pytest.mark.parametrize("name", PER_ITEM)
def test_micro_batches_over_the_global_count_add_up_to_the_whole_batch(name):
    loss = PER_ITEM[name]
    student, teacher, labels = random_problem(8, 5, dtype=torch.float64)
    mask = torch.arange(40).reshape(8, 5) % 3 != 0
    mask[:2] = False
    count = mask.sum()

    def scalar_and_gradient(rows):
        part = student[rows].clone().requires_grad_()
        values = loss(part, teacher[rows], temperature=2.0, labels=labels[rows], mask=mask[rows])
        scalar = reduce_items(values, mask[rows], num_items=count)
        scalar.backward()
        return scalar.detach(), part.grad

    whole, whole_gradient = scalar_and_gradient(slice(0, 8))
    for size in (1, 2, 4):
        parts = [scalar_and_gradient(slice(start, start + size)) for start in range(0, 8, size)]
        torch.testing.assert_close(sum(value for value, _ in parts), whole)
        torch.testing.assert_close(torch.cat([grad for _, grad in parts]), whole_gradient)
    torch.testing.assert_close(whole, reduce_items(loss(student, teacher, temperature=2.0, labels=labels), mask))


def test_dist_is_per_item_without_its_part_across_items():
    student, teacher, _ = random_problem(8)
    whole = dist(student, teacher, gamma=0.0)
    torch.testing.assert_close(torch.cat([dist(student[i : i + 1], teacher[i : i + 1]) for i in range(8)]), whole)
    assert not torch.allclose(dist(student, teacher), whole)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_single_item_without_batch_dimension_and_empty_batch(name):
    student, teacher, labels = random_problem(1)
    batched = DISTILLATION_LOSSES[name](student, teacher, labels=labels)
    torch.testing.assert_close(DISTILLATION_LOSSES[name](student[0], teacher[0], labels=labels[0]), batched[0])
    empty = DISTILLATION_LOSSES[name](student[:0].requires_grad_(), teacher[:0], labels=labels[:0])
    assert reduce_items(empty).item() == 0.0


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_micro_batch_without_a_single_item_has_zero_loss_and_gradient(name):
    student, teacher, labels = random_problem(2)
    student.requires_grad_()
    values = DISTILLATION_LOSSES[name](student, teacher, labels=labels, mask=torch.zeros(2))
    values.sum().backward()
    assert torch.equal(values, torch.zeros(2))
    assert torch.equal(student.grad, torch.zeros(2, 10))


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
@pytest.mark.parametrize("sides", ["both", "teacher", "student"])
def test_masked_classes_give_neither_nan_nor_infinity(name, sides):
    student, teacher, _ = random_problem(6)
    if sides != "student":
        teacher[:, 7:] = -torch.inf
    if sides != "teacher":
        student[:, 7:] = -torch.inf
    student.requires_grad_()
    values = DISTILLATION_LOSSES[name](student, teacher, temperature=2.0, labels=torch.arange(6))
    values.sum().backward()
    assert values.isfinite().all()
    assert student.grad.isfinite().all()
    if sides == "both" and name != "dist":  # the correlation over the classes counts them, as equal zeros
        fewer = DISTILLATION_LOSSES[name](student[:, :7], teacher[:, :7], temperature=2.0, labels=torch.arange(6))
        torch.testing.assert_close(values, fewer)
        assert torch.equal(student.grad[:, 7:], torch.zeros(6, 3))


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_constant_logits_of_an_untrained_head_have_a_finite_gradient(name):
    _, teacher, labels = random_problem(6)
    student = torch.zeros(6, 10, requires_grad=True)
    values = DISTILLATION_LOSSES[name](student, teacher, labels=labels)
    values.sum().backward()
    assert values.isfinite().all()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in DISTILLATION_LOSSES if name != "uld"])
@pytest.mark.parametrize(("student_size", "teacher_size"), [(9, 12), (12, 9)])
@pytest.mark.filterwarnings("ignore:The student has")
def test_vocabularies_that_differ_by_padding_are_compared_on_their_common_entries(name, student_size, teacher_size):
    student, teacher, labels = random_problem(6, classes=12)
    labels = labels % 9
    student, teacher = student[:, :student_size].clone().requires_grad_(), teacher[:, :teacher_size]
    values = DISTILLATION_LOSSES[name](student, teacher, labels=labels)
    values.sum().backward()
    assert torch.equal(values, DISTILLATION_LOSSES[name](student[:, :9], teacher[:, :9], labels=labels))
    assert torch.equal(student.grad[:, 9:], torch.zeros(6, student_size - 9))


def test_different_vocabularies_warn_once():
    student, teacher = torch.zeros(2, 151), torch.zeros(2, 152)
    with pytest.warns(UserWarning, match="student has 151 classes and the teacher 152") as caught:
        kl_divergence(student, teacher)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kl_divergence(student, teacher)
        align_vocabularies(student, student)


def test_dkd_of_an_item_without_label_is_plain_kl():
    student, teacher, labels = random_problem(6)
    labels[::2] = -100
    values = dkd(student, teacher, temperature=2.0, labels=labels)
    kl = kl_divergence(student, teacher, temperature=2.0)
    assert torch.equal(values[::2], kl[::2])
    assert not torch.isclose(values[1::2], kl[1::2]).any()


def test_lskd_ignores_offset_and_scale_of_the_logits():
    student, teacher, _ = random_problem(6, dtype=torch.float64)
    values = lskd(student, teacher, temperature=2.0)
    torch.testing.assert_close(lskd(5 * student - 3, 0.1 * teacher + 7, temperature=2.0), values)
    standardized = standardize_logits(student)
    torch.testing.assert_close(standardized.mean(-1), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(standardized.std(-1, correction=0), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"temperature": -1.0}, "temperature must be positive, got -1.0"),
        ({"mask": torch.ones(3)}, r"mask must have one entry per item, \[2\], got \[3\]"),
    ],
)
@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_bad_arguments_are_named(name, kwargs, message):
    logits = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=message):
        DISTILLATION_LOSSES[name](logits, logits, **({"labels": torch.zeros(2, dtype=torch.long)} | kwargs))


def test_bad_knobs_are_named():
    logits = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"\[2, 4\] and teacher_logits \[3, 4\]"):
        kl_divergence(logits, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="beta must lie between 0 and 1, got 1"):
        generalized_jsd(logits, logits, beta=1.01)
    with pytest.raises(ValueError, match="dkd needs labels"):
        dkd(logits, logits)
