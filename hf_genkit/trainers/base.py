"""What every trainer of the package shares: exact item counts, logged components, whole checkpoints, safe pushing."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from httpx2 import HTTPError
from huggingface_hub import snapshot_download
from transformers import PreTrainedModel, Trainer, set_seed
from transformers.image_processing_utils import BaseImageProcessor
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import nested_detach
from transformers.trainer_utils import TrainOutput

from ..data import BatchCollator
from ..hub import hub_id
from . import checkpointing
from .hub_mixin import HubMixin
from .noise import SampleNoise
from .progress import StateFile
from .tracking import TrackingMixin


RUN_FILE = "run.json"
EVALUATION = -1  # the step whose noise evaluation draws: the same each time


class GenkitTrainer(HubMixin, TrackingMixin, Trainer):
    """
    A [`~transformers.Trainer`] whose loss, logs and checkpoints are exact.

    A method overrides [`~GenkitTrainer.compute_loss`] and [`~GenkitTrainer.count_items`]. `compute_loss` returns each
    term as its sum over the micro-batch divided by `num_items_in_batch[term]`, which is the term's item count over all
    micro-batches and processes of the optimizer step, divided by the number of processes: gradients that add up over
    micro-batches and are averaged over processes then equal those of one large batch.

    Terms given to [`~GenkitTrainer.record`] are averaged and logged beside the loss; per-sample sums given to
    [`~GenkitTrainer.record_evaluation`] become exact means over the evaluation set, however it is sharded.

    Checkpoints are written beside their final place and renamed when whole, hold safetensors and JSON only, and
    `train()` refuses an output folder that holds another run.
    """

    loss_is_scaled_for_ga = True
    not_predicted = ("loss",)  # of a model's outputs
    _tag_names = ("hf_genkit",)

    def __init__(self, model=None, args=None, data_collator=None, **kwargs):
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError(f"`compute_loss_func` is set, but {type(self).__name__} has a loss of its own.")
        self._described: dict = {}
        super().__init__(model, args, data_collator, **kwargs)
        self.data_collator = BatchCollator(self.data_collator)
        self._recorded: dict[str, torch.Tensor] = {}
        self._recorded_at: dict[str, set[int]] = {}
        self.noise = SampleNoise(self.args.seed, self.args.process_index, self.args.world_size)
        self._evaluation_sums: dict[str, torch.Tensor] = {}
        self._flops_per_item: float | None = None
        self.add_callback(StateFile())

    # ---- Items, losses and their components ----

    def count_items(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        How many items each term of the loss is a mean over, in one micro-batch.

        Args:
            inputs (`Mapping[str, torch.Tensor]`): A micro-batch as the collator made it.

        Returns:
            `dict[str, torch.Tensor]`: Name of the term to a count of shape `[]`.
        """
        raise NotImplementedError

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> dict[str, torch.Tensor] | None:
        if not batch_samples:  # a stream that ended before its epoch
            return None
        self.noise.start(self.state.global_step, self._train_batch_size)
        counts = [self.count_items(batch) for batch in batch_samples]
        names = list(counts[0])
        totals = torch.stack([sum(count[name] for count in counts) for name in names]).to(device, torch.float32)
        if self.args.world_size > 1:
            totals = self.accelerator.reduce(totals, "sum") / self.args.world_size
        return dict(zip(names, totals.clamp(min=1 / self.args.world_size), strict=True))

    @property
    def image_processor(self) -> BaseImageProcessor | None:
        """The processing class, where it is one for images."""
        return self.processing_class if isinstance(self.processing_class, BaseImageProcessor) else None

    def record(self, components: dict[str, torch.Tensor]) -> None:
        """
        Adds a micro-batch's share of each component, to be logged as its mean over the optimizer steps that had it.

        Args:
            components (`dict[str, torch.Tensor]`):
                Name in the log to a value of shape `[]`: the sum over the micro-batch divided by the global count.
        """
        for name, value in components.items():
            value = value.detach()
            self._recorded[name] = self._recorded[name] + value if name in self._recorded else value
            self._recorded_at.setdefault(name, set()).add(self.state.global_step)

    def record_evaluation(self, components: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """
        Adds a batch of evaluation; samples that were repeated to fill the last batch are dropped.

        Args:
            components (`dict[str, tuple[torch.Tensor, torch.Tensor]]`):
                Name in the metrics to per-sample sums and per-sample item counts, both `[batch]`.
        """
        if not components:
            return
        names = list(components)
        stacked = torch.stack([part.float() for name in names for part in components[name]], dim=1)
        totals = self.accelerator.gather_for_metrics(stacked).sum(dim=0).cpu().double()
        for i, name in enumerate(names):
            pair = totals[2 * i : 2 * i + 2]
            self._evaluation_sums[name] = self._evaluation_sums[name] + pair if name in self._evaluation_sums else pair

    def combine_evaluation(self, means: dict[str, float]) -> float | None:
        """The evaluation loss made of the recorded means, or `None` to keep the one that Trainer averages."""
        return None

    def recorded_means(self) -> dict[str, float]:
        """The mean of each recorded component since the last call, over its optimizer steps and all processes."""
        names = sorted(self._recorded)
        sums = self.accelerator.reduce(torch.stack([self._recorded[name] for name in names]), "mean").tolist()
        means = {name: total / len(self._recorded_at[name]) for name, total in zip(names, sums, strict=True)}
        self._recorded, self._recorded_at = {}, {}
        return means

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._recorded:
            logs.update(self.recorded_means())
        super().log(logs, start_time)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        self._evaluation_sums = {}
        self.noise.start(EVALUATION, self.args.eval_batch_size)
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        sums = {name: pair.tolist() for name, pair in self._evaluation_sums.items()}
        means = {name: total / count for name, (total, count) in sums.items() if count > 0}
        loss = self.combine_evaluation(means)
        if loss is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = loss
        for name, mean in means.items():
            output.metrics.setdefault(f"{metric_key_prefix}_{name}", mean)
        return output

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        labels = inputs.get("labels")
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        self.noise.advance()
        if prediction_loss_only:
            return loss, None, None
        if ignore_keys is None:
            ignore_keys = getattr(self.model.config, "keys_to_ignore_at_inference", ["past_key_values"])
        ignored = [*self.not_predicted, *ignore_keys]
        logits = nested_detach(tuple(value for name, value in outputs.items() if name not in ignored))
        return loss, logits[0] if len(logits) == 1 else logits, labels

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.noise.advance()
        return loss

    def floating_point_ops(self, inputs: Mapping[str, torch.Tensor]) -> float:
        if self._flops_per_item is None:
            self._flops_per_item = 6.0 * self.model.num_parameters(exclude_embeddings=True)
        return self._flops_per_item * inputs[self.model.main_input_name].numel()

    def get_eval_dataloader(self, eval_dataset=None):
        # Trainer keeps persistent workers under the one name "eval" and would give back another data set's.
        if eval_dataset is None or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        return self.get_test_dataloader(eval_dataset)

    def _inner_training_loop(self, batch_size=None, **kwargs):
        self._recorded, self._recorded_at = {}, {}  # `auto_find_batch_size` starts again after a failed attempt
        return super()._inner_training_loop(batch_size, **kwargs)

    def _run_epoch(self, *, epoch: int, train_dataloader, **kwargs):
        # accelerate tells a map-style data set its epoch on one process only, and not after a resume within an epoch.
        dataset = train_dataloader.dataset
        if hasattr(dataset, "set_epoch"):
            dataset.set_epoch(epoch)
        self.control.should_training_stop |= self.state.global_step >= self.state.max_steps  # a finished run, resumed
        if not self.control.should_training_stop:
            super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **kwargs)

    # ---- Runs and their folder ----

    def check_before_training(self) -> None:
        """Where a method checks its data and models, before anything is trained or written."""

    def check_run(self, resume_from_checkpoint: str | bool | None = None, trial=None) -> str | None:
        """All checks of [`~GenkitTrainer.train`], with its arguments; returns the checkpoint's folder, if there is one."""
        checkpoint = self._find_checkpoint(resume_from_checkpoint)
        if checkpoint is None and trial is None:
            self._claim_output_dir()
        self.model = self.model or self.call_model_init(trial)  # a search lets the last trial's go
        self.check_before_training()
        return checkpoint

    def run_identity(self) -> dict:
        """What makes a run the run that it is; its length and its bookkeeping do not."""
        config = self.model.config.to_diff_dict()
        for name in ("transformers_version", "_name_or_path"):
            config.pop(name, None)
        identity = {"trainer": type(self).__name__, "arguments": self.args.changed(), "model": config}
        return json.loads(json.dumps(identity, sort_keys=True, default=str))

    def train(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None) -> TrainOutput:
        """
        Trains the model.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                `True` for the last whole checkpoint of `output_dir`, the path of a checkpoint, or the Hub id of a
                repo that was pushed with `hub_strategy="checkpoint"`.
            trial (`optuna.Trial` or `dict`, *optional*): The trial of a hyperparameter search.
            ignore_keys_for_eval (`list[str]`, *optional*): Outputs of the model to leave out of the predictions.

        Returns:
            [`~transformers.trainer_utils.TrainOutput`]: Steps, mean loss and metrics.

        Raises:
            `ValueError`: There is no whole checkpoint to resume from, or `output_dir` holds another run.
        """
        checkpoint = self.check_run(resume_from_checkpoint, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            for partial in Path(self.args.output_dir).glob("tmp-checkpoint-*"):
                shutil.rmtree(partial)
            if trial is None:
                Path(self.args.output_dir, RUN_FILE).write_text(json.dumps(self.run_identity(), indent=2))
        set_seed(self.args.seed)  # the sampler reads the global generator's seed, which another trainer may have set
        return super().train(checkpoint, trial, ignore_keys_for_eval)

    def _find_checkpoint(self, resume: str | bool | None) -> str | None:
        if resume is None or resume is False:
            return None
        if resume is True:
            checkpoint = checkpointing.last_whole_checkpoint(self.args.output_dir)
            if checkpoint is None:
                raise ValueError(f"There is no whole checkpoint to resume from in '{self.args.output_dir}'.")
            return checkpoint
        if os.path.isdir(resume):
            if not checkpointing.is_whole(resume):
                raise ValueError(f"The checkpoint '{resume}' is not whole: its save was cut short.")
            return str(resume)
        if hub_id(resume) is None:
            raise ValueError(f"There is no checkpoint '{resume}', and the name is none that the Hub can have.")
        with self.accelerator.main_process_first():
            try:
                folder = snapshot_download(
                    resume,
                    allow_patterns=["last-checkpoint/*.json", "last-checkpoint/*.safetensors"],
                    token=self.args.hub_token,
                    revision=self.args.hub_revision,
                )
            except (OSError, HTTPError) as error:
                raise ValueError(
                    f"'{resume}' is no local checkpoint, and the Hub gives no such model to resume from."
                ) from error
        checkpoint = os.path.join(folder, "last-checkpoint")
        if not os.path.isdir(checkpoint):
            raise ValueError(f"'{resume}' is no local checkpoint, and the Hub's '{resume}' has no last-checkpoint/.")
        return checkpoint

    def _claim_output_dir(self) -> None:
        """Refuses a folder that holds another run, or results of an unknown one."""
        folder = Path(self.args.output_dir)
        advice = "pass resume_from_checkpoint=True to go on with it, or choose another output_dir."
        if (folder / RUN_FILE).is_file():
            there = json.loads((folder / RUN_FILE).read_text())
            here = self.run_identity()
            if there != here:
                raise ValueError(f"'{folder}' holds another run ({_difference(there, here)}): {advice}")
        elif any(folder.glob("checkpoint-*")) or any(folder.glob("*.safetensors")):
            raise ValueError(f"'{folder}' holds another run's checkpoints or weights: {advice}")

    # ---- Checkpoints ----

    def _save_checkpoint(self, model, trial) -> None:
        """Writes `tmp-checkpoint-N`, renames it to `checkpoint-N` when it is whole, then pushes and rotates."""
        self.store_flos()
        run_dir = Path(self._get_output_dir(trial))
        final = run_dir / f"checkpoint-{self.state.global_step}"
        partial = run_dir / f"tmp-{final.name}"
        self.save_model(str(partial), _internal_call=True)
        partial.mkdir(parents=True, exist_ok=True)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(partial))
            self._save_scaler(str(partial))
            self._save_rng_state(str(partial))
        best = run_dir / f"checkpoint-{self.state.best_global_step}"
        if best == final or best.is_dir():  # every process loads it in the end
            self.state.best_model_checkpoint = str(best)
        if self.args.should_save:
            for callback in [*self.callback_handler.callbacks, self.control]:
                if isinstance(callback, ExportableState):
                    self.state.stateful_callbacks[type(callback).__name__] = callback.state()
            self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpointing.seal(partial)
            if final.is_dir():
                final.rename(replaced := run_dir / f"tmp-{final.name}-replaced")
                partial.rename(final)
                shutil.rmtree(replaced)
            else:
                partial.rename(final)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))
            if self.args.save_total_limit:
                self._finish_current_push()
        if self.args.should_save:
            checkpointing.rotate(run_dir, self.args.save_total_limit, self.state.best_model_checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink()

    @property
    def _has_sharded_state(self) -> bool:
        """Whether FSDP or DeepSpeed writes optimizer state in a format of its own."""
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._has_sharded_state:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            checkpointing.save_state(output_dir, "optimizer", self.optimizer.state_dict())
            checkpointing.save_state(output_dir, "scheduler", self.lr_scheduler.state_dict())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if self._has_sharded_state or not Path(checkpoint, "optimizer.json").is_file():
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            self.optimizer.load_state_dict(checkpointing.load_state(checkpoint, "optimizer"))
            self.lr_scheduler.load_state_dict(checkpointing.load_state(checkpoint, "scheduler"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self._has_sharded_state or not isinstance(self.model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self._has_sharded_state or not isinstance(self.model, PreTrainedModel):
            super()._load_best_model()
        else:
            self.load_weights(self.state.best_model_checkpoint)

    def load_weights(self, checkpoint: str) -> None:
        """
        Loads a checkpoint as `from_pretrained` does. Many architectures save their weights under other names than the
        modules have; Trainer's own way of loading skips those with a warning and goes on with the weights it has.
        """
        saved = type(self.model).from_pretrained(checkpoint, config=self.model.config, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())

    def _save_scaler(self, output_dir: str) -> None:
        if self.accelerator.scaler is not None and self.args.should_save:
            checkpointing.save_state(output_dir, "scaler", self.accelerator.scaler.state_dict())

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint and self.accelerator.scaler is not None and Path(checkpoint, "scaler.json").is_file():
            self.accelerator.scaler.load_state_dict(checkpointing.load_state(checkpoint, "scaler"))

    def _save_rng_state(self, output_dir: str) -> None:
        checkpointing.save_state(output_dir, f"rng_state_{self.args.process_index}", checkpointing.rng_state())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        name = f"rng_state_{self.args.process_index}"
        if checkpoint is not None and Path(checkpoint, f"{name}.json").is_file():
            checkpointing.set_rng_state(checkpointing.load_state(checkpoint, name))


def _difference(there: dict, here: dict) -> str:
    """The first three settings in which two runs differ, as one phrase."""
    pairs = []
    for part in (name for name in here if name != "trainer"):
        for name in sorted({*there.get(part, {}), *here[part]}):
            values = [run.get(part, {}).get(name, "its default") for run in (there, here)]
            if values[0] != values[1]:
                pairs.append(f"{name} {values[0]} there, {values[1]} here")
    return "; ".join(pairs[:3]) or f"{there['trainer']} there, {here['trainer']} here"
