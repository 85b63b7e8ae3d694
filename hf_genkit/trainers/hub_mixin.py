"""How a trainer writes its model card and pushes: one commit, no pickle, the model's code included."""

import os
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress

from ..hub import CardFacts, DatasetFacts, Result, check_push_access, hub_id, push_folder, write_model_card
from .checkpointing import is_trainer_state
from .tasks import CTC, SPEECH
from .tracking import result_rows


logger = logging.get_logger(__name__)

VERSIONS = ("hf-genkit", "transformers", "torch", "accelerate", "datasets", "huggingface_hub")


class HubMixin:
    """
    The Hub side of [`GenkitTrainer`]; expects to stand before [`~transformers.Trainer`] among the bases.

    A method sets `task`, its pipeline tag on the Hub (or "ctc", which is one way of speech recognition), and `auto_class`, the name of the class that loads its models.
    """

    task: str
    auto_class = "AutoModel"

    def describe(self, **facts) -> None:
        """
        Sets what the model card says and the trainer can't know, for this and every later push.

        Args:
            facts: Fields of [`~hf_genkit.hub.CardFacts`], such as `dataset`, `license` or `command`.
        """
        self._described = {**self._described, **facts}

    def last_evaluation(self, metric: str) -> dict:
        """
        The logged evaluation that belongs to the weights: the best one's if they were loaded, else the last one.

        Args:
            metric (`str`): What it must hold, such as `"eval_accuracy"`.

        Returns:
            `dict`: The entry of the log; empty if there is none.
        """
        best = self.state.best_global_step if self.args.load_best_model_at_end and not self.is_in_train else None
        scored = [log for log in self.state.log_history if metric in log and best in (None, log["step"])]
        return scored[-1] if scored else {}

    def card_results(self) -> list[Result]:
        """What the last evaluation measured, for the card."""
        return []

    def card_facts(self) -> CardFacts:
        """What the trainer knows of its run, overridden by what [`~HubMixin.describe`] was told."""
        model = self.accelerator.unwrap_model(self.model)
        base_model = hub_id(model.config._name_or_path or None)
        facts = {
            "model_name": (self.hub_model_id or str(Path(self.args.output_dir).resolve())).split("/")[-1],
            "task": SPEECH if self.task == CTC else self.task,
            "auto_class": self.auto_class,
            "repo_id": self.hub_model_id,
            "revision": self.args.hub_revision,
            "dataset": DatasetFacts("a custom data set", split="evaluation"),
            "results": self.card_results(),
            "base_model": base_model,
            "parameters": model.num_parameters(),
            "hyperparameters": {"num_train_epochs": self.state.num_train_epochs, **self.args.changed()},
            "license": self.args.license,
            "versions": {name: version(name) for name in VERSIONS},
            "tags": [tag for tag in self._tag_names if tag != "hf_genkit"],
            "custom_code": bool(getattr(model.config, "auto_map", None)),
        }
        return CardFacts(**{**facts, **self._described})

    def create_model_card(self, **facts) -> None:
        """
        Writes `README.md` into the output folder, unless a hand-written one is there. Where results are given, they and the
        card's pictures go to the experiment trackers, too.

        Args:
            facts: Fields of [`~hf_genkit.hub.CardFacts`] that override what the trainer knows.
        """
        self.describe(**facts)
        if self.is_world_process_zero():
            card = self.card_facts()
            write_model_card(self.args.output_dir, card)
            if "results" in facts:
                pictures = {Path(name).stem: Path(self.args.output_dir, name) for name, _ in card.pictures}
                self.track(pictures, card.comparison or result_rows(card.results))

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Checks the name, the token and its rights before training, and remembers the repo's full name."""
        if self.is_world_process_zero():
            name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
            self.hub_model_id = check_push_access(name, token or self.args.hub_token)
            self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **facts,
    ) -> CommitInfo | Future | None:
        """
        Saves model and card in the output folder and uploads them, with its pictures, in one commit.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): Message of the commit.
            blocking (`bool`, *optional*, defaults to `True`): Whether to wait for the upload.
            token (`str`, *optional*): Token with write permission; defaults to the configured one.
            revision (`str`, *optional*): Branch to push to.
            private (`bool`, *optional*): Whether a new repo is private.
            facts: Fields of [`~hf_genkit.hub.CardFacts`] for the card.

        Returns:
            `CommitInfo`, a `Future` of one if not `blocking`, or `None` on processes other than the first.
        """
        if self.hub_model_id is None:
            self.init_hf_repo(token=token)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        self.create_model_card(**facts)
        return push_folder(
            self.args.output_dir,
            self.hub_model_id,
            token=token or self.args.hub_token,
            private=self.args.hub_private_repo if private is None else private,
            revision=revision or self.args.hub_revision,
            commit_message=commit_message,
            run_as_future=not blocking,
        )

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes a checkpoint's model, and under `hub_strategy="checkpoint"` what training resumes from."""
        strategy = self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if running and not self.args.hub_always_push:
            return
        self._finish_current_push()
        self.create_model_card()
        names = ["README.md", *(name for name, _ in self.card_facts().pictures)]
        extra = {name: Path(self.args.output_dir, name) for name in names}
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            name = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else Path(checkpoint_folder).name
            for file in os.scandir(checkpoint_folder):
                if is_trainer_state(file.name):
                    extra[f"{name}/{file.name}"] = file.path
        job = push_folder(
            checkpoint_folder,
            self.hub_model_id,
            token=self.args.hub_token,
            private=self.args.hub_private_repo,
            revision=self.args.hub_revision,
            commit_message=f"Training in progress, step {self.state.global_step}",
            extra_files=extra,
            run_as_future=True,
        )
        self.push_in_progress = PushInProgress([job])

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        if self.hub_model_id is not None and self.push_in_progress is not None:
            for job in self.push_in_progress.jobs:
                if job.exception() is not None:
                    logger.warning(f"A push during training failed and is repeated by the next one: {job.exception()}")
            self.push_in_progress = None
