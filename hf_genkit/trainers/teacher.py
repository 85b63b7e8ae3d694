"""A frozen teacher: loaded, matched to the student's labels, placed, and asked for logits."""

from collections.abc import Callable, Mapping

import torch
from accelerate import Accelerator
from transformers import AutoImageProcessor, PreTrainedModel, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from .inputs import argument_names, teacher_inputs, with_float_pixels
from .quantized_loading import in_few_bits
from .tasks import AUTO_CLASSES
from .teacher_cache import KEY_BYTES, TeacherCache, weights_fingerprint


logger = logging.get_logger(__name__)


def load_teacher(
    name: str,
    task: str,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, BaseImageProcessor | None]:
    """
    Loads a teacher, and its image processor where it has one.

    Args:
        name (`str`): Hub id or local folder.
        task (`str`): Pipeline tag, a key of `AUTO_CLASSES`.
        revision (`str`, *optional*): Commit, tag or branch.
        dtype (`str`, *optional*): Such as "bfloat16"; defaults to the dtype it was saved in.
        quantization (`str`, *optional*): "4bit" (NF4) or "8bit", with bitsandbytes.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the repo.

    Returns:
        `tuple[PreTrainedModel, BaseImageProcessor | None]`: The teacher and its image processor (`None` for text, and
        where its repo has none).

    Raises:
        `ImportError`: `quantization` needs bitsandbytes and it is not installed.
    """
    model = AUTO_CLASSES[task].from_pretrained(
        name,
        revision=revision,
        dtype=dtype or "auto",
        **in_few_bits(None if quantization is None else int(quantization[0])),
        trust_remote_code=trust_remote_code,
    )
    return model, _image_processor(name, revision, trust_remote_code) if task == "image-classification" else None


def _image_processor(name: str, revision: str | None, trust_remote_code: bool) -> BaseImageProcessor | None:
    try:
        return AutoImageProcessor.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except OSError:
        logger.warning(f"The teacher '{name}' comes without an image processor: it gets the student's pixels.")
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


class Teacher:
    """
    A teacher that never trains: frozen, in eval mode, in its own dtype, outside optimizer and checkpoints.

    Args:
        model (`PreTrainedModel` or `Callable`):
            The teacher, or a function that is called like one, with the model inputs as keywords, and returns logits
            `[batch, (tokens,) classes]` or an output that has them.
        student (`PreTrainedModel`): The student, for the order of its labels.
        accelerator (`Accelerator`): Says where the teacher runs; under FSDP2 it is sharded like the student.
        processor (`BaseImageProcessor`, *optional*): How the teacher wants its pixels.
        name (`str`, *optional*): Where the teacher comes from; defaults to what its config says.
        cache_path (`str`, *optional*): Folder to keep its logits in; needs a teacher with weights.
        per_token (`bool`, *optional*, defaults to `False`): Whether the logits are `[batch, tokens, classes]`.
    """

    def __init__(
        self,
        model: PreTrainedModel | Callable,
        student: PreTrainedModel,
        accelerator: Accelerator,
        processor: BaseImageProcessor | PreTrainedTokenizerBase | None = None,
        name: str | None = None,
        cache_path: str | None = None,
        per_token: bool = False,
    ):
        self.model, self.accelerator, self.per_token = model, accelerator, per_token
        self.name = name or (model.config._name_or_path if isinstance(model, PreTrainedModel) else None) or None
        self.processor = processor if isinstance(processor, BaseImageProcessor) else None
        self.order = match_labels(student, model) if isinstance(model, PreTrainedModel) else None
        self.argument_names = set()
        self.fingerprint = None
        self.cache = None
        if isinstance(model, torch.nn.Module):
            self.argument_names = argument_names(model.forward)
            model.requires_grad_(False).eval()
            self.fingerprint = weights_fingerprint(model)
            if cache_path is not None:
                self._open_cache(cache_path, student.config.num_labels)
            self._place()

    def _open_cache(self, path: str, classes: int) -> None:
        pixels = self.processor.to_json_string() if self.processor is not None else ""
        with self.accelerator.main_process_first():
            self.cache = TeacherCache(
                path,
                f"{self.fingerprint} {pixels}",
                classes,
                self.dtype,
                rank=self.accelerator.process_index,
            )

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

    def logits(self, inputs: Mapping[str, torch.Tensor], keys: bytes | None = None) -> torch.Tensor:
        """
        The teacher's logits, from the cache where it holds the whole batch.

        A batch of which one sample is missing is computed whole, so that what a run sees doesn't depend on how much
        of a batch an interrupted one had stored.

        Args:
            inputs (`Mapping[str, torch.Tensor]`): The batch's model inputs.
            keys (`bytes`, *optional*): The samples' keys, joined; `None` leaves the cache aside.

        Returns:
            `torch.Tensor`: `[batch, (tokens,) classes]`, classes in the student's order.
        """
        if self.cache is None or keys is None:
            logits = self.compute(inputs)
        else:
            samples = [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]
            rows = self.cache.lookup(samples)
            if rows is None:
                logits = self.compute(inputs)
                self.cache.store(samples, self._to_rows(logits, inputs))
            else:
                logits = self._from_rows(rows, inputs).to(self.accelerator.device)
        return logits if self.order is None else logits[..., self.order.to(logits.device)]

    def prepare(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch as the teacher reads it: its own inputs, pixels normalised for it and in its dtype."""
        inputs = with_float_pixels(teacher_inputs(inputs, self.argument_names), self.processor)
        if "pixel_values" in inputs and isinstance(self.model, torch.nn.Module):
            inputs = {**inputs, "pixel_values": inputs["pixel_values"].to(self.dtype)}
        return inputs

    @torch.no_grad()
    def compute(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Runs the teacher: logits `[batch, (tokens,) classes]` in its own order of classes."""
        if isinstance(self.model, torch.nn.Module):
            self.model.eval()
        output = self.model(**self.prepare(inputs))
        return output if isinstance(output, torch.Tensor) else output.logits

    def _to_rows(self, logits: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Each sample's logits `[rows, classes]`: one row a sample, or one for each token attended to."""
        logits = logits.cpu()
        if not self.per_token:
            return list(logits.split(1))
        mask = self._attended(inputs)
        return [logits[i][mask[i]] for i in range(len(logits))]

    def _from_rows(self, rows: list[torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What [`~Teacher._to_rows`] took apart, with zeros where there is padding."""
        joined = torch.cat(rows)
        if not self.per_token:
            return joined
        mask = self._attended(inputs)
        return joined.new_zeros(*mask.shape, joined.shape[-1]).masked_scatter(mask[..., None], joined)

    def _attended(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return teacher_inputs(inputs, self.argument_names)["attention_mask"].cpu().bool()
