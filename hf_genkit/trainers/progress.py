"""How a training run is watched: one line in a terminal, and its log in a file."""

import time
from pathlib import Path

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME


SHOWN = ("loss", "generator_loss", "discriminator_loss", "eval_loss", "eval_accuracy")


def show_one_line(trainer: Trainer, name: str) -> Trainer:
    """
    Makes a trainer show its run as [`OneLineProgress`] instead of a bar and a line for each log.

    Args:
        trainer (`Trainer`): The trainer to change.
        name (`str`): What the run is called, such as "student, distilled, seed 0".

    Returns:
        `Trainer`: The same trainer.
    """
    trainer.remove_callback(PrinterCallback if trainer.args.disable_tqdm else ProgressCallback)
    trainer.add_callback(OneLineProgress(name))
    return trainer


class OneLineProgress(TrainerCallback):
    """
    A bar with the last logged values, where there is a terminal, and a printed line when the run is over.

    Args:
        name (`str`): What the run is called.
    """

    def __init__(self, name: str):
        self.name = name
        self.bar = None
        self.values: dict[str, float] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.start = time.time()
            steps = {"initial": state.global_step, "total": state.max_steps}
            self.bar = tqdm(
                desc=self.name, **steps, leave=False, dynamic_ncols=True, disable=args.disable_tqdm or None
            )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None:
            self.values |= {name: logs[name] for name in SHOWN if name in logs}
            self.bar.set_postfix(self.values)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is None:
            return
        self.bar.close()
        self.bar = None
        accuracy = next((log["eval_accuracy"] for log in reversed(state.log_history) if "eval_accuracy" in log), None)
        evaluated = "" if accuracy is None else f", evaluation accuracy {accuracy:.4f}"
        print(f"{self.name}: {state.global_step} steps, {time.time() - self.start:.0f} s{evaluated}", flush=True)


class StateFile(TrainerCallback):
    """
    Keeps `trainer_state.json` in the output folder up to date, with all that was logged, so that another process can
    follow the run. The file is replaced as a whole: a reader never sees half of it.
    """

    def on_evaluate(self, args, state, control, **kwargs):
        if state.is_world_process_zero and state.global_step > 0:
            folder = Path(args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f".{TRAINER_STATE_NAME}"
            state.save_to_json(str(unfinished))
            unfinished.replace(folder / TRAINER_STATE_NAME)

    on_save = on_train_end = on_evaluate
