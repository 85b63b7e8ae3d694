"""An interrupted run must end with the weights of one that was not, bit for bit on the CPU."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_genkit.data import ArrayImageDataset, Augmentation, image_processor_for
from hf_genkit.trainers.checkpointing import (
    is_whole,
    last_whole_checkpoint,
    load_state,
    preserved_rng,
    rng_state,
    rotate,
    save_state,
)

from .tiny import CONFIGS, tiny_model


REPOSITORY = Path(__file__).parents[2]


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def assert_equal_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


# ---- State files ----


def test_state_survives_bit_for_bit_without_a_pickle(tmp_path):
    state = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 3).to(torch.bfloat16)}, 1: {}},
        "param_groups": [{"lr": 0.1 + 0.2, "betas": (0.9, 0.999), "params": [0, 1], "name": None, "on": True}],
    }
    save_state(tmp_path, "optimizer", state)
    found = load_state(tmp_path, "optimizer")
    assert {path.name for path in tmp_path.iterdir()} == {"optimizer.json", "optimizer.safetensors"}
    assert found["param_groups"] == state["param_groups"]
    assert isinstance(found["param_groups"][0]["betas"], tuple)
    for name, value in state["state"][0].items():
        assert torch.equal(found["state"][0][name], value)
        assert found["state"][0][name].dtype == value.dtype


def test_state_that_json_cannot_hold_is_an_error(tmp_path):
    with pytest.raises(TypeError, match=r"scheduler.*function"):
        save_state(tmp_path, "scheduler", {"lambda": lambda step: step})


def test_generators_go_on_where_they_were(tmp_path):
    import random

    import numpy as np

    save_state(tmp_path, "rng", rng_state())
    expected = (random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item())
    from hf_genkit.trainers.checkpointing import set_rng_state

    set_rng_state(load_state(tmp_path, "rng"))
    with preserved_rng():
        torch.rand(5)
    assert (random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()) == expected


# ---- Resuming ----


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 6, "lr_scheduler_type": "cosine"}


@pytest.mark.parametrize("kind", CONFIGS)
def test_resumed_run_equals_the_uninterrupted_one(make_trainer, tmp_path, kind):
    make_trainer(kind, folder="whole", **SAVING).train()
    make_trainer(kind, folder="cut", callbacks=[StopAt(3)], **SAVING).train()
    resumed = make_trainer(kind, folder="cut", **SAVING)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(weights(tmp_path / "cut/checkpoint-6"), weights(tmp_path / "whole/checkpoint-6"))


def test_a_finished_run_is_resumed_without_one_more_step(make_trainer, tmp_path):
    make_trainer("vit", **SAVING | {"max_steps": 5}).train()
    resumed = make_trainer("vit", **SAVING | {"max_steps": 5})
    resumed.train(resume_from_checkpoint=True)
    assert len(resumed.train_dataset) // resumed.args.train_batch_size % 5  # the run ends within an epoch
    assert resumed.state.global_step == 5
    resumed.save_model(tmp_path / "after")
    assert_equal_weights(weights(tmp_path / "after"), weights(resumed.args.output_dir + "/checkpoint-5"))


def augmented(seed):
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10).remainder(3)
    return ArrayImageDataset(pixels.numpy(), labels.numpy(), augmentation=Augmentation(flip=True, shift=2), seed=seed)


def test_resume_is_exact_with_augmentation_dropout_accumulation_and_momentum(make_trainer, tmp_path):
    def options():
        model = tiny_model("vit")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        return {
            "model": model,
            "train_dataset": augmented(seed=4),
            "processing_class": image_processor_for(1, 8),
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            **SAVING,
        }

    make_trainer("vit", folder="whole", **options()).train()
    make_trainer("vit", folder="cut", callbacks=[StopAt(4)], **options()).train()
    make_trainer("vit", folder="cut", **options()).train(resume_from_checkpoint=True)
    assert_equal_weights(weights(tmp_path / "cut/checkpoint-6"), weights(tmp_path / "whole/checkpoint-6"))


def test_checkpoint_holds_json_and_safetensors_only(make_trainer, tmp_path):
    make_trainer("bert", **SAVING).train()
    names = {path.name for path in (tmp_path / "run/checkpoint-6").iterdir()}
    assert {name.rsplit(".", 1)[-1] for name in names} == {"json", "safetensors"}
    assert {"model.safetensors", "optimizer.safetensors", "scheduler.json", "trainer_state.json"} <= names


SCRIPT = """
import sys, os, signal
sys.path.insert(0, {repository!r})
from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.trainers import checkpointing
from tests.trainers.tiny import Samples, pad, tiny_model

kill_at, moment, resume = int(sys.argv[2]), sys.argv[3], sys.argv[4] == "resume"
save_state, saves = checkpointing.save_state, []

def killing(folder, name, state):
    save_state(folder, name, state)
    saves.append(name)
    if moment == "in_save" and folder.endswith(f"checkpoint-{{kill_at}}") and name == "optimizer":
        os.kill(os.getpid(), signal.SIGKILL)

