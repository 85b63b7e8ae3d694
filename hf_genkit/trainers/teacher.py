"""A frozen teacher: loaded, matched to the student's labels, placed, and asked for logits."""

from collections.abc import Callable, Mapping

import torch
from accelerate import Accelerator
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput, logging

from ..hub import hub_id
from ..losses.fused_head import TeacherStates
from ..losses.top_k import TopKTargets, top_k_targets
from .adapters import bare
from .heads import bypassed_head, head_of
from .inputs import argument_names, teacher_inputs, with_float_pixels
from .items import Items, lined_up
from .quantized_loading import in_few_bits
from .tasks import CLASSIFICATION, DISTILLED
from .teacher_cache import KEY_BYTES, TeacherCache, weights_fingerprint
from .top_k_rows import pack_rows, row_bytes, unpack_rows


logger = logging.get_logger(__name__)


def load_teacher(
    name: str,
    task: str,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, BaseImageProcessor | PreTrainedTokenizerBase | None]:
    """
    Loads a teacher, and its image processor or tokenizer where it has one.

    Args:
        name (`str`): Hub id or local folder.
        task (`str`): Pipeline tag, a key of `DISTILLED`.
        revision (`str`, *optional*): Commit, tag or branch.
        dtype (`str`, *optional*): Such as "bfloat16"; defaults to the dtype it was saved in.
        quantization (`str`, *optional*): "4bit" (NF4) or "8bit", with bitsandbytes.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the repo.

    Returns:
        `tuple[PreTrainedModel, BaseImageProcessor | PreTrainedTokenizerBase | None]`: The teacher and its image
        processor or, for language and speech, its tokenizer; `None` where its repo has none, and to classify texts.

    Raises:
        `ImportError`: `quantization` needs bitsandbytes and it is not installed.
    """
    model = DISTILLED[task].from_pretrained(
        name,
        revision=revision,
        dtype=dtype or "auto",
        **in_few_bits(None if quantization is None else int(quantization[0])),
        trust_remote_code=trust_remote_code,
    )
    return model, _processor(name, task, revision, trust_remote_code)


def _processor(
    name: str, task: str, revision: str | None, trust_remote_code: bool
) -> BaseImageProcessor | PreTrainedTokenizerBase | None:
    if task in ("text-classification", "token-classification"):
        return None
    loader = AutoImageProcessor if task == "image-classification" else AutoTokenizer
    try:
        return loader.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except OSError:
        logger.warning(f"The teacher '{name}' comes without a processor: it gets what the student reads.")
        return None


def match_labels(student: PreTrainedModel, teacher: PreTrainedModel) -> torch.Tensor | None:
    """
    Where each of the student's classes stands among the teacher's.

    Names are matched to names. Where either model has only the generic `LABEL_0`, `LABEL_1`, ... classes are matched
    by position.

    Returns:
        `torch.Tensor` or `None`: Indices `[classes]` into the teacher's logits; `None` if the order is the same.

    Raises:
        `ValueError`: The models have different numbers of classes, or names that don't correspond.
    """
    ours, theirs = student.config.id2label, teacher.config.id2label
    if len(ours) != len(theirs):
        raise ValueError(
            f"The teacher has {len(theirs)} labels and the student {len(ours)}: both need the same label set."
        )
    generic = {f"LABEL_{i}" for i in range(len(ours))}
    if set(ours.values()) == generic or set(theirs.values()) == generic:
        return None
    if set(ours.values()) != set(theirs.values()):
        only_teacher = sorted(set(theirs.values()) - set(ours.values()))
        only_student = sorted(set(ours.values()) - set(theirs.values()))
        raise ValueError(
            f"The teacher and the student have different label sets: only the teacher has {only_teacher}, "
            f"only the student has {only_student}."
        )
    position = {name: i for i, name in theirs.items()}
    order = [position[ours[i]] for i in range(len(ours))]
    return None if order == list(range(len(order))) else torch.tensor(order)


