"""A GAN that fails: it stops, and the last good weights come back."""

import logging
import math

import pytest
import torch
from transformers import TrainerCallback

from hf_genkit import GANModel

from .tiny_generative import gan, pictures, trainer_for


def train(model, folder, **options):
    trainer = trainer_for(model, folder, **options)
    trainer.train()
    return trainer


def test_nan_stops_the_run_and_the_last_good_checkpoint_comes_back(tmp_path, caplog):
    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 5:
                with torch.no_grad():
                    next(model.discriminator.parameters()).fill_(math.nan)

    logging.getLogger("transformers").propagate = True
    trainer = trainer_for(
        gan(), tmp_path, max_steps=50, save_strategy="steps", save_steps=2, callbacks=[Poison()], save_total_limit=1,
        eval_strategy="steps", eval_steps=3, eval_dataset=pictures(8),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step < 10
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert trainer.has_finite_weights()
    saved = GANModel.from_pretrained(tmp_path / "checkpoint-4")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), trainer.model.parameters(), strict=True))
    assert "became nan" in caplog.text


def test_a_run_that_fails_before_its_first_checkpoint_ends_with_an_error(tmp_path):
    """Else weights that are no numbers would be saved and pushed with an ordinary card."""
    with pytest.raises(ValueError, match="weights that are not finite"):
        train(gan(), tmp_path, max_steps=8, learning_rate=1e30)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_nan_in_the_last_log_counts_too(tmp_path):
    """Training ends there anyway, but its weights must not be what is kept."""

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 6:
                with torch.no_grad():
                    next(model.discriminator.parameters()).fill_(math.nan)

    trainer = train(
        gan(), tmp_path, max_steps=8, logging_steps=4, save_strategy="steps", save_steps=4, callbacks=[Poison()]
    )
    assert trainer.monitor.failure is not None
    assert trainer.has_finite_weights()


def test_after_a_failure_the_best_checkpoint_comes_back_where_it_is_wanted(tmp_path):
    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 7:
                with torch.no_grad():
                    next(model.discriminator.parameters()).fill_(math.nan)

        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            metrics["eval_fd_test"] = {2: 3.0, 4: 1.0}.get(state.global_step, 2.0)

    trainer = train(
        gan(), tmp_path, max_steps=12, save_strategy="steps", save_steps=2, callbacks=[Poison()], eval_strategy="steps",
        eval_steps=2, eval_dataset=pictures(8), load_best_model_at_end=True, metric_for_best_model="fd_test",
    )  # fmt: skip
    saved = GANModel.from_pretrained(tmp_path / "checkpoint-4")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), trainer.model.parameters(), strict=True))


def test_a_collapsed_generator_stops_the_run(tmp_path):
    class Collapse(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step > 4:
                for network in (model.generator, model.ema_generator):
                    for parameter in network.parameters():
                        parameter.data.zero_()

    def diverse() -> GANModel:
        model = gan()
        for network in (model.generator, model.ema_generator):
            next(network.parameters()).data.mul_(30)
        return model

    trainer = train(diverse(), tmp_path, max_steps=60, callbacks=[Collapse()], save_strategy="steps", save_steps=4)
    assert trainer.state.global_step < 20
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    assert trainer.monitor.failure is not None
    again = train(diverse(), tmp_path / "on", max_steps=20, callbacks=[Collapse()], stop_on_failure=False)
    assert again.state.global_step == 20