checkpointing.save_state = killing
config = DistillationConfig(
    sys.argv[1], per_device_train_batch_size=4, max_steps=6, learning_rate=1e-2, use_cpu=True, save_strategy="steps",
    save_steps=1, save_total_limit=1, disable_tqdm=True,
)
trainer = DistillationTrainer(
    tiny_model("bert"), tiny_model("bert", seed=1, scale=4.0), config, train_dataset=Samples("bert"), data_collator=pad
)

class Kill(__import__("transformers").TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if moment == "in_step" and state.global_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

trainer.add_callback(Kill())
trainer.train(resume_from_checkpoint=resume or None)
"""


@pytest.mark.parametrize("moment", ["in_save", "in_step"])
def test_killed_run_goes_on_from_its_last_whole_checkpoint(tmp_path, moment):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(repository=str(REPOSITORY)))

    def run(folder, kill_at, moment, resume):
        command = [sys.executable, str(script), str(tmp_path / folder), str(kill_at), moment, resume]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY).returncode

    whole = run("whole", -1, "never", "fresh")
    assert whole == 0
    assert run("cut", 4, moment, "fresh") == -signal.SIGKILL
    kept = last_whole_checkpoint(tmp_path / "cut")
    assert kept.endswith("checkpoint-3" if moment == "in_save" else "checkpoint-4")
    assert (tmp_path / "cut/tmp-checkpoint-4").exists() == (moment == "in_save")
    assert run("cut", -1, "never", "resume") == 0
    assert_equal_weights(weights(tmp_path / "cut/checkpoint-6"), weights(tmp_path / "whole/checkpoint-6"))
    assert not (tmp_path / "cut/tmp-checkpoint-4").exists()


@pytest.mark.parametrize(
    "damage", ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "scheduler.json"]
)
def test_checkpoint_that_was_cut_short_is_passed_over(make_trainer, tmp_path, damage):
    make_trainer("vit", **SAVING).train()
    file = tmp_path / "run/checkpoint-6" / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert not is_whole(file.parent)
    assert last_whole_checkpoint(tmp_path / "run").endswith("checkpoint-5")
    with pytest.raises(ValueError, match=r"checkpoint-6.*not whole"):
        make_trainer("vit", **SAVING).train(resume_from_checkpoint=str(file.parent))


@pytest.mark.parametrize("missing", ["model.safetensors", "optimizer.safetensors", "optimizer.json", "scheduler.json"])
def test_checkpoint_that_lacks_a_file_is_passed_over(make_trainer, tmp_path, missing):
    make_trainer("vit", **SAVING).train()
    (tmp_path / "run/checkpoint-6" / missing).unlink()
    assert last_whole_checkpoint(tmp_path / "run").endswith("checkpoint-5")


def test_newest_checkpoint_counts_not_the_highest(make_trainer, tmp_path):
    make_trainer("vit", **SAVING).train()
    make_trainer("vit", **{**SAVING, "max_steps": 4}).train()
    assert last_whole_checkpoint(tmp_path / "run").endswith("checkpoint-4")


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    for step in (5, 1, 2, 3):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        time.sleep(0.01)
    rotate(tmp_path, None, None)
    rotate(tmp_path, 2, str(tmp_path / "checkpoint-5"))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-5", "checkpoint-3"}


def test_nothing_to_resume_from_is_an_error(make_trainer):
    with pytest.raises(ValueError, match="no whole checkpoint"):
        make_trainer("vit").train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="no checkpoint 'gone/checkpoint-9/x'"):
        make_trainer("vit").train(resume_from_checkpoint="gone/checkpoint-9/x")


# ---- The output folder ----


def test_folder_of_another_run_is_refused_and_left_alone(make_trainer, tmp_path):
    make_trainer("vit", **SAVING).train()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds another run \(learning_rate 0.01 there, 0.02 here\)"):
        make_trainer("vit", **{**SAVING, "learning_rate": 0.02}).train()
    with pytest.raises(ValueError, match=r"alpha its default there, 0.9 here"):
        make_trainer("vit", **SAVING, alpha=0.9).train()
    with pytest.raises(ValueError, match="another run"):
        make_trainer("convnext", **SAVING).train()
    with pytest.raises(ValueError, match=r"another run \(teacher "):
        make_trainer("vit", teacher=tiny_model("convnext", seed=7), **SAVING).train()
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert before.items() <= after.items()


def test_other_length_or_place_of_the_cache_is_not_another_run(make_trainer, tmp_path):
    make_trainer("vit", **SAVING).train()
    longer = {**SAVING, "max_steps": 8, "teacher_cache": "off", "logging_steps": 3}
    make_trainer("vit", **longer).train()
    assert last_whole_checkpoint(tmp_path / "run").endswith("checkpoint-8")
    trainer = make_trainer("vit", **{**SAVING, "max_steps": 9})
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 9


def test_folder_with_somebody_elses_weights_is_refused(make_trainer, tmp_path):
    tiny_model("vit").save_pretrained(tmp_path / "run")
    with pytest.raises(ValueError, match="another run's checkpoints or weights"):
        make_trainer("vit").train()


def test_run_file_holds_plain_settings(make_trainer, tmp_path):
    make_trainer("vit", **SAVING).train()
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["arguments"] == {"learning_rate": 0.01, "lr_scheduler_type": "cosine", "per_device_train_batch_size": 4}
    assert run["model"]["hidden_size"] == 16
