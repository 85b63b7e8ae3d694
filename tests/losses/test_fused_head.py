"""The fused head against plain autograd in float64, and against the memory, signs and zeros that go wrong in silence."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hf_genkit.losses.classification import label_smoothing_cross_entropy
from hf_genkit.losses.distillation import DISTILLATION_LOSSES, _warn_of_sizes
from hf_genkit.losses.fused_head import Head, TeacherStates, fused_distillation
from hf_genkit.losses.top_k import TopKTargets, top_k_divergence, top_k_targets


N, V, H = 23, 60, 12


class Problem:
    """Hidden states, heads, labels of which a third is missing, and weights of the items."""

    def __init__(
        self, dtype=torch.float64, scale=1.0, softcap=None, bias=True, teacher_classes=V, items=N, spread=1.0
    ):
        generator = torch.Generator().manual_seed(0)

        def normal(*shape):
            return (spread * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)

        self.hidden, self.weight = normal(items, H).requires_grad_(), normal(V, H).requires_grad_()
        self.bias = normal(V).requires_grad_() if bias else None
        self.head = Head(self.weight, self.bias, scale=scale, softcap=softcap)
        self.teacher = TeacherStates(normal(items, 5), Head(normal(teacher_classes, 5)))
        self.labels = torch.randint(V, (items,), generator=generator)
        self.labels[::3] = -100
        self.soft, self.hard = (torch.rand(items, generator=generator, dtype=torch.float64) for _ in range(2))
        self.inputs = [x for x in (self.hidden, self.weight, self.bias) if x is not None]

    def fused(self, **options):
        options = {"teacher": self.teacher, "labels": self.labels, **options}
        return fused_distillation(self.hidden, self.head, soft_weights=self.soft, hard_weights=self.hard, **options)

    @torch.enable_grad()
    def plain(self, loss_type="kl", temperature=1.0, smoothing=0.0, **knobs):
        """Loss and gradients in float64, from all logits at once."""
        hidden, weight, bias = (None if x is None else x.double() for x in (self.hidden, self.weight, self.bias))
        logits = self.head.scale * F.linear(hidden, weight, bias)
        if self.head.softcap is not None:
            logits = self.head.softcap * torch.tanh(logits / self.head.softcap)
        teacher = self.teacher.hidden.double() @ self.teacher.head.weight.double().t()
        kd = DISTILLATION_LOSSES[loss_type](logits, teacher, temperature=temperature, labels=self.labels, **knobs)
        ce = label_smoothing_cross_entropy(logits, self.labels, smoothing)
        loss = (self.soft * kd).sum() + (self.hard * ce).sum()
        return kd, ce, logits, [loss, *torch.autograd.grad(loss, self.inputs)]


def error(found, expected):
    """The largest relative error, each tensor by its norm."""
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, expected, strict=True))


def with_gradients(problem, result):
    return [result.loss, *torch.autograd.grad(result.loss, problem.inputs)]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", ["kl", "soft_ce", "reverse_kl", "jsd", "mse", "dkd", "lskd"])
def test_loss_and_gradients_are_those_of_autograd(name, temperature):
    problem = Problem(scale=0.7, softcap=4.0)
    kd, ce, _, expected = problem.plain(name, temperature, smoothing=0.1)
    found = problem.fused(loss_type=name, temperature=temperature, label_smoothing=0.1, chunk_bytes=7 * V * 8)
    assert error(with_gradients(problem, found), expected) < 1e-12
    torch.testing.assert_close(found.kd, kd)
    torch.testing.assert_close(found.ce, ce)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.9, 1.0])
def test_jsd_weights_the_teacher_by_beta_and_has_both_ends(beta):
    problem = Problem()
    found = problem.fused(loss_type="jsd", loss_kwargs={"beta": beta}, temperature=2.0)
    assert error(with_gradients(problem, found), problem.plain("jsd", 2.0, beta=beta)[-1]) < 1e-12


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd"])
def test_float32_is_right_to_a_millionth(name):
    problem = Problem(torch.float32)
    found = problem.fused(loss_type=name, temperature=2.0, chunk_bytes=5 * V * 4)
    assert error(with_gradients(problem, found), problem.plain(name, 2.0)[-1]) < 1e-6
    assert found.loss.dtype == torch.float32


def test_size_of_chunks_and_blocks_changes_nothing(monkeypatch):
    problem = Problem()
    expected = with_gradients(problem, problem.fused())
    for items in (1, 4, N - 1, 2 * N):
        assert error(with_gradients(problem, problem.fused(chunk_bytes=items * V * 8)), expected) < 1e-13
    monkeypatch.setitem(fused_distillation.__globals__["BLOCK_BYTES"], "cpu", 3 * V * 4)
    assert error(with_gradients(problem, problem.fused(chunk_bytes=10 * V * 8)), expected) < 1e-13


def test_bias_free_head_and_one_term_alone():
    problem = Problem(bias=False)
    found = problem.fused(labels=None)
    logits = problem.hidden @ problem.weight.t()
    teacher = problem.teacher.head.logits(problem.teacher.hidden)
    expected = (problem.soft * DISTILLATION_LOSSES["kl"](logits, teacher)).sum()
    assert error(with_gradients(problem, found), [expected, *torch.autograd.grad(expected, problem.inputs)]) < 1e-12
    assert not found.ce.any()
    hard = problem.fused(teacher=None)
    assert not hard.kd.any()
    assert hard.loss.item() == pytest.approx((problem.hard * hard.ce).sum().item())


def test_weights_default_to_one():
    problem = Problem()
    found = fused_distillation(problem.hidden, problem.head, problem.teacher, labels=problem.labels)
    assert found.loss.item() == pytest.approx((found.kd + found.ce).sum().item())


def test_given_logits_and_hidden_states_teach_the_same_and_stay_as_they_are():
    problem = Problem()
    logits = problem.teacher.head.logits(problem.teacher.hidden)
    before = logits.clone()
    found = problem.fused(teacher=logits, temperature=2.0)
    assert torch.equal(logits, before)
    assert error(with_gradients(problem, found), with_gradients(problem, problem.fused(temperature=2.0))) == 0


@pytest.mark.parametrize("classes", [V - 7, V + 7])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_vocabularies_padded_to_other_sizes_are_compared_where_both_have_tokens(classes, temperature):
    problem = Problem(teacher_classes=classes)
    _warn_of_sizes.cache_clear()
    with pytest.warns(UserWarning, match=f"{V} classes and the teacher {classes}") as warned:
        found = problem.fused(temperature=temperature, chunk_bytes=5 * V * 8)
    assert len(warned) == 1
    assert error(with_gradients(problem, found), problem.plain(temperature=temperature)[-1]) < 1e-12


@pytest.mark.parametrize("name", ["kl", "soft_ce", "reverse_kl", "jsd"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_of_the_tail_is_spread_over_its_tokens(name, temperature):
    problem = Problem(softcap=5.0)
    teacher = problem.teacher.head.logits(problem.teacher.hidden)
    targets = top_k_targets(teacher, 6, temperature)
    found = problem.fused(teacher=targets, loss_type=name, temperature=temperature, labels=None)
    logits = problem.head.logits(problem.hidden)
    ranked = (logits / temperature).log_softmax(-1)
    student = torch.cat([ranked.gather(-1, targets.ids), rest(ranked.exp(), targets.ids).log()], -1)
    expected = DISTILLATION_LOSSES[name](student, torch.cat([targets.log_probs, rest_of(targets).log()], -1))
    loss = temperature**2 * (problem.soft * expected).sum()
    assert error(with_gradients(problem, found), [loss, *torch.autograd.grad(loss, problem.inputs)]) < 1e-11
    if name == "kl":
        torch.testing.assert_close(found.kd, top_k_divergence(logits, targets, temperature=temperature))


def rest(probs, ids):
    return (probs.sum(-1) - probs.gather(-1, ids).sum(-1))[:, None]


def rest_of(targets):
    return 1 - targets.log_probs.exp().sum(-1, keepdim=True)


def test_all_classes_as_top_k_are_the_dense_loss():
    problem = Problem()
    targets = top_k_targets(problem.teacher.head.logits(problem.teacher.hidden), V)
    found = problem.fused(teacher=targets)
    assert error(with_gradients(problem, found), with_gradients(problem, problem.fused())) < 1e-9


class Sizes(TorchDispatchMode):
    """How often a tensor of each shape is made."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            known = {x.untyped_storage().data_ptr() for x in arguments if isinstance(x, torch.Tensor)}
            known.update(
                x.untyped_storage().data_ptr() for x in (options or {}).values() if isinstance(x, torch.Tensor)
            )
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.made[tuple(tensor.shape)] = self.made.get(tuple(tensor.shape), 0) + 1
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_second_gradient_of_the_head_is_made(dtype):
    problem = Problem(dtype, items=40)
    with Sizes() as sizes:
        (3 * problem.fused(chunk_bytes=8 * V * 4).loss).backward()
    assert sizes.made[V, H] == 1
    assert problem.weight.grad is not None


