"""The log that another process can follow."""

import json

from transformers import TrainerCallback

from hf_genkit.hub import shareable_files

from .tiny_generative import pictures, trainer_for, vae


STATE = "trainer_state.json"


def log_of(folder) -> list[dict]:
    return json.loads((folder / STATE).read_text())["log_history"]


class Reader(TrainerCallback):
    """Reads the file after each step, as a search does from outside."""

    def __init__(self, folder):
        self.folder, self.seen = folder, []

    def on_step_begin(self, args, state, control, **kwargs):
        found = log_of(self.folder) if (self.folder / STATE).is_file() else []
        self.seen.append(sum("eval_loss" in entry for entry in found))


def test_every_evaluation_is_in_the_file_before_the_next_step(tmp_path):
    reader = Reader(tmp_path)
    trainer = trainer_for(
        vae(), tmp_path, eval_dataset=pictures(8), eval_strategy="steps", eval_steps=2, callbacks=[reader], max_steps=5
    )
    trainer.train()
    assert reader.seen == [0, 0, 1, 1, 2]
    assert log_of(tmp_path) == trainer.state.log_history
    trainer.evaluate(pictures(8, seed=1), metric_key_prefix="test")
    assert log_of(tmp_path)[-1]["test_loss"] == trainer.state.log_history[-1]["test_loss"]


def test_the_file_is_no_part_of_the_model_and_of_no_other_run(tmp_path):
    trainer = trainer_for(vae(), tmp_path)
    trainer.train()
    trainer.save_model()
    assert (tmp_path / STATE).is_file()
    assert not [name for name in shareable_files(tmp_path) if STATE in name]
    before = (tmp_path / STATE).read_text()
    trainer_for(vae(), tmp_path).evaluate(pictures(8))  # a model that is only judged has no log of its own
    assert (tmp_path / STATE).read_text() == before
    trainer_for(vae(), tmp_path).train()  # the same run once more


def test_a_checkpoint_is_still_resumed_from(tmp_path):
    trainer_for(vae(), tmp_path, save_strategy="steps", save_steps=2, max_steps=2).train()
    resumed = trainer_for(vae(), tmp_path, save_strategy="steps", save_steps=2, max_steps=4)
    resumed.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in log_of(tmp_path) if "loss" in entry] == [1, 2, 3, 4]