def frames_a_second(model: PreTrainedModel) -> int:
    """How many frames a CTC model makes of a second of sound at 16 kHz."""
    return int(model._get_feat_extract_output_lengths(torch.tensor(16_000)))


def check_vocabularies(
    student_tokenizer: PreTrainedTokenizerBase | None,
    teacher_tokenizer: PreTrainedTokenizerBase | None,
    loss_type: str,
) -> None:
    """
    Refuses a teacher whose tokens are not the student's, unless the loss compares them by rank.

    Vocabularies of one family may end in other unused places: the tokens that both have must have the same ids, and one
    vocabulary must hold the other, or nearly so.

    Raises:
        `ValueError`: The tokenizers differ, and `loss_type` is not "uld".
    """
    given = (student_tokenizer, teacher_tokenizer)
    tokenizers = [part.tokenizer if isinstance(part, ProcessorMixin) else part for part in given]
    if loss_type == "uld" or not all(isinstance(part, PreTrainedTokenizerBase) for part in tokenizers):
        return
    ours, theirs = (tokenizer.get_vocab() for tokenizer in tokenizers)
    moved = [token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token]]
    shared = len(ours.keys() & theirs.keys()) / min(len(ours), len(theirs))
    if moved or shared < 0.98:
        example = f": '{moved[0]}' is {ours[moved[0]]} here and {theirs[moved[0]]} there" if moved else ""
        raise ValueError(
            f"The student's tokenizer ({len(ours):,} tokens) is not the teacher's ({len(theirs):,} tokens){example}; set "
            "loss_type to 'uld', which compares them by rank, or choose a teacher with the same tokenizer."
        )


