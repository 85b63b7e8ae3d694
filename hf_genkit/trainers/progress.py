"""What a terminal shows of a training run among several: one line."""

import time

from tqdm.auto import tqdm
from transformers import TrainerCallback


class OneLineProgress(TrainerCallback):
    """
    Shows a run as a bar with the last logged values, where there is a terminal, and prints one line when it is over.

    It stands in for [`~transformers.trainer_callback.ProgressCallback`], which prints a line for each log.

    Args:
        name (`str`): What the run is called, such as "student, distilled, seed 0".
    """

    def __init__(self, name: str):
        self.name = name
        self.bar = None
        self.values: dict[str, float] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.start = time.time()
            options = {"total": state.max_steps, "initial": state.global_step, "leave": False, "disable": None}
            self.bar = tqdm(desc=self.name, dynamic_ncols=True, **options)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None:
            self.values |= {name: logs[name] for name in ("loss", "eval_loss", "eval_accuracy") if name in logs}
            self.bar.set_postfix(self.values)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is None:
            return
        self.bar.close()
        self.bar = None
        accuracy = self.values.get("eval_accuracy")
        evaluated = "" if accuracy is None else f", evaluation accuracy {accuracy:.4f}"
        print(f"{self.name}: {state.global_step} steps, {time.time() - self.start:.0f} s{evaluated}", flush=True)
