"""Experiment tracking: pictures and tables beside the scalars that transformers' own callbacks send."""

import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, default_logdir

from ..arguments import check_choice
from ..hub import Result
from ..report import Report, Section, Table, render_markdown


TRACKERS = ("tensorboard", "trackio")


def check_trackers(report_to: Iterable[str]) -> None:
    """
    Checks the names of experiment trackers before anything is trained.

    Args:
        report_to (`Iterable[str]`): As in [`~transformers.TrainingArguments`].

    Raises:
        `ValueError`: transformers knows no such tracker.
        `ImportError`: It is one of `TRACKERS` and not installed.
    """
    for name in report_to:
        check_choice("report_to", name, sorted(INTEGRATION_TO_CALLBACK))
        if name in TRACKERS and importlib.util.find_spec(name) is None:
            raise ImportError(f'`report_to` is {name}, which is not installed: pip install "hf-genkit[track]"')


def result_rows(results: Iterable[Result]) -> list[dict[str, str]]:
    """Results as rows of a table, beside what real data score."""
    return [
        {
            "Metric": result.name or result.metric,
            "Value": f"{result.value:.4g}",
            "Real data": "" if result.floor is None else f"{result.floor:.4g}",
        }
        for result in results
    ]


class TrackingMixin:
    """
    The experiment trackers of [`GenkitTrainer`]; expects to stand before [`~transformers.Trainer`] among the bases.

    Scalars go the way of transformers. A run is one run of the tracker, whatever is evaluated before and after training:
    it has the name `run_name`, which defaults to the path of the output folder.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.args.run_name = self.args.run_name or re.sub(r"[^\w.-]+", "-", self.args.output_dir).strip("-.")
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):  # an evaluation before training would log elsewhere
                callback.logging_dir = callback.logging_dir or os.path.join(self.args.output_dir, default_logdir())

    def track(self, pictures: Mapping[str, Path] | None = None, table: list[dict] | None = None) -> None:
        """
        Sends pictures, or the table of results, to the trackers of `report_to` that take them: TensorBoard and trackio.

        Args:
            pictures (`Mapping[str, Path]`, *optional*): Name to a PNG.
            table (`list[dict]`, *optional*): Rows, each from column name to text or number. It is the last that a run tells.
        """
        if not self.is_world_process_zero():
            return
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback):
                self._to_tensorboard(callback, pictures or {}, table)
            elif isinstance(callback, TrackioCallback):
                self._to_trackio(callback, pictures or {}, table)

    def _to_tensorboard(self, callback: TensorBoardCallback, pictures: Mapping[str, Path], table: list[dict] | None):
        callback.on_log(self.args, self.state, self.control, logs={})  # opens the writer again after training
        writer, step = callback.tb_writer, self.state.global_step
        for name, path in pictures.items():
            writer.add_image(f"pictures/{name}", np.array(Image.open(path).convert("RGB")), step, dataformats="HWC")
        if table is not None:
            report = Report(self.args.run_name, [], {}, [Section("Results", [Table("On the test split", table)])])
            writer.add_text("results", render_markdown(report), step)
            self._end(callback)

    def _to_trackio(self, callback: TrackioCallback, pictures: Mapping[str, Path], table: list[dict] | None):
        import trackio

        run = trackio.context_vars.current_run.get()
        if run is None or run.name != self.args.run_name:  # it ended with training, or another trainer has begun one
            callback.setup(self.args, self.state, self.model)
        logs = {f"pictures/{name}": trackio.Image(path) for name, path in pictures.items()}
        if table is not None:
            logs["results"] = trackio.Table(data=table)
        trackio.log({**logs, "train/global_step": self.state.global_step})
        if table is not None:
            self._end(callback)

    def _end(self, callback: TrainerCallback) -> None:
        callback.on_train_end(self.args, self.state, self.control, model=self.model)