class Teacher:
    """
    A teacher that never trains: frozen, in eval mode, in its own dtype, outside optimizer and checkpoints.

    Args:
        model (`PreTrainedModel` or `Callable`):
            The teacher, or a function that is called like one, with the model inputs as keywords, and returns logits
            `[batch, (positions,) classes]` or an output that has them.
        student (`PreTrainedModel`): The student, for the order of its labels.
        accelerator (`Accelerator`): Says where the teacher runs; under FSDP2 it is sharded like the student.
        processor (`BaseImageProcessor`, *optional*): How the teacher wants its pixels.
        name (`str`, *optional*): Where the teacher comes from; defaults to what its config says.
        task (`str`, *optional*, defaults to `"image-classification"`): A key of `DISTILLED`.
        cache_path (`str`, *optional*): Folder to keep its targets in; needs a teacher with weights.
        top_k (`int`, *optional*): Give, and keep, only its most likely classes, and the mass of all others.
        temperature (`float`, *optional*, defaults to 1.0): At which those are likely.

    Attributes:
        fuses (`bool`): Whether its logits are what [`head_of`] makes of its last hidden states, as [`can_fuse`] finds out.
    """

    def __init__(
        self,
        model: PreTrainedModel | Callable,
        student: PreTrainedModel,
        accelerator: Accelerator,
        processor: BaseImageProcessor | PreTrainedTokenizerBase | None = None,
        name: str | None = None,
        *,
        task: str = "image-classification",
        cache_path: str | None = None,
        top_k: int | None = None,
        temperature: float = 1.0,
    ):
        self.model, self.accelerator, self.task = model, accelerator, task
        self.top_k, self.temperature = top_k, temperature
        self.name = name or (model.config._name_or_path if isinstance(model, PreTrainedModel) else None) or None
        self.processor = processor if isinstance(processor, BaseImageProcessor) else None
        self.order = None
        self.shared = self._classes_of(student)  # one family's vocabularies may be padded to other sizes
        if isinstance(model, PreTrainedModel) and task in CLASSIFICATION:
            self.order = match_labels(student, model)
        if top_k is not None and top_k >= self.shared:
            raise ValueError(
                f"`teacher_top_k` is {top_k}, but it must leave some of the {self.shared} classes to the others."
            )
        self.argument_names = set()
        self.fingerprint = None
        self.cache = None
        self.fuses = False
        if isinstance(model, torch.nn.Module):
            self.argument_names = argument_names(bare(model).forward)
            model.requires_grad_(False).eval()
            if cache_path is not None:
                self.fingerprint = weights_fingerprint(model)
                self._open_cache(cache_path)
            self._place()

    def _open_cache(self, path: str) -> None:
        pixels = self.processor.to_json_string() if self.processor is not None else ""
        identity = f"{self.fingerprint} {pixels}"
        width, dtype = self._classes_of(self.model), self.dtype
        if self.top_k is not None:
            identity += f" top {self.top_k} of {self.shared} at {self.temperature:g}"
            width, dtype = row_bytes(self.top_k, self.shared), torch.uint8
        with self.accelerator.main_process_first():
            self.cache = TeacherCache(path, identity, width, dtype, rank=self.accelerator.process_index)

    def _place(self) -> None:
        if getattr(self.model, "quantization_method", None) is not None:
            return
        self.model.to(self.accelerator.device)
        if self.accelerator.is_fsdp2:
            from torch.distributed.fsdp import fully_shard

            fully_shard(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type that the teacher computes in."""
        return next((p.dtype for p in self.model.parameters() if p.dtype.is_floating_point), torch.float32)

    def _classes_of(self, model: PreTrainedModel) -> int:
        """How many classes, or tokens, a model's logits are about."""
        return model.config.num_labels if self.task in CLASSIFICATION else model.config.vocab_size

    @property
    def title(self) -> str:
        """What people may call it: its id on the Hub, or its class and size."""
        if hub_id(self.name) is not None or not isinstance(self.model, PreTrainedModel):
            return self.name or "a function"
        return f"{type(self.model).__name__} ({self.model.num_parameters():,} parameters)"

    def targets(
        self,
        inputs: Mapping[str, torch.Tensor],
        items: Items,
        keys: bytes | None = None,
        outputs: ModelOutput | None = None,
        **options,
    ) -> torch.Tensor | TopKTargets:
        """
        What the teacher says of the soft items, from the cache where it holds the whole batch.

        A batch of which one sample is missing is computed whole, so that what a run sees doesn't depend on how much
        of a batch an interrupted one had stored.

        Args:
            inputs (`Mapping[str, torch.Tensor]`): The batch's model inputs.
            items ([`Items`]): Its items.
            keys (`bytes`, *optional*): The samples' keys, joined; `None` leaves the cache aside.
            outputs (`ModelOutput`, *optional*): What [`~Teacher.outputs`] has returned for the batch already.
            options: Passed to [`~Teacher.outputs`].

        Returns:
            `torch.Tensor` or [`~hf_genkit.losses.TopKTargets`]: Logits `[items, classes]`, classes in the student's
            order, or the `top_k` most likely ones.
        """
        kept = self._kept(inputs, items)
        if outputs is not None:
            rows = self._rows(lined_up(self.task, outputs.logits)[kept])
        elif self.cache is None or keys is None:
            rows = self._rows(self.compute(inputs, **options)[kept])
        else:
            samples = [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]
            found = self.cache.lookup(samples)
            if found is None:
                rows = self._rows(self.compute(inputs, **options)[kept])
                counts = kept.reshape(len(kept), -1).sum(1).tolist()
                self.cache.store(samples, list(self._packed(rows).split(counts)))
                rows = rows if self.top_k is None else self._unpacked(self._packed(rows))
            else:
                rows = self._unpacked(torch.cat(found))
        if isinstance(rows, TopKTargets):
            return rows
        if self.task == "token-classification":
            rows = rows[items.soft[kept]]
        return rows if self.order is None else rows[..., self.order.to(rows.device)]

    @property
    def gives_states(self) -> bool:
        """Whether its head is to be left to a loss that computes the logits itself."""
        return self.fuses and self.cache is None and self.top_k is None

    def states(self, inputs: Mapping[str, torch.Tensor], items: Items, **options) -> TeacherStates:
        """What its head reads at the soft items, and that head; arguments as in [`~Teacher.targets`]."""
        with bypassed_head(self.model) as captured:
            self.outputs(inputs, **options)
        return TeacherStates(lined_up(self.task, captured.hidden)[items.soft], head_of(self.model))

    def reads_encoding_of(self, student: PreTrainedModel) -> bool:
        """Whether the student's encoder is frozen and equal to its own, so that one of the two needs to run."""
        if not isinstance(self.model, PreTrainedModel):
            return False
        theirs, ours = self.model.get_encoder().state_dict(), student.get_encoder().state_dict()
        if (
            any(parameter.requires_grad for parameter in student.get_encoder().parameters())
            or theirs.keys() != ours.keys()
        ):
            return False
        return all(torch.equal(theirs[name].to(value), value) for name, value in ours.items())

    def logits(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The teacher's logits of a whole batch, `[batch, (positions,) classes]`, classes in the student's order."""
        logits = self.compute(inputs)
        return logits if self.order is None else logits[..., self.order.to(logits.device)]

    def prepare(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch as the teacher reads it: its own inputs, pixels normalised for it and in its dtype."""
        inputs = with_float_pixels(teacher_inputs(inputs, self.argument_names), self.processor)
        for name in ("pixel_values", "input_features", "input_values"):
            if name in inputs and isinstance(self.model, torch.nn.Module):
                inputs = {**inputs, name: inputs[name].to(self.dtype)}
        return inputs

    @torch.no_grad()
    def outputs(self, inputs: Mapping[str, torch.Tensor], **options) -> ModelOutput | torch.Tensor:
        """
        Runs the teacher.

        Args:
            inputs (`Mapping[str, torch.Tensor]`): The batch's model inputs.
            options: More arguments for its `forward`, such as `output_hidden_states`; `encoder_outputs` (`torch.Tensor`)
                is what its encoder would say.
        """
        if isinstance(self.model, torch.nn.Module):
            self.model.eval()
        own = self.prepare(inputs)
        if "encoder_outputs" in options:
            own.pop("input_features", None)
            options["encoder_outputs"] = BaseModelOutput(options["encoder_outputs"].to(self.dtype))
        return self.model(**own, **options)

    def compute(self, inputs: Mapping[str, torch.Tensor], **options) -> torch.Tensor:
        """Its logits `[batch, (positions,) classes]` in its own order, without the last one if they are about the next token."""
        output = self.outputs(inputs, **options)
        return lined_up(self.task, output if isinstance(output, torch.Tensor) else output.logits)

    def _kept(self, inputs: Mapping[str, torch.Tensor], items: Items) -> torch.Tensor:
        """The items whose targets the cache keeps: for token classification all tokens, whichever are labelled."""
        if items.theirs is not None:
            return items.theirs
        if self.task != "token-classification":
            return items.soft
        return teacher_inputs(inputs, self.argument_names)["attention_mask"].bool()

    def _rows(self, logits: torch.Tensor) -> torch.Tensor | TopKTargets:
        return (
            logits if self.top_k is None else top_k_targets(logits[..., : self.shared], self.top_k, self.temperature)
        )

    def _packed(self, rows: torch.Tensor | TopKTargets) -> torch.Tensor:
        if self.top_k is None:
            return rows.cpu()
        parts = (part.cpu().numpy() for part in rows)
        return torch.from_numpy(pack_rows(*parts, self.shared))

    def _unpacked(self, rows: torch.Tensor) -> torch.Tensor | TopKTargets:
        if self.top_k is None:
            return rows.to(self.accelerator.device)
        parts = unpack_rows(rows.numpy(), self.top_k, self.shared)
        return TopKTargets(*(torch.from_numpy(part).to(self.accelerator.device) for part in parts))
