"""How a distillation trainer compares hidden states: its projectors train, resume and stay behind with it."""

from collections.abc import Mapping
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
    is_prepared = False

    def match_features(self) -> None:
        """
        Looks at the hidden states of one batch, and at which projectors they need.

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

    def new_companions(self) -> torch.nn.ModuleDict:
        """What trains beside a student: its projectors."""
        return torch.nn.ModuleDict() if self.matcher is None else self.matcher.projectors()

    def run_beside(self, networks: torch.nn.ModuleDict, outputs: ModelOutput, beside: Mapping) -> dict:
        """What these do in its forward pass; what they return is added to its outputs."""
        return self.matcher.project(networks, outputs, beside)

    def attach_companions(self, model: torch.nn.Module) -> None:
        """
        Puts new ones beside a student.

        Raises:
            `ValueError`: The student is to be sharded.
        """
        networks = self.new_companions()
        if len(networks) == 0:
            return
        if self._has_sharded_state:
            raise ValueError(
                "What trains beside a student, such as projectors or a discriminator, can't be sharded by FSDP or DeepSpeed."
            )
        companions.attach(model, networks.to(self.args.device), self.run_beside)

    def call_model_init(self, trial=None):
        model = super().call_model_init(trial)
        if self.is_prepared:  # the first one is made before its teacher is known
            self.attach_companions(model)
        return model

    @property
    def states_name(self) -> str:
        """What transformers calls the hidden states that lie under the head."""
        return "decoder_hidden_states" if self.task in SEQ2SEQ else "hidden_states"

    @property
    def not_predicted(self) -> tuple[str, ...]:
        """Hidden states that are there to be compared are no predictions."""
        return ("loss",) if self.matcher is None else ("loss", "encoder_hidden_states", self.states_name, "projected")

    def feature_values(self, batch, outputs: ModelOutput, teacher_outputs: ModelOutput) -> dict[str, torch.Tensor]:
        """The value of each term of the hidden states for each sample, `[batch]`."""
        mask = None
        if self.task in (*SEQ2SEQ, CTC):
            mask = batch.items.soft
        elif self.task != "image-classification":
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
