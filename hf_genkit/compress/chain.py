"""A chain of compression: prune, mask, distil, fine-tune, quantize, export; every form of the model is kept and judged."""

import copy
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel, set_seed

from ..arguments import CompressionArguments, Link, check_choice
from ..hub.push import ONNX_FOLDER
from ..trainers.distillation_config import DistillationConfig
from ..trainers.distillation_methods import on_labels_alone
from ..trainers.distillation_trainer import DistillationTrainer
from ..trainers.progress import show_one_line
from .export import export_onnx
from .gradual_pruning import GradualPruning
from .masking import make_permanent, prune_n_m, prune_weights
from .onnx_model import import_onnxruntime, load_onnx
from .qat import prepare_qat
from .quantization import quantize
from .structured import prune_structure


@dataclass
class Form:
    """
    One form of the model.

    Args:
        name (`str`): What was done last.
        model (`PreTrainedModel` or [`~hf_genkit.compress.OnnxModel`]): The model.
        folder (`Path`): Where it is saved.
    """

    name: str
    model: torch.nn.Module
    folder: Path


class CompressionChain:
    """
    Takes a trained model through the links of a chain.

    Args:
        model (`PreTrainedModel`): The model to make smaller; it teaches wherever the chain distils.
        args ([`~hf_genkit.DistillationConfig`]): How it is trained in between, and the folder.
        choice ([`~hf_genkit.arguments.CompressionArguments`]): The links.
        train, evaluation: Model inputs to train on and to watch while training.
        collator, processor: As for [`~hf_genkit.DistillationTrainer`].
        batches (`Callable[[int], Iterable[dict]]`): So many training samples, as batches that the model reads.

    Attributes:
        forms (`list[Form]`): The model as it was and after each link.

    Raises:
        `ValueError`: A link can't be done with this model. Nothing has been trained or written then.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: DistillationConfig,
        choice: CompressionArguments,
        *,
        train,
        evaluation,
        collator,
        processor,
        batches: Callable[[int], Iterable[dict]],
    ):
        self.args, self.choice = args, choice
        self.train, self.evaluation, self.collator, self.processor = train, evaluation, collator, processor
        self.batches = batches
        self.out = Path(args.output_dir)
        self.teacher = model.eval()
        self._rehearse()
        self.forms = [Form("as it was", self.teacher, self.out / "forms" / "0-as-it-was")]

    def _rehearse(self) -> None:
        """Does everything that needs no training on a copy, so that what can't be done is refused at once."""
        model = copy.deepcopy(self.teacher)
        for link in self.choice.links:
            if link.kind in ("distil", "finetune", "qat"):
                self._arguments(link, self.out)
            if link.kind == "prune":
                model = self._pruned(model, link)
            elif link.kind == "mask":
                model = _masked(model, link)
            elif link.kind == "quantize":
                quantize(model, **_quantization(link))
            elif link.kind == "export":
                _int8(link)
                import_onnxruntime()
            elif link.kind == "qat":
                prepare_qat(copy.deepcopy(model))

    @property
    def has_masks(self) -> bool:
        return any(link.kind == "mask" for link in self.choice.links)

    def run(self) -> list[Form]:
        """Takes the model through all links; each form is saved in `<output_dir>/forms`, the last one in `output_dir`."""
        model = copy.deepcopy(self.teacher)
        self._save(self.forms[0])
        for number, link in enumerate(self.choice.links, start=1):
            folder = self.out / "forms" / f"{number}-{link.kind}"
            form = Form(link.text, model, folder)
            if link.kind == "prune":
                model = form.model = self._pruned(model, link)
            elif link.kind == "mask":
                model = form.model = _masked(copy.deepcopy(model), link)
            elif link.kind == "quantize":
                form.model = quantize(model, **_quantization(link))
            elif link.kind == "export":
                form.model = self._exported(model, link, folder)
            else:
                model = form.model = self._trained(copy.deepcopy(model), link, folder)
            self._save(form)
            self.forms.append(form)
        kept = [form for form in self.forms if isinstance(form.model, PreTrainedModel)][-1]
        kept.model.save_pretrained(self.out)
        self.processor.save_pretrained(self.out)
        return self.forms

    def _save(self, form: Form) -> None:
        form.model.eval()
        if isinstance(form.model, PreTrainedModel):
            form.model.save_pretrained(form.folder)
            self.processor.save_pretrained(form.folder)

    def _pruned(self, model: PreTrainedModel, link: Link) -> PreTrainedModel:
        options = dict(link.options)
        if options.get("importance") == "taylor":
            options["batches"] = self.batches(self.choice.calibration_samples)
        return prune_structure(model, **options)

    def _exported(self, model: PreTrainedModel, link: Link, folder: Path) -> torch.nn.Module:
        int8 = _int8(link)
        examples = [{name: value for name, value in batch.items() if name != "labels"} for batch in self.batches(32)]
        calibration = list(self.batches(self.choice.calibration_samples)) if int8 == "static" else None
        export_onnx(model, folder, examples[0], processor=self.processor, int8=int8, calibration=calibration)
        shutil.copytree(folder, self.out / ONNX_FOLDER, dirs_exist_ok=True)
        return load_onnx(folder, threads=1)

    def _arguments(self, link: Link, folder: Path) -> DistillationConfig:
        """How a link that trains does it."""
        rate = link.options.get("learning_rate", self.args.learning_rate)
        changes = {"num_train_epochs": link.options.get("epochs", self.args.num_train_epochs), "learning_rate": rate}
        changes |= {"output_dir": str(folder), "push_to_hub": False}
        return replace(on_labels_alone(self.args) if link.kind == "finetune" else self.args, **changes)

    def _trained(self, model: PreTrainedModel, link: Link, folder: Path) -> PreTrainedModel:
        if link.kind == "qat":
            prepare_qat(model)
        args = self._arguments(link, folder)
        options = {
            "train_dataset": self.train,
            "eval_dataset": self.evaluation,
            "data_collator": self.collator,
            "processing_class": self.processor,
            "callbacks": [GradualPruning()] if self.has_masks else [],  # what is masked stays zero
        }
        set_seed(self.args.seed)
        trainer = DistillationTrainer(model, None if link.kind == "finetune" else self.teacher, args, **options)
        show_one_line(trainer, link.text).train()
        self.teacher.cpu()  # all forms are judged on one core
        return trainer.accelerator.unwrap_model(trainer.model).cpu().eval()


def _masked(model: PreTrainedModel, link: Link) -> PreTrainedModel:
    options = dict(link.options)
    by_groups = "n" in options or "m" in options
    return make_permanent(prune_n_m(model, **options) if by_groups else prune_weights(model, **options))


def _int8(link: Link) -> str | None:
    int8 = link.options.get("int8", "none")
    check_choice("int8", int8, ["none", "dynamic", "static"])
    return None if int8 == "none" else int8


def _quantization(link: Link) -> dict:
    return {"method": "int8_dynamic", **link.options}