def test_autocast_makes_no_second_gradient_of_the_head_either():
    problem = Problem(torch.float32, items=40)
    with Sizes() as sizes, torch.autocast("cpu", torch.bfloat16):
        problem.fused(chunk_bytes=4 * V * 2).loss.backward()
    assert sizes.made[V, H] == 2  # the weight itself in bfloat16, as autocast has it, and its gradient


def test_float16_keeps_gradients_of_small_weights_for_the_scaler():
    problem = Problem(torch.float32, items=40, spread=0.5)
    small, scale = 1e-7, 2.0**16
    problem.soft, problem.hard = small * problem.soft, small * problem.hard
    expected = problem.plain()[-1]
    with torch.autocast("cpu", torch.float16):
        found = problem.fused()
    gradients = torch.autograd.grad(scale * found.loss, problem.inputs)
    assert error([gradient / scale for gradient in gradients], expected[1:]) < 0.01
    problem.soft, problem.hard = 0 * problem.soft, 0 * problem.hard
    with torch.autocast("cpu", torch.float16):
        nothing = problem.fused()
    assert not torch.autograd.grad(nothing.loss, problem.hidden)[0].any()


def test_frozen_head_has_no_gradient_and_no_memory_for_one():
    problem = Problem(items=40)
    expected = with_gradients(problem, problem.fused())[1]
    problem.weight.requires_grad_(False)
    problem.bias.requires_grad_(False)
    with Sizes() as sizes:
        problem.fused(chunk_bytes=8 * V * 8).loss.backward()
    assert (V, H) not in sizes.made
    assert problem.weight.grad is None
    torch.testing.assert_close(problem.hidden.grad, expected)


