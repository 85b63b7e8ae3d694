"""What experiment trackers are told: read back from TensorBoard's event files and from trackio's database."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers.integrations import TensorBoardCallback

from hf_genkit import VAETrainer, VAETrainingConfig
from hf_genkit.hub import Result

from .tiny_generative import pictures, trainer_for, vae


GRIDS = {"samples", "reconstructions", "interpolation"}
RESULTS = [Result("loss", 1.25, name="Loss"), Result("fd_x", 3.0, name="FD (x)", floor=0.5)]


def tracked(folder: Path, project: str, **options):
    schedule = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": pictures(8)}
    return trainer_for(vae(), folder, report_to=["tensorboard", "trackio"], project=project, **{**schedule, **options})


def told_to_trackio(project: str) -> dict[str, list[dict]]:
    """Run to all that was logged, in order."""
    from trackio.sqlite_storage import SQLiteStorage

    return {run: SQLiteStorage.get_logs(project, run) for run in SQLiteStorage.get_runs(project)}


def told_to_tensorboard(folder: Path) -> EventAccumulator:
    (events,) = {path.parent for path in folder.rglob("events.out.tfevents*")}
    found = EventAccumulator(str(events))
    found.Reload()
    return found


def with_keys(logs: list[dict], prefix: str) -> list[dict]:
    return [log for log in logs if any(name.startswith(prefix) for name in log)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was evaluated before, while and after it trained, and whose card was written; its folder."""
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        trainer = tracked(Path("out/vae"), "whole")
        trainer.evaluate()
        trainer.train()
        trainer.evaluate(pictures(8, seed=1), metric_key_prefix="test")
        trainer.create_model_card(results=RESULTS)
    return folder


def test_a_run_is_one_run_although_it_is_evaluated_before_and_after(run):
    """Left alone, transformers' callbacks open another run for each, and log what comes first into ./runs."""
    logs = told_to_trackio("whole")
    assert list(logs) == ["out-vae"]
    assert not (run / "runs").exists()
    scalars = told_to_tensorboard(run).Tags()["scalars"]
    for name in ("train/loss", "eval/loss", "test/loss"):
        assert name in scalars
        assert with_keys(logs["out-vae"], name)


def test_pictures_are_told_while_training_and_at_the_end(run):
    events = told_to_tensorboard(run)
    for name in GRIDS:
        assert [image.step for image in events.Images(f"pictures/{name}")] == [2, 4, 4]
    last = events.Images("pictures/samples")[-1].encoded_image_string
    (run / "read.png").write_bytes(last)
    drawn = np.array(Image.open(run / "out" / "vae" / "samples.png").convert("RGB"))
    assert np.array_equal(np.array(Image.open(run / "read.png")), drawn)
    logged = with_keys(told_to_trackio("whole")["out-vae"], "pictures/")
    assert [log["train/global_step"] for log in logged] == [2, 4, 4]
    assert all({f"pictures/{name}" for name in GRIDS} <= set(log) for log in logged)
    from trackio.utils import MEDIA_DIR

    copy = MEDIA_DIR / logged[-1]["pictures/samples"]["file_path"]
    assert np.array_equal(np.array(Image.open(copy).convert("RGB")), drawn)


def test_the_table_of_results_is_told_once(run):
    rows = [
        {"Metric": "Loss", "Value": "1.25", "Real data": ""},
        {"Metric": "FD (x)", "Value": "3", "Real data": "0.5"},
    ]
    (log,) = with_keys(told_to_trackio("whole")["out-vae"], "results")
    assert log["results"] == {"_type": "trackio.table", "_value": rows}
    (text,) = told_to_tensorboard(run).Tensors("results/text_summary")
    assert "| FD (x) | 3 | 0.5 |" in text.tensor_proto.string_val[0].decode()


def test_a_table_goes_to_its_own_run_after_another_has_begun(tmp_path):
    """trackio has one current run for the whole process: that of whoever trained last."""
    options = {"eval_strategy": "no", "max_steps": 1, "num_sample_pictures": 0}
    first = tracked(tmp_path / "first", "two", run_name="first", **options)
    second = tracked(tmp_path / "second", "two", run_name="second", **options)
    for trainer in (first, second):
        trainer.train()
        trainer.evaluate(pictures(8), metric_key_prefix="test")
    first.create_model_card(results=RESULTS, comparison=[{"Model": "student", "Accuracy": "0.9"}])
    logs = told_to_trackio("two")
    (log,) = with_keys(logs["first"], "results")
    assert log["results"]["_value"] == [{"Model": "student", "Accuracy": "0.9"}]
    assert not with_keys(logs["second"], "results")
    (callback,) = [each for each in first.callback_handler.callbacks if isinstance(each, TensorBoardCallback)]
    assert callback.tb_writer is None, "what it still holds is lost if the process is killed"


def test_nothing_leaves_this_machine_but_the_model(hub, tmp_path, monkeypatch):
    """transformers' own push makes a public Space of the run."""
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    trainer = tracked(
        tmp_path, "pushed", run_name="pushed", eval_strategy="no", max_steps=1, push_to_hub=True, hub_model_id="x"
    )
    trainer.train()
    trainer.push_to_hub(results=RESULTS)
    trainer.push_to_hub()
    assert list(hub.repositories) == [("model", "tester/x")]
    assert not [request.path for request in hub.requests if "space" in request.path or "bucket" in request.path]
    assert not [name for name in hub.files("tester/x") if "tfevents" in name]
    assert len(with_keys(told_to_trackio("pushed")["pushed"], "results")) == 1


def test_runs_of_one_config_have_names_of_their_own(tmp_path):
    """A comparison makes each run's config of another by `dataclasses.replace`."""
    config = VAETrainingConfig(str(tmp_path / "a"), report_to="none")
    names = [VAETrainer(vae(), each).args.run_name for each in (replace(config, output_dir="runs/b"), config)]
    assert names[0] == "runs-b"
    assert names[1] == str(tmp_path / "a").strip("/").replace("/", "-")


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_missing_tracker_is_refused_with_what_installs_it(name, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module, *rest: None if module == name else found(module, *rest)
    )
    with pytest.raises(ImportError, match=rf'^`report_to` is {name}.*pip install "hf-genkit\[track\]"$'):
        VAETrainingConfig(str(tmp_path), report_to=name)


def test_an_unknown_tracker_is_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"^`report_to` is 'tensorbord', but it must be one of .*\(did you mean 'tensorboard'\?\)"
    ):
        VAETrainingConfig(str(tmp_path), report_to="tensorbord")
