"""Generations of one architecture: who learns from whom, and what an interrupted run goes on with."""

import json

import pytest
import torch
from transformers import AutoModelForImageClassification, TrainerCallback

from hf_genkit.trainers.born_again import RECORD_FILE

from .test_resume import StopAt, assert_equal_weights, weights
from .tiny import Samples, tiny_model
from .tiny_self import self_trainer


def fresh():
    """New weights each time: they follow the seed that Trainer has set."""
    config = tiny_model("vit", seed=torch.initial_seed()).config
    return AutoModelForImageClassification.from_config(config)


def born_again(folder, **options):
    defaults = {"self_teacher": "born_again", "generations": 3, "max_steps": 3, "eval_dataset": Samples("vit", size=6)}
    return self_trainer(None, folder, model_init=fresh, **{**defaults, **options})


class Beginnings(TrainerCallback):
    """The weights that each run starts from, and its first step."""

    def __init__(self):
        self.states, self.steps = [], []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.steps.append(state.global_step)
        self.states.append({name: value.clone() for name, value in model.state_dict().items()})


def logs_of(trainer, number, name):
    return [log[name] for log in trainer.state.log_history if log["generation"] == number and name in log]


def test_each_generation_starts_anew_and_learns_from_the_one_before(tmp_path):
    beginnings = Beginnings()
    trainer = born_again(tmp_path, callbacks=[beginnings], alpha=0.6)
    output = trainer.train()
    first, second, third = beginnings.states
    assert not any(torch.equal(first[name], second[name]) for name in first if first[name].ndim > 1)
    assert not any(torch.equal(second[name], third[name]) for name in first if first[name].ndim > 1)
    assert logs_of(trainer, 0, "kd_loss") == []
    assert logs_of(trainer, 0, "loss") == pytest.approx(logs_of(trainer, 0, "ce_loss"), rel=1e-3)
    for number in (1, 2):
        soft, hard = logs_of(trainer, number, "kd_loss"), logs_of(trainer, number, "ce_loss")
        mixed = [0.6 * kd + 0.4 * ce for kd, ce in zip(soft, hard, strict=True)]
        assert logs_of(trainer, number, "loss") == pytest.approx(mixed, rel=1e-3)
    # The teacher of the last generation is the second one: a student equal to it has nothing to learn from it.
    second = AutoModelForImageClassification.from_pretrained(tmp_path / "generation_1").eval()
    trained = AutoModelForImageClassification.from_pretrained(tmp_path / "generation_2").eval()
    pixels = torch.stack([row["pixel_values"] for row in Samples("vit", size=6).rows])
    with torch.no_grad():
        logs = [torch.log_softmax(model(pixels).logits / 4.0, -1) for model in (second, trained)]
    expected = 16 * (logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean().item()
    assert output.metrics["generation_2_eval_kd_loss"] == pytest.approx(expected, rel=1e-3)


def test_every_generation_is_evaluated_and_the_last_one_exported(tmp_path):
    trainer = born_again(tmp_path)
    output = trainer.train()
    accuracies = [output.metrics[f"generation_{number}_eval_accuracy"] for number in range(3)]
    assert all(logs_of(trainer, number, "eval_accuracy")[0] == accuracies[number] for number in range(3))
    assert_equal_weights(weights(tmp_path), weights(tmp_path / "generation_2"))
    assert trainer.evaluate()["eval_accuracy"] == pytest.approx(accuracies[2])
    assert trainer.last_evaluation("eval_accuracy")["eval_accuracy"] == accuracies[2]
    assert [log["step"] for log in trainer.state.log_history if "learning_rate" in log] == list(range(1, 10))
    assert output.global_step == trainer.state.global_step == 9
    trainer.create_model_card()
    assert "generation 2, counted from 0, of 3" in (tmp_path / "README.md").read_text()


def test_best_generation_is_exported_by_the_metric_that_was_asked_for(tmp_path):
    options = {"export_generation": "best", "metric_for_best_model": "ce_loss", "greater_is_better": False}
    trainer = born_again(tmp_path, max_steps=1, learning_rate=0.0, **options)
    output = trainer.train()
    losses = [output.metrics[f"generation_{number}_eval_ce_loss"] for number in range(3)]
    best = losses.index(min(losses))
    assert trainer.generation == best
    assert_equal_weights(weights(tmp_path), weights(tmp_path / f"generation_{best}"))
    worse = {"metric_for_best_model": "ce_loss", "greater_is_better": True}
    options |= {"generations": 2, **worse}
    trainer = born_again(tmp_path / "worst", max_steps=1, learning_rate=0.0, **options)
    trainer.train()
    assert trainer.generation == losses[:2].index(max(losses[:2]))
    assert len({trainer.generation, best}) == 2


class Interrupt(TrainerCallback):
    """Ends the process's work in the second generation's second step."""

    def on_step_end(self, args, state, control, **kwargs):
        if args.output_dir.endswith("generation_1") and state.global_step == 2:
            raise KeyboardInterrupt


def test_interrupted_run_goes_on_in_the_right_generation(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "generations": 2}
    born_again(tmp_path / "whole", **options).train()
    with pytest.raises(KeyboardInterrupt):
        born_again(tmp_path / "cut", callbacks=[Interrupt()], **options).train()
    first = tmp_path / "cut/generation_0/model.safetensors"
    written = first.stat().st_mtime_ns
    beginnings = Beginnings()
    born_again(tmp_path / "cut", callbacks=[beginnings], **options).train(resume_from_checkpoint=True)
    assert first.stat().st_mtime_ns == written
    assert beginnings.steps == [1]
    for number in range(2):
        folders = [tmp_path / name / f"generation_{number}" for name in ("cut", "whole")]
        assert_equal_weights(*map(weights, folders))
        records = [json.loads((folder / RECORD_FILE).read_text())["metrics"] for folder in folders]
        assert records[0]["eval_loss"] == records[1]["eval_loss"]
    assert_equal_weights(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_new_run_in_the_same_folder_trains_every_generation_again(tmp_path):
    born_again(tmp_path, max_steps=1, generations=2).train()
    beginnings = Beginnings()
    born_again(tmp_path, max_steps=1, generations=2, callbacks=[beginnings]).train()
    assert beginnings.steps == [0, 0]


def test_callbacks_count_in_every_generation(tmp_path):
    trainer = born_again(tmp_path, max_steps=4)
    trainer.add_callback(StopAt(2))
    trainer.train()
    assert [len(logs_of(trainer, number, "loss")) for number in range(3)] == [2, 2, 2]


def test_what_no_generation_could_start_from_is_refused(tmp_path):
    with pytest.raises(ValueError, match="model_init"):
        self_trainer(tiny_model("vit"), tmp_path, self_teacher="born_again")
    with pytest.raises(ValueError, match="no eval_dataset"):
        born_again(tmp_path, export_generation="best", eval_dataset=None)
    with pytest.raises(ValueError, match="no generations to resume"):
        born_again(tmp_path / "new").train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="set it to True"):
        born_again(tmp_path / "new").train(resume_from_checkpoint="checkpoint-3")
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())
    born_again(tmp_path / "old", max_steps=1, generations=2).train()
    with pytest.raises(ValueError, match=r"another run \(generations 2 there"):
        born_again(tmp_path / "old", max_steps=1, generations=4).train()
    assert (tmp_path / "old/generation_1" / RECORD_FILE).is_file()