def test_hidden_states_without_gradient_cost_none():
    problem = Problem()
    problem.hidden.requires_grad_(False)
    with Sizes() as sizes:
        problem.fused(chunk_bytes=8 * V * 8).loss.backward()
    assert (N, H) not in sizes.made
    assert problem.weight.grad.any()


def test_evaluation_computes_values_alone():
    problem = Problem()
    expected = problem.fused()
    with torch.no_grad(), Sizes() as sizes:
        found = problem.fused()
    assert (V, H) not in sizes.made
    assert (N, H) not in sizes.made
    assert not found.loss.requires_grad
    assert torch.equal(found.loss, expected.loss)


def test_evaluation_tells_what_both_predict():
    problem = Problem(softcap=4.0)
    teacher = problem.teacher.head.logits(problem.teacher.hidden)
    top = top_k_targets(teacher, 3)
    shuffled = TopKTargets(*(values.flip(-1) for values in top))
    with torch.no_grad():
        for targets in (problem.teacher, teacher, top, shuffled):
            found = problem.fused(teacher=targets)
            assert torch.equal(found.predictions, problem.plain()[2].argmax(-1))
            assert torch.equal(found.teacher_predictions, teacher.argmax(-1))
        assert problem.fused(teacher=None).teacher_predictions is None
    assert problem.fused().predictions is None


