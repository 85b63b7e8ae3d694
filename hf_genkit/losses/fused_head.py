"""
Distillation through the output head of a language model, without the logits of a whole batch.

Logits of a large vocabulary are the largest tensors of a training step. Here they exist for one chunk of items at a
time, and the loss's gradient is written over them at once: what remains is the gradient of the hidden states and of the
head's weight, and the latter only where it is trained. Items that no term covers are dropped by the caller, before either head runs.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .classification import upcast
from .closed_forms import CLOSED_FORMS, hard_term, probabilities, soft_term
from .top_k import TopKTargets


MIB = 2**20
# Logits of a chunk, if these are at least 512 items: with fewer, matrix products wait for the weight.
CHUNK_BYTES, CHUNK_ITEMS = {"cpu": 32 * MIB, "accelerator": 512 * MIB}, 512
# The arithmetic goes through a chunk in blocks of float32 logits, which on a CPU stay in its cache.
BLOCK_BYTES = {"cpu": MIB, "accelerator": 64 * MIB}


@dataclass(frozen=True)
class Head:
    """
    The linear layer that makes a model's logits, with what the model does to them afterwards.

    Args:
        weight (`torch.Tensor` of shape `[V, H]`): The projection.
        bias (`torch.Tensor` of shape `[V]`, *optional*): Added to it.
        scale (`float`, *optional*, defaults to 1.0): Multiplies the result, as in Cohere; Granite divides by 1 / scale.
        softcap (`float`, *optional*):
            Squeezes the scaled logits into (-softcap, softcap), by softcap * tanh(logits / softcap), as in Gemma 2.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """The model's logits `[..., V]` for the last hidden states `[..., H]`, at least in float32."""
        return self.finish(F.linear(hidden, self.weight, self.bias))

    def finish(self, projected: Tensor) -> Tensor:
        """Scaled and capped, and no longer in half precision, what the linear layer gave."""
        logits = upcast(projected)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()

    def backward(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """From the gradient of the logits to that of what the linear layer gave."""
        if self.softcap is not None:
            gradient = gradient * (1 - (logits / self.softcap).square())
        return gradient if self.scale == 1 else gradient * self.scale


class TeacherStates(NamedTuple):
    """
    A teacher whose logits are computed chunk by chunk.

    Attributes:
        hidden (`torch.Tensor` of shape `[N, H_t]`): What its head reads.
        head ([`Head`]): Its head.
    """

    hidden: Tensor
    head: Head


class FusedLoss(NamedTuple):
    """
    What [`fused_distillation`] returns.

    Attributes:
        loss (scalar `torch.Tensor`): Weighted sum of all terms, with its gradient.
        kd, ce (`torch.Tensor` of shape `[N]`): Both losses of each item, without weights and gradient, in nats; 0 where there is none.
        predictions (`torch.Tensor` of shape `[N]`, *optional*):
            The student's most likely class; `None` where gradients are computed.
        teacher_predictions (`torch.Tensor` of shape `[N]`, *optional*): The teacher's, likewise.
    """

    loss: Tensor
    kd: Tensor
    ce: Tensor
    predictions: Tensor | None
    teacher_predictions: Tensor | None


def fused_distillation(
    hidden: Tensor,
    head: Head,
    teacher: TeacherStates | TopKTargets | Tensor | None = None,
    *,
    labels: Tensor | None = None,
    soft_weights: Tensor | None = None,
    hard_weights: Tensor | None = None,
    temperature: float = 1.0,
    loss_type: str = "kl",
    loss_kwargs: dict | None = None,
    label_smoothing: float = 0.0,
    chunk_bytes: int | None = None,
    compiled: bool = False,
) -> FusedLoss:
    """
    Soft and hard loss of a student's last hidden states, and the gradients of these and of its head.

    The logits and their softmax are never kept for more than a chunk. The gradient is computed with the values, so the
    backward pass only hands it on; it can run once. Matrix products are in the dtype of the hidden states, or in that of
    autocast, all else in float32 (float64 for float64).

    Args:
        hidden (`torch.Tensor` of shape `[N, H]`):
            Hidden states of the items that a term covers; N may be 0, and the loss is then 0.
        head ([`Head`]): The student's head.
        teacher ([`TeacherStates`], [`TopKTargets`] or `torch.Tensor` of shape `[N, V_t]`, *optional*):
            Hidden states and head of the teacher, its likeliest classes, or its logits; without it there is no soft
            term. A vocabulary of another size is treated as [`align_vocabularies`] does.
        labels (`torch.Tensor` of shape `[N]`, *optional*): Class indices, -100 where there is none.
        soft_weights (`torch.Tensor` of shape `[N]`, *optional*): Weight of each item's soft loss, default 1.
        hard_weights (`torch.Tensor` of shape `[N]`, *optional*): Weight of each item's cross-entropy, default 1.
        temperature (`float`, *optional*, defaults to 1.0): Divides the logits in the soft term.
        loss_type (`str`, *optional*, defaults to `"kl"`): A key of [`DISTILLATION_LOSSES`].
        loss_kwargs (`dict`, *optional*): The loss's own knobs.
        label_smoothing (`float`, *optional*, defaults to 0.0): As in [`label_smoothing_cross_entropy`].
        chunk_bytes (`int`, *optional*):
            Size of a chunk's logits of one model, in bytes; twice that is in use at a time. Defaults to 32 MiB on a
            CPU and 512 MiB elsewhere, or what 512 items take if that is more.
        compiled (`bool`, *optional*, defaults to `False`):
            Whether `torch.compile` makes one kernel of the arithmetic, which pays on a GPU.

    Returns:
        [`FusedLoss`].

    Raises:
        `ValueError`: The temperature isn't positive, the loss relates the items of a batch (`dist` with `gamma`), or it
            needs more than the teacher's likeliest classes.
    """
    loss_kwargs = loss_kwargs or {}
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    if loss_type == "dist" and loss_kwargs.get("gamma", 1.0) != 0:
        raise ValueError(
            "The loss 'dist' relates the items of a batch, which come in chunks here: set its gamma to 0."
        )
    if isinstance(teacher, TopKTargets) and loss_type not in CLOSED_FORMS:
        raise ValueError(
            f"The loss '{loss_type}' needs all logits of a teacher, and top-k targets go with {', '.join(CLOSED_FORMS)}."
        )
    if teacher is None and labels is None:
        raise ValueError("There is neither a teacher nor labels, so there is nothing to learn from.")
    ones = hidden.new_ones(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
    work = _Work(
        head=head,
        teacher=teacher,
        labels=labels,
        soft_weights=ones if soft_weights is None else soft_weights.to(ones.dtype),
        hard_weights=ones if hard_weights is None else hard_weights.to(ones.dtype),
        soft={"temperature": temperature, "loss_type": loss_type, "loss_kwargs": loss_kwargs},
        smoothing=label_smoothing,
        chunk_bytes=chunk_bytes,
        compiled=compiled,
    )
    return FusedLoss(*_FusedDistillation.apply(hidden, head.weight, head.bias, work, torch.is_grad_enabled()))


class _FusedDistillation(torch.autograd.Function):
    """Computes values and gradients in the forward pass, and hands the gradients on in the backward pass."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, work, differentiate):
        needed = zip((hidden, weight, bias), ctx.needs_input_grad, strict=False)
        gradients = _Gradients(*(torch.zeros_like(x) if differentiate and needs else None for x, needs in needed))
        unit = work.unit(hidden)
        result = work.run(hidden, gradients, unit)
        ctx.gradients, ctx.unit = gradients, unit
        ctx.mark_non_differentiable(*(x for x in result[1:] if x is not None))
        return tuple(result)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_loss, *_):
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("Trying to backward through fused_distillation a second time: its gradients are gone.")
        factor = of_loss * ctx.unit
        if torch.compiler.is_compiling() or factor != 1:  # a pass over the head's gradient costs more than a look
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(factor)
        return *gradients, None, None


class _Gradients(NamedTuple):
    """Gradients of hidden states, weight and bias, `None` where none is needed, filled chunk by chunk."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def add(self, gradient: Tensor, chunk: slice, student: "_Projection") -> None:
        """Adds what follows from the gradient `[n, V]` of what the linear layer gave for the items of a chunk."""
        if self.hidden is not None:
            self.hidden[chunk] = gradient @ student.weight
        if self.bias is not None:
            self.bias.add_(gradient.sum(0, dtype=self.bias.dtype))
        if self.weight is None:
            return
        hidden = student.hidden[chunk].to(gradient.dtype)
        if self.weight.dtype == gradient.dtype:
            self.weight.addmm_(gradient.t(), hidden)
            return
        classes = max(1, gradient.numel() // hidden.shape[1])  # each product is as large as a chunk's logits
        for rows, columns in zip(self.weight.split(classes), gradient.split(classes, dim=1), strict=True):
            rows.add_(columns.t() @ hidden)


class _Projection:
    """The linear layer of a head on some items at a time, each time into the same memory."""

    def __init__(self, hidden: Tensor, head: Head, rows: int):
        dtype = _product_dtype(hidden)
        self.hidden, self.weight = hidden, head.weight.to(dtype)
        self.bias = None if head.bias is None else head.bias.to(dtype)
        self.memory = hidden.new_empty(rows, len(head.weight), dtype=dtype)

    def __call__(self, chunk: slice) -> Tensor:
        hidden = self.hidden[chunk].to(self.weight.dtype)
        out = self.memory[: len(hidden)]
        if self.bias is None:
            return torch.mm(hidden, self.weight.t(), out=out)
        return torch.addmm(self.bias, hidden, self.weight.t(), out=out)


@dataclass(frozen=True)
class _Work:
    """Everything that a call is about, beside the tensors that get a gradient."""

    head: Head
    teacher: TeacherStates | TopKTargets | Tensor | None
    labels: Tensor | None
    soft_weights: Tensor
    hard_weights: Tensor
    soft: dict
    smoothing: float
    chunk_bytes: int | None
    compiled: bool

    def unit(self, hidden: Tensor) -> Tensor | float:
        """What gradients are kept in multiples of: float16 would lose small weights before a scaled loss reaches them."""
        if _product_dtype(hidden) != torch.float16 or len(hidden) == 0:
            return 1.0
        largest = torch.maximum(self.soft_weights.max(), self.hard_weights.max())
        return torch.where(largest > 0, largest, 1.0)

    def run(self, hidden: Tensor, gradients: _Gradients, unit: Tensor | float) -> FusedLoss:
        """Values of all items, chunk by chunk; fills the gradients that are to be filled."""
        rows, block = self._sizes(hidden)
        student = _Projection(hidden, self.head, rows)
        teacher = _Projection(*self.teacher, rows) if isinstance(self.teacher, TeacherStates) else None
        options = {
            "head": self.head,
            "teacher_head": None if teacher is None else self.teacher.head,
            "smoothing": self.smoothing,
            "differentiate": any(gradient is not None for gradient in gradients),
            **self.soft,
        }
        terms = _compiled_terms() if self.compiled else _terms
        kd, ce = torch.zeros_like(self.soft_weights), torch.zeros_like(self.soft_weights)
        predictions, expected = (torch.zeros(len(hidden), dtype=torch.long, device=hidden.device) for _ in range(2))
        for start in range(0, len(hidden), rows):
            chunk = slice(start, start + rows)
            projected = student(chunk)
            targets = _items(self.teacher, chunk) if teacher is None else teacher(chunk)
            for first in range(0, len(projected), block):
                inside, part = (slice(a, min(a + block, b)) for a, b in ((first, rows), (start + first, start + rows)))
                kd[part], ce[part], predictions[part], expected[part] = terms(
                    projected[inside],
                    _items(targets, inside),
                    _items(self.labels, part),
                    self.soft_weights[part] / unit,
                    self.hard_weights[part] / unit,
                    **options,
                )
            if options["differentiate"]:
                gradients.add(projected, chunk, student)
        loss = (self.soft_weights * kd + self.hard_weights * ce).sum()
        if options["differentiate"]:
            return FusedLoss(loss, kd, ce, None, None)
        return FusedLoss(loss, kd, ce, predictions, None if self.teacher is None else expected)

    def _sizes(self, hidden: Tensor) -> tuple[int, int]:
        """How many items a chunk and a block have; the chunks are about equal."""
        device = "cpu" if hidden.device.type == "cpu" else "accelerator"
        classes = len(self.head.weight)
        row = classes * _product_dtype(hidden).itemsize
        chunks = math.ceil(len(hidden) * row / (self.chunk_bytes or max(CHUNK_BYTES[device], CHUNK_ITEMS * row)))
        rows = math.ceil(len(hidden) / max(1, chunks))
        return max(1, rows), max(1, rows if self.compiled else BLOCK_BYTES[device] // (4 * classes))


def _terms(
    projected: Tensor,
    teacher: Tensor | TopKTargets | None,
    labels: Tensor | None,
    soft_weights: Tensor,
    hard_weights: Tensor,
    *,
    head: Head,
    teacher_head: Head | None,
    smoothing: float,
    differentiate: bool,
    **soft,
) -> tuple[Tensor | float, Tensor | float, Tensor, Tensor | int]:
    """Soft loss, hard loss and both predictions of some items; writes the gradient over what the linear layer gave."""
    logits = head.finish(projected)
    if isinstance(teacher, Tensor):
        teacher = upcast(teacher) if teacher_head is None else teacher_head.finish(teacher)
    plain = None if labels is None else probabilities(logits)
    kd, ce, gradient, of_hard = 0.0, 0.0, None, None
    if teacher is not None:
        kd, gradient = soft_term(logits, teacher, labels, soft_weights, plain=plain, **soft)
    if labels is not None:
        ce, of_hard = hard_term(plain, labels, hard_weights, smoothing)
        gradient = of_hard if gradient is None else gradient.add_(of_hard)
    if differentiate:
        projected.copy_(head.backward(gradient, logits))
        return kd, ce, 0, 0
    return kd, ce, logits.argmax(-1), 0 if teacher is None else _likeliest(teacher)


def _likeliest(teacher: Tensor | TopKTargets) -> Tensor:
    if isinstance(teacher, TopKTargets):
        return teacher.ids.gather(-1, teacher.log_probs.argmax(-1, keepdim=True))[:, 0]
    return teacher.argmax(-1)


@functools.cache
def _compiled_terms():
    # Kernels wait for memory here: what is used twice is computed twice, from the logits, and not written out between.
    names = ("realize_opcount_threshold", "realize_reads_threshold", "realize_acc_reads_threshold")
    return torch.compile(_terms, options=dict.fromkeys(names, 1000))


def _items(values: Tensor | TopKTargets | None, part: slice) -> Tensor | TopKTargets | None:
    """A slice of what may be a tensor, several, or nothing."""
    if isinstance(values, TopKTargets):
        return TopKTargets(*(value[part] for value in values))
    return None if values is None else values[part]


def _product_dtype(hidden: Tensor) -> torch.dtype:
    """What hidden states are multiplied in, with or without autocast."""
    kind = hidden.device.type
    casts = torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if casts else hidden.dtype
