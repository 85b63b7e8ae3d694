"""Born-again training: generations of one architecture, each of which learns from the one before."""

import json
from dataclasses import replace
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import TrainOutput

from ..arguments import check_choice
from .base import RUN_FILE
from .checkpointing import last_whole_checkpoint
from .distillation_trainer import DistillationTrainer
from .teaching import RefreshCaches


RECORD_FILE = "generation.json"
"""What a generation reached, beside its weights: written last, so that it tells that the generation is whole."""


class BornAgainMixin:
    """
    The run of [`SelfDistillationTrainer`] for `self_teacher="born_again"`
    ([Furlanello et al., 2018](https://huggingface.co/papers/1805.04770)); expects to stand before [`DistillationTrainer`]
    among the bases.

    Generation 0 learns from the labels alone. Each next one starts from what `model_init` gives and is distilled from the
    one before. Generation N is a run of a [`DistillationTrainer`] of its own, in the folder `generation_N` and with the seed
    `args.seed + N`; an interrupted run goes on in the right one. The last one, or the best one on the evaluation set, is
    exported in `args.output_dir` and is the trainer's model in the end. Its log is that of all generations, one after the
    other, with `generation` in each entry. Callbacks are those of this trainer.
    """

    generation: int | None = None
    """Which generation the model is, counted from 0."""

    def check_generations(self) -> None:
        """Refuses a run without fresh weights for each generation, or without data to choose the best one by."""
        if self.model_init is None:
            raise ValueError(
                "`self_teacher` is 'born_again', whose generations start from fresh weights: pass a function that makes "
                "them as `model_init`, and no model."
            )
        if self.args.export_generation == "best" and self.eval_dataset is None:
            raise ValueError("`export_generation` is 'best', but there is no eval_dataset to find the best one with.")

    def generation_folder(self, number: int) -> Path:
        """Where a generation is."""
        return Path(self.args.output_dir, f"generation_{number}")

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None) -> TrainOutput:
        if self.args.self_teacher != "born_again":
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        if trial is not None:
            raise ValueError(
                "`self_teacher` is 'born_again', which a hyperparameter search can't run: search without it."
            )
        self._begin(resume_from_checkpoint)
        records = []
        for number in range(self.args.generations):
            record = self.generation_folder(number) / RECORD_FILE
            if not record.is_file():
                self._train_generation(number, resuming=bool(resume_from_checkpoint))
            records.append(json.loads(record.read_text(encoding="utf-8")))
        self._adopt(records)
        metrics = {
            f"generation_{number}_{name}": value
            for number, record in enumerate(records)
            for name, value in record["metrics"].items()
        }
        return TrainOutput(self.state.global_step, records[self.generation]["train_loss"], metrics)

    def _begin(self, resume: str | bool | None) -> None:
        """Checks and claims the output folder, and forgets older generations unless the run is resumed."""
        folder = Path(self.args.output_dir)
        if resume and resume is not True:
            raise ValueError(
                f"`resume_from_checkpoint` is '{resume}', but each generation has checkpoints of its own: set it to True."
            )
        if resume and not (folder / RUN_FILE).is_file():
            raise ValueError(f"There are no generations to resume in '{folder}'.")
        if not resume:
            self._claim_output_dir()
        self.check_before_training()
        self.accelerator.wait_for_everyone()
        if self.args.should_save and not resume:
            folder.mkdir(parents=True, exist_ok=True)
            for record in folder.glob(f"generation_*/{RECORD_FILE}"):
                record.unlink()
            (folder / RUN_FILE).write_text(json.dumps(self.run_identity(), indent=2))
        self.accelerator.wait_for_everyone()

    def _train_generation(self, number: int, resuming: bool) -> None:
        folder = self.generation_folder(number)
        options = {"output_dir": str(folder), "seed": self.args.seed + number}
        options |= {"push_to_hub": False, "resume_from_checkpoint": None}
        if number == 0:
            options |= {"alpha": 0.0, "feature_loss": None, "relation_loss": None, "on_policy": 0.0}
        trainer = DistillationTrainer(
            None,
            None if number == 0 else str(self.generation_folder(number - 1)),
            replace(self.args, **options),
            model_init=self.model_init,
            **self.given,
        )
        refreshing = [each for each in trainer.callback_handler.callbacks if isinstance(each, RefreshCaches)]
        trainer.callback_handler.callbacks = [*self.callback_handler.callbacks, *refreshing]
        output = trainer.train(last_whole_checkpoint(folder) if resuming else None)
        metrics = trainer.evaluate() if self.eval_dataset is not None else {}
        trainer.save_model()
        record = {"metrics": metrics, "train_loss": output.training_loss}
        if self.args.should_save:
            trainer.state.save_to_json(str(folder / TRAINER_STATE_NAME))
            unfinished = folder / f".{RECORD_FILE}"
            unfinished.write_text(json.dumps(record, indent=2), encoding="utf-8")
            unfinished.replace(folder / RECORD_FILE)
        self.accelerator.wait_for_everyone()

    def _adopt(self, records: list[dict]) -> None:
        """Makes the last or the best generation this trainer's model, and exports it."""
        self.generation = len(records) - 1
        if self.args.export_generation == "best":
            name = f"eval_{(self.args.metric_for_best_model or 'accuracy').removeprefix('eval_')}"
            check_choice("metric_for_best_model", name, sorted(records[0]["metrics"]))
            sign = -1 if self.args.metric_for_best_model and not self.args.greater_is_better else 1
            self.generation = max(range(len(records)), key=lambda number: sign * records[number]["metrics"][name])
        self.load_weights(str(self.generation_folder(self.generation)))
        logs, steps, epochs = [], 0, 0.0
        for number in range(len(records)):
            state = TrainerState.load_from_json(str(self.generation_folder(number) / TRAINER_STATE_NAME))
            for log in state.log_history:
                place = {"step": log["step"] + steps, "epoch": log["epoch"] + epochs, "generation": number}
                logs.append({**log, **place})
            if number == self.generation:
                self.state = state
                state.best_global_step = state.best_global_step and state.best_global_step + steps
            steps, epochs = steps + state.global_step, epochs + state.epoch
        final = {"step": steps, "epoch": epochs, "generation": self.generation}
        self.state.log_history = [*logs, {**records[self.generation]["metrics"], **final}]
        self.state.global_step, self.state.epoch = steps, epochs
        self.save_model()
        if self.args.should_save:
            self.state.save_to_json(str(Path(self.args.output_dir, TRAINER_STATE_NAME)))
        self.accelerator.wait_for_everyone()