def test_second_backward_is_refused_and_not_silently_scaled_twice():
    problem = Problem()
    loss = 2 * problem.fused().loss
    loss.backward(retain_graph=True)
    before = problem.hidden.grad.clone()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    assert torch.equal(problem.hidden.grad, before)
    (gradient,) = torch.autograd.grad(problem.fused().loss ** 2, problem.hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_gradients_scale_with_what_follows():
    problem = Problem()
    plain = with_gradients(problem, problem.fused())[1:]
    scaled = torch.autograd.grad(problem.fused().loss / 4, problem.inputs)
    assert error([4 * gradient for gradient in scaled], plain) < 1e-15


def test_no_items_give_a_zero_that_reaches_every_parameter():
    problem = Problem(items=0)
    result = problem.fused()
    result.loss.backward()
    assert result.loss.item() == 0
    assert [x.grad.shape for x in problem.inputs] == [x.shape for x in problem.inputs]
    assert not problem.weight.grad.any()


def test_unlabelled_items_get_no_hard_gradient():
    problem = Problem()
    found = problem.fused(teacher=None)
    (gradient,) = torch.autograd.grad(found.loss, problem.hidden)
    assert not gradient[problem.labels == -100].any()
    assert not found.ce[problem.labels == -100].any()
    assert gradient[problem.labels != -100].any(dim=-1).all()


def near_convergence(dtype):
    """A student that differs from its teacher by a little in its weights."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(64, 64, generator=generator), torch.randn(2000, 64, generator=generator) / 4
    close = weight + 0.0125 * torch.randn(2000, 64, generator=generator)
    return (x.to(dtype) for x in (hidden, weight, close))


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd"])
def test_bfloat16_gives_no_negative_divergence_near_convergence(name):
    hidden, weight, close = near_convergence(torch.bfloat16)
    found = fused_distillation(hidden, Head(close), TeacherStates(hidden, Head(weight)), loss_type=name).kd
    logits = [hidden.double() @ w.double().t() for w in (close, weight)]
    expected = DISTILLATION_LOSSES[name](*logits).mean().item()
    assert found.min() >= 0
    assert found.mean().item() == pytest.approx(expected, rel=0.02)
    if name == "kl":
        assert 0.003 < expected < 0.007
        same = fused_distillation(hidden, Head(weight), TeacherStates(hidden, Head(weight))).kd
        assert not same.any()


def test_autocast_multiplies_in_bfloat16_and_keeps_the_softmax_and_the_gradients_in_float32():
    problem = Problem(torch.float32, items=40, spread=0.5)
    expected = problem.plain(temperature=2.0)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        found = problem.fused(temperature=2.0, chunk_bytes=16 * V * 2)
    gradients = torch.autograd.grad(found.loss, problem.inputs)
    assert [x.dtype for x in (found.kd, *gradients)] == [torch.float32] * 4
    assert 1e-5 < error([found.loss, *gradients], expected) < 0.02


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_gives_the_same_in_one_graph(backend):
    problem = Problem(torch.float32)
    expected = with_gradients(problem, problem.fused(temperature=2.0, chunk_bytes=8 * V * 4))
    torch._dynamo.reset()

    @torch.compile(backend=backend, fullgraph=True)
    def loss(hidden, weight, bias):
        head = Head(weight, bias)
        options = {"labels": problem.labels, "soft_weights": problem.soft, "hard_weights": problem.hard}
        return fused_distillation(
            hidden, head, problem.teacher, temperature=2.0, chunk_bytes=8 * V * 4, **options
        ).loss

    found = loss(*problem.inputs)
    assert error([found, *torch.autograd.grad(found, problem.inputs)], expected) < 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compiling for a CPU takes too long for a test")
def test_compiled_arithmetic_follows_when_a_knob_changes():
    """A knob that changes becomes a variable of the compiled code, which `torch.lerp` got wrong."""
    problem = Problem(torch.float32)
    problem.hidden, problem.weight, problem.bias = (x.detach().cuda() for x in problem.inputs)
    problem.head = Head(problem.weight, problem.bias)
    teacher = problem.teacher.head.logits(problem.teacher.hidden).cuda()
    options = {"teacher": teacher, "loss_type": "jsd", "temperature": 2.0}
    problem.labels, problem.soft, problem.hard = (x.cuda() for x in (problem.labels, problem.soft, problem.hard))
    for beta in (0.5, 0.3, 0.7, 0.5):
        expected, found = (
            problem.fused(**options, loss_kwargs={"beta": beta}, compiled=compiled).loss for compiled in (False, True)
        )
        torch.testing.assert_close(found, expected)


def test_dist_works_item_by_item_and_is_refused_where_it_relates_items():
    problem = Problem()
    found = problem.fused(loss_type="dist", loss_kwargs={"gamma": 0}, chunk_bytes=5 * V * 8)
    assert error(with_gradients(problem, found), problem.plain("dist", gamma=0)[-1]) < 1e-12
    with pytest.raises(ValueError, match="'dist' relates the items of a batch"):
        problem.fused(loss_type="dist")


def test_bad_input_is_refused_in_one_sentence():
    problem = Problem()
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        problem.fused(temperature=0.0)
    with pytest.raises(ValueError, match="beta must lie between 0 and 1, got 2"):
        problem.fused(loss_type="jsd", loss_kwargs={"beta": 2})
    with pytest.raises(ValueError, match="neither a teacher nor labels"):
        problem.fused(teacher=None, labels=None)
    targets = TopKTargets(torch.zeros(N, 1, dtype=torch.long), torch.zeros(N, 1))
    with pytest.raises(ValueError, match="'mse' needs all logits of a teacher"):
        problem.fused(teacher=targets, loss_type="mse")


def test_head_follows_the_formulas_of_its_models():
    hidden, weight, bias = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    expected = 2 * torch.tanh((hidden @ weight.t() + bias) * 0.5 / 2)
    torch.testing.assert_close(Head(weight, bias, scale=0.5, softcap=2.0).logits(hidden), expected)
    assert Head(weight.bfloat16()).logits(hidden.bfloat16()).dtype == torch.float32
