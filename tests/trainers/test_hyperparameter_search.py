"""`Trainer.hyperparameter_search` with our trainers: what is reported as tried is what was trained with."""

from transformers import TrainerCallback

from hf_genkit import DistillationConfig, DistillationTrainer

from .tiny import Samples, pad, tiny_model
from .tiny_generative import pictures, trainer_for, vae


class Applied(TrainerCallback):
    """What each trial's training really had: learning rate, batch size and width of the model."""

    def __init__(self):
        self.trials = []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        if state.global_step == 1:
            self.trials.append((optimizer.param_groups[0]["lr"], state.train_batch_size, model))


def space(trial) -> dict:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [2, 4]),
    }


def reported(study) -> list[tuple]:
    return [(trial.params["learning_rate"], trial.params["per_device_train_batch_size"]) for trial in study.trials]


def search(trainer, hp_space):
    import optuna

    storage = optuna.storages.InMemoryStorage()
    best = trainer.hyperparameter_search(
        backend="optuna",
        hp_space=hp_space,
        n_trials=3,
        direction="minimize",
        compute_objective=lambda metrics: metrics["eval_loss"],
        storage=storage,
        study_name="s",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study = optuna.load_study(study_name="s", storage=storage)
    assert best.objective == study.best_value
    return study


def test_a_distilled_student_is_trained_with_the_values_that_are_reported(tmp_path):
    """The search lets go of each trial's model, and the checks before training must not need the last one's."""
    applied = Applied()
    args = DistillationConfig(
        str(tmp_path / "out"),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="no",
        lr_scheduler_type="constant",
        use_cpu=True,
        disable_tqdm=True,
    )

    def model_init(trial):
        model = tiny_model("vit")
        if trial is not None:
            model.config.trial_classes = trial.suggest_int("classes", 3, 9)
        return model

    trainer = DistillationTrainer(
        None,
        tiny_model("vit", seed=1, scale=5.0),
        args,
        model_init=model_init,
        train_dataset=Samples("vit"),
        eval_dataset=Samples("vit"),
        data_collator=pad,
        callbacks=[applied],
    )
    alphas = []

    def with_alpha(trial):
        alphas.append(trial.suggest_float("alpha", 0.1, 0.9))
        return {**space(trial), "alpha": alphas[-1]}

    compute_loss = trainer.compute_loss
    used = []
    trainer.compute_loss = lambda *a, **k: used.append(trainer.args.alpha) or compute_loss(*a, **k)
    study = search(trainer, with_alpha)
    assert [(rate, batch) for rate, batch, _ in applied.trials] == reported(study)
    assert [trial.params["alpha"] for trial in study.trials] == alphas == list(dict.fromkeys(used))
    classes = [model.config.trial_classes for _, _, model in applied.trials]
    assert classes == [trial.params["classes"] for trial in study.trials]


def test_a_generative_model_too(tmp_path):
    applied = Applied()
    options = {"lr_scheduler_type": "constant", "eval_strategy": "steps", "eval_steps": 2, "max_steps": 2}
    trainer = trainer_for(vae(), tmp_path / "out", callbacks=[applied], eval_dataset=pictures(8), **options)
    trainer.model_init = lambda: vae()
    study = search(trainer, space)
    assert [(rate, batch) for rate, batch, _ in applied.trials] == reported(study)
