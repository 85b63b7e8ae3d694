"""What watches a GAN while it trains: probes for the log, and an early stop when it has failed."""

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback
from transformers.utils import logging

from ..evaluation import detect_failure, oscillation, sample_diversity, spectral_norms
from . import checkpointing


logger = logging.get_logger(__name__)

PROBE = -5  # the step whose noise the probed samples draw
PROBED = 64
RECENT = 99


class GANMonitor(TrainerCallback):
    """
    Finishes each phase of [`GANTrainer`], probes the networks at each log, and stops a run that has failed.

    Args:
        trainer ([`GANTrainer`]): The trainer to watch.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.failure: str | None = None
        self._real_diversity: float | None = None

    def probe(self, logs: dict[str, float]) -> dict[str, float]:
        """
        What a log line gets beside the losses, the same on every process.

        Args:
            logs (`dict[str, float]`): The line so far.

        Returns:
            `dict[str, float]`: `sample_diversity`, that of 64 samples relative to as many real images;
            `spectral_norm`, the largest singular value among the discriminator's weights; `gradient_norm_ratio`, the
            discriminator's over the generator's; `oscillation` of the discriminator's loss in the last 100 logs; and
            ADA's `augmentation_probability`.
        """
        trainer = self.trainer
        if self._real_diversity is None:
            self._real_diversity = max(sample_diversity(trainer.some_images(PROBED)), 1e-12)
        samples = trainer.generate_pictures(PROBE, torch.arange(PROBED, device=trainer.args.device))
        norms = spectral_norms(trainer.model.discriminator)
        probes = {
            "sample_diversity": sample_diversity(samples) / self._real_diversity,
            "spectral_norm": max(norms.values()),
        }
        if logs.get("generator_grad_norm") and "discriminator_grad_norm" in logs:
            probes["gradient_norm_ratio"] = logs["discriminator_grad_norm"] / logs["generator_grad_norm"]
        if "discriminator_loss" in logs:
            history = [log["discriminator_loss"] for log in trainer.state.log_history if "discriminator_loss" in log]
            probes["oscillation"] = oscillation([*history[-RECENT:], logs["discriminator_loss"]])
        if trainer.args.discriminator_augmentation == "ada":
            probes["augmentation_probability"] = trainer.model.augmentation_probability.item()
        return broadcast_object_list([probes])[0]

    def find_fault(self) -> str | None:
        """Why the networks as they are now should not be kept, as one sentence, or `None`."""
        if not self.trainer.has_finite_weights():
            return "the weights are not finite"
        return detect_failure(self.trainer.state.log_history, patience=1)

    def on_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer.phase == "discriminator":
            self.trainer.finish_discriminator_step()
        else:
            self.trainer.finish_generator_step()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            control.should_log = True  # the analysis wants the end, too

    def on_log(self, args, state, control, **kwargs):
        if args.stop_on_failure and self.failure is None:
            self.failure = detect_failure(state.log_history)
            control.should_training_stop = control.should_training_stop or self.failure is not None

    def on_train_begin(self, args, state, control, **kwargs):
        self.failure = None
        self.trainer.check_cycle(state.max_steps)

    def on_train_end(self, args, state, control, **kwargs):
        self.trainer.model.generator.requires_grad_(True)
        self.trainer.model.discriminator.requires_grad_(True)
        if self.failure is None:
            return
        best = state.best_model_checkpoint if args.load_best_model_at_end else None
        checkpoint = best or checkpointing.last_whole_checkpoint(args.output_dir)
        if checkpoint is None:
            logger.warning(f"The GAN has failed, and there is no checkpoint to go back to: {self.failure}")
            return
        self.trainer.load_weights(checkpoint)
        logger.warning(f"The GAN has failed, and its weights are those of {checkpoint} again: {self.failure}")
