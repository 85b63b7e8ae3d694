"""How a distillation trainer compares hidden states: its projectors train, resume and stay behind with it."""

from pathlib import Path

import torch
from transformers.utils import ModelOutput

from . import checkpointing, companions
from .feature_matching import FeatureMatcher
from .tasks import CTC, SEQ2SEQ


COMPANIONS = "companions"


class FeatureTermsMixin:
    """
    The terms of `feature_loss` and `relation_loss`, and whatever trains beside the student; expects to stand before
    [`GenkitTrainer`] among the bases.
    """

    matcher: FeatureMatcher | None = None

    def match_features(self) -> None:
        """
        Looks at the hidden states of one batch, and makes the projectors that they need.

        Raises:
            `ValueError`: There is no teacher that has hidden states, or they can't be brought together.
        """
        if self.teacher is None or not isinstance(self.teacher.model, torch.nn.Module):
            kind = "there is no teacher" if self.teacher is None else "the teacher is a function without any"
            raise ValueError(f"`feature_loss` and `relation_loss` compare hidden states, but {kind}.")
        with checkpointing.preserved_rng(), torch.no_grad():
            batch = self.take_apart(self._prepare_inputs(self.probe()))
            was_training = self.student.training
            ours = self.student.eval()(**batch.own, output_hidden_states=True)
            self.student.train(was_training)
            theirs = self.teacher.outputs(batch.inputs, output_hidden_states=True)
        name = self.states_name
        self.matcher = FeatureMatcher(
            [state.shape for state in ours[name]],
            [state.shape for state in theirs[name]],
            self.args.feature_loss or {},
            self.args.relation_loss or {},
            self.args.layer_map,
            self.args.projector,
            images=self.task == "image-classification",
            states=name,
        )
        if self.matcher.widths:
            projectors = self.matcher.projectors().to(self.student.device)
            companions.attach(self.accelerator.unwrap_model(self.model), projectors, self.matcher.project)

    @property
    def states_name(self) -> str:
        """What transformers calls the hidden states that lie under the head."""
        return "decoder_hidden_states" if self.task in SEQ2SEQ else "hidden_states"

    def feature_values(self, batch, outputs: ModelOutput, teacher_outputs: ModelOutput) -> dict[str, torch.Tensor]:
        """The value of each term of the hidden states for each sample, `[batch]`."""
        mask = None
        if self.task in SEQ2SEQ:
            mask = batch.items.soft
        elif self.task not in ("image-classification", CTC):
            mask = batch.own["attention_mask"].bool() if "attention_mask" in batch.own else None
        return self.matcher(outputs, teacher_outputs[self.states_name], mask)

    # ---- What trains beside the student, from one checkpoint to the next ----

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        model = self.accelerator.unwrap_model(self.model)
        if companions.NAME in model._modules and self.args.should_save and self.is_in_train:
            folder = output_dir or self.args.output_dir
            checkpointing.save_state(folder, COMPANIONS, companions.companion_state(model))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_companions(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_companions(self.state.best_model_checkpoint)

    def _load_companions(self, checkpoint: str) -> None:
        if Path(checkpoint, f"{COMPANIONS}.json").is_file():
            model = self.accelerator.unwrap_model(self.model)
            companions.load_companion_state(model, checkpointing.load_state(checkpoint, COMPANIONS))
