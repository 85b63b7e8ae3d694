"""Peers that taught each other: which of them is exported, with which card, and how a run goes on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

from hf_genkit.data import image_processor_for
from hf_genkit.hub import check_model_card
from hf_genkit.trainers.checkpointing import last_whole_checkpoint
from hf_genkit.trainers.peers import Peers

from .test_resume import StopAt, assert_equal_weights, weights
from .tiny import tiny_model
from .tiny_mutual import mutual_trainer, peers, samples


REPOSITORY = Path(__file__).parents[2]
SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 6, "lr_scheduler_type": "cosine"}


# ---- What is saved ----


def scripted(trainer, *entries):
    """Makes the log say that these evaluations took place."""
    trainer.state.log_history += [{"step": step, **entry} for step, entry in enumerate(entries, start=1)]


def assert_exported(folder, model):
    loaded = AutoModelForImageClassification.from_pretrained(folder)
    assert type(loaded) is type(model)
    assert_equal_weights(loaded.state_dict(), model.state_dict())


def test_best_peer_and_every_peer_are_ordinary_models_with_cards(tmp_path):
    trainer = mutual_trainer("images", tmp_path, processing_class=image_processor_for(1, 8))
    scripted(trainer, {"eval_peer_0_accuracy": 0.25, "eval_peer_1_accuracy": 0.5, "eval_ensemble_accuracy": 0.75})
    trainer.save_model()
    trainer.create_model_card(license="mit")
    assert trainer.best_peer == 1
    assert_exported(tmp_path, trainer.peers[1])
    for number, score in enumerate(("value: 0.25", "value: 0.5")):
        folder = tmp_path / f"peer_{number}"
        assert_exported(folder, trainer.peers[number])
        assert {"README.md", "config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
        assert (folder / "preprocessor_config.json").is_file()
        card = (folder / "README.md").read_text()
        check_model_card(card)
        assert score in card
        assert "license: mit" in card
        assert f"this is peer {number}" in card
    card = (tmp_path / "README.md").read_text()
    check_model_card(card)
    assert "mutual-learning" in card
    assert "deep mutual learning" in card
    assert "value: 0.5" in card
    assert "all peers together | 0.75" in card
    assert "peer 0 (ViTForImageClassification" in card


def test_card_of_a_peer_says_nothing_that_was_told_of_the_best(tmp_path):
    trainer = mutual_trainer("images", tmp_path)
    trainer.save_model()
    trainer.create_model_card(model_name="my-model", parameters=7)
    assert "It has 7 parameters" in (tmp_path / "README.md").read_text()
    card = (tmp_path / "peer_1/README.md").read_text()
    assert "# my-model, peer 1" in card
    assert f"It has {trainer.peers[1].num_parameters():,} parameters" in card


@pytest.mark.parametrize(
    ("task", "evaluations", "best"),
    [
        ("images", [], 0),
        ("images", [{"eval_peer_0_accuracy": 0.1, "eval_peer_1_accuracy": 0.2}], 1),
        ("images", [{"eval_peer_0_accuracy": 0.2, "eval_peer_1_accuracy": 0.2}], 0),
        ("images", [{"test_peer_0_accuracy": 0.1, "test_peer_1_accuracy": 0.2}], 0),
        ("language", [{"eval_peer_0_perplexity": 9.0, "eval_peer_1_perplexity": 8.0}], 1),
        ("frames", [{"eval_peer_0_ce_loss": 9.0, "eval_peer_1_ce_loss": 8.0}], 1),
    ],
)
def test_which_peer_is_best(tmp_path, task, evaluations, best):
    trainer = mutual_trainer(task, tmp_path)
    scripted(trainer, *evaluations)
    assert trainer.best_peer == best


def test_first_of_several_evaluation_sets_decides(tmp_path):
    sets = {"b": samples("images", 4), "a": samples("images", 4)}
    trainer = mutual_trainer("images", tmp_path, eval_dataset=sets)
    scripted(
        trainer,
        {"eval_b_peer_0_accuracy": 0.1, "eval_b_peer_1_accuracy": 0.2},
        {"eval_a_peer_0_accuracy": 0.2, "eval_a_peer_1_accuracy": 0.1},
    )
    assert trainer.best_peer == 1


def test_best_step_is_loaded_and_its_best_peer_exported(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "learning_rate": 0.5}
    options |= {"metric_for_best_model": "accuracy", "eval_dataset": samples("images", 12), **SAVING}
    trainer = mutual_trainer("images", tmp_path, **options)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "eval_accuracy" in log]
    best = max(logs, key=lambda log: (log["eval_accuracy"], -log["step"]))
    assert best["step"] < 6
    assert trainer.state.best_global_step == best["step"]
    number = 0 if best["eval_peer_0_accuracy"] >= best["eval_peer_1_accuracy"] else 1
    assert trainer.best_peer == number
    trainer.save_model()
    assert_equal_weights(weights(tmp_path), weights(tmp_path / f"checkpoint-{best['step']}"))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(best["eval_loss"], rel=1e-5)


# ---- Going on ----


def with_dropout(rate):
    models = peers("texts")
    for model in models:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = rate
    return models


@pytest.mark.parametrize("task", ["texts", "language"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, task):
    options = {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": samples(task, 4), **SAVING}
    options |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}

    def make(folder, **more):
        models = with_dropout(0.3) if task == "texts" else peers(task)
        return mutual_trainer(task, tmp_path / folder, models=models, **options, **more)

    make("whole").train()
    make("cut", callbacks=[StopAt(3)]).train()
    resumed = make("cut")
    resumed.train(resume_from_checkpoint=True)
    whole, cut = (
        load_file(tmp_path / name / "checkpoint-6/training_weights.safetensors") for name in ("whole", "cut")
    )
    assert_equal_weights(cut, whole)
    assert_equal_weights(weights(tmp_path / "cut/checkpoint-6"), weights(tmp_path / "whole/checkpoint-6"))


def test_checkpoint_is_the_best_model_without_a_pickle_and_known_to_be_whole(tmp_path):
    trainer = mutual_trainer("images", tmp_path, eval_dataset=samples("images"), **SAVING)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-6"
    assert {path.suffix for path in checkpoint.iterdir()} == {".json", ".safetensors"}
    assert_exported(checkpoint, trainer.peers[0])
    file = checkpoint / "training_weights.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert last_whole_checkpoint(tmp_path).endswith("checkpoint-5")


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {repository!r})
from transformers import TrainerCallback
from tests.trainers.test_mutual_checkpoints import KILLED
from tests.trainers.tiny_mutual import mutual_trainer

class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

mutual_trainer("texts", sys.argv[1], callbacks=[Kill()], **KILLED).train()
"""
KILLED = {
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 1,
    "per_device_train_batch_size": 4,
}


