"""What lm_head.py compares: a head and a loss to be differentiated, by several packages, and how memory is counted."""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from hf_genkit.losses.fused_head import FusedLoss, Head, TeacherStates, fused_distillation


MODULES = {"trl": "trl.trainer.distillation_trainer", "liger": "liger_kernel.chunked_loss.jsd_loss"}


@dataclass
class Problem:
    """Hidden states and heads of a student and its teacher, and labels; the loss is half soft and half hard."""

    hidden: torch.Tensor
    weight: torch.Tensor
    teacher_hidden: torch.Tensor
    teacher_weight: torch.Tensor
    labels: torch.Tensor
    temperature: float = 2.0
    beta: float = 0.0

    @classmethod
    def draw(cls, size, trained: bool, *, dtype=torch.float32, device="cpu", labelled=0.5, noise=1.0, **options):
        """Gaussian states of variance 1, logits of variance 4, and a student that is its teacher with noise."""
        classes, width, items = size
        generator = torch.Generator(device).manual_seed(0)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, device=device)

        weight, hidden = normal(classes, width) * (2 / width**0.5), normal(items, width)
        ours = weight + noise * normal(classes, width) / width**0.5
        labels = torch.randint(classes, (items,), generator=generator, device=device)
        labels[torch.rand(items, generator=generator, device=device) >= labelled] = -100
        tensors = [x.to(dtype) for x in (hidden, ours, hidden, weight)]
        tensors[0].requires_grad_()
        return cls(
            tensors[0], tensors[1].requires_grad_(trained), tensors[2].detach().clone(), tensors[3], labels, **options
        )

    def clear(self) -> None:
        self.hidden.grad = self.weight.grad = None

    def in_double(self, kept: torch.Tensor) -> "Problem":
        """The same in float64, the labelled positions alone."""
        hidden, teacher_hidden = (x.detach()[kept].double() for x in (self.hidden, self.teacher_hidden))
        weight = self.weight.detach().double().requires_grad_(self.weight.requires_grad)
        return replace(
            self,
            hidden=hidden.requires_grad_(),
            weight=weight,
            teacher_hidden=teacher_hidden,
            teacher_weight=self.teacher_weight.double(),
            labels=self.labels[kept],
        )


# ---- Contenders: each computes a loss that has its gradients ----


def soft_term(problem: Problem, logits: torch.Tensor, upcast: bool = True) -> torch.Tensor:
    """KL of each position, times the squared temperature, by plain autograd from the student's logits."""
    with torch.no_grad():
        teacher = F.linear(problem.teacher_hidden, problem.teacher_weight)
        log_teacher = ((teacher.float() if half(teacher) and upcast else teacher) / problem.temperature).log_softmax(
            -1
        )
        del teacher
    log_student = ((logits.float() if half(logits) and upcast else logits) / problem.temperature).log_softmax(-1)
    kl = F.kl_div(log_student, log_teacher, reduction="none", log_target=True)
    return problem.temperature**2 * kl.sum(-1)


def half(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.bfloat16


def naive(problem: Problem) -> torch.Tensor:
    valid = problem.labels != -100
    logits = F.linear(problem.hidden, problem.weight)
    soft = (soft_term(problem, logits) * valid).sum() / valid.sum()
    return 0.5 * soft + 0.5 * F.cross_entropy(logits, problem.labels)


def fused(problem: Problem, compiled: bool = False) -> FusedLoss:
    valid = problem.labels != -100
    weights = (0.5 / valid.sum()).expand(int(valid.sum()))
    return fused_distillation(
        problem.hidden[valid],
        Head(problem.weight),
        TeacherStates(problem.teacher_hidden[valid], Head(problem.teacher_weight)),
        labels=problem.labels[valid],
        soft_weights=weights,
        hard_weights=weights,
        temperature=problem.temperature,
        loss_type="jsd" if problem.beta else "kl",
        loss_kwargs={"beta": problem.beta} if problem.beta else None,
        compiled=compiled,
    )


def ours(problem: Problem, compiled: bool = False) -> torch.Tensor:
    return fused(problem, compiled).loss


def liger(problem: Problem, compiled: bool = False, soft_alone: bool = False) -> torch.Tensor:
    module = importlib.import_module(MODULES["liger"])
    share = 1.0 if soft_alone else 0.5
    loss = module.LigerFusedLinearJSDLoss(
        weight_hard_loss=1 - share,
        weight_soft_loss=share * problem.temperature**2,
        beta=problem.beta,
        temperature=problem.temperature,
        compiled=compiled,
    )
    return loss(problem.hidden, problem.weight, problem.teacher_hidden, problem.teacher_weight, problem.labels)


def trl(problem: Problem) -> torch.Tensor:
    """Half the divergence, and no cross-entropy."""
    loss, _, _ = importlib.import_module(MODULES["trl"])._chunked_divergence_loss(
        problem.hidden[None],
        problem.teacher_hidden[None],
        problem.weight,
        problem.teacher_weight,
        (problem.labels != -100)[None],
        beta=problem.beta,
        temperature=problem.temperature,
    )
    return 0.5 * problem.temperature**2 * loss


@functools.cache
def contenders(gpu: bool) -> dict[str, Callable[[Problem], torch.Tensor]]:
    """Those that are installed, hf_genkit last."""
    found = {} if gpu else {"naive": naive}
    for name, run in {"liger": liger, **({} if gpu else {"trl": trl})}.items():
        try:
            importlib.import_module(MODULES[name])
        except ImportError as error:
            print(f"SKIPPED: {name} can't be imported ({error}); see --peers.", flush=True)
        else:
            found[name] = run
    return {**found, "hf_genkit": ours}


# ---- Memory ----


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors made inside that were alive together."""

    def __init__(self, *known: torch.Tensor):
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in known}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return result

    def note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self.known:
            return
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))


def live_mib(problem: Problem, contender: Callable) -> float:
    problem.clear()
    known = (problem.hidden, problem.weight, problem.teacher_hidden, problem.teacher_weight, problem.labels)
    with LiveBytes(*known) as memory:
        contender(problem).backward()
    problem.clear()
    return memory.peak / 2**20