def test_killed_run_goes_on_bit_for_bit(tmp_path):
    command = [sys.executable, "-c", SCRIPT.format(repository=str(REPOSITORY)), str(tmp_path / "cut")]
    assert subprocess.run(command, capture_output=True, cwd=REPOSITORY).returncode == -signal.SIGKILL
    mutual_trainer("texts", tmp_path / "cut", **KILLED).train(resume_from_checkpoint=True)
    mutual_trainer("texts", tmp_path / "whole", **KILLED).train()
    whole, cut = (
        load_file(tmp_path / name / "checkpoint-4/training_weights.safetensors") for name in ("whole", "cut")
    )
    assert_equal_weights(cut, whole)


def test_folder_of_other_peers_is_refused(tmp_path):
    mutual_trainer("images", tmp_path, **SAVING).train()
    assert json.loads((tmp_path / "run.json").read_text())["model"]["peer_0"]["model_type"] == "vit"
    with pytest.raises(ValueError, match=r"another run \(peer_1"):
        mutual_trainer("images", tmp_path, models=[tiny_model("vit"), tiny_model("vit", seed=1)], **SAVING).train()


def test_push_takes_the_best_peer_and_goes_on_from_the_hub(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    options = {"push_to_hub": True, "hub_model_id": "student", "hub_strategy": "checkpoint", **SAVING}
    trainer = mutual_trainer("images", tmp_path / "first", **options)
    trainer.train()
    scripted(trainer, {"eval_peer_0_accuracy": 0.1, "eval_peer_1_accuracy": 0.2})
    trainer.push_to_hub()
    names = set(hub.files("tester/student"))
    assert {"README.md", "config.json", "model.safetensors"} <= names
    assert not [name for name in names if name.startswith("peer_") or name == "training_weights.safetensors"]
    assert_exported("tester/student", trainer.peers[1])
    resumed = mutual_trainer("images", tmp_path / "second", **{**SAVING, "max_steps": 7})
    resumed.train(resume_from_checkpoint="tester/student")
    assert resumed.state.global_step == 7


def test_search_makes_new_peers_for_each_trial(tmp_path):
    pytest.importorskip("optuna")
    made = []

    def model_init(trial):
        made.append(Peers(peers("images")))
        return made[-1]

    trainer = mutual_trainer("images", tmp_path, models=None, model_init=model_init, eval_dataset=samples("images"))
    best = trainer.hyperparameter_search(
        lambda trial: {"alpha": trial.suggest_float("alpha", 0.1, 0.9)}, n_trials=2, direction="maximize",
        compute_objective=lambda metrics: metrics["eval_accuracy"],
    )  # fmt: skip
    assert 0.1 <= best.hyperparameters["alpha"] <= 0.9
    assert len(made) >= 3
