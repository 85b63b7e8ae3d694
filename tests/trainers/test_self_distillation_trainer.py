"""A student that is its own teacher: what the teacher is at each step, and that nothing of it stays behind."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_genkit.hub.push import shareable_files
from hf_genkit.trainers.checkpointing import load_state
from hf_genkit.trainers.self_distillation_config import SelfDistillationConfig
from hf_genkit.trainers.self_distillation_trainer import AVERAGE
from hf_genkit.trainers.self_teachers import adapter_off

from .test_exactness import GradientRecorder, assert_same_gradient
from .test_resume import StopAt, assert_equal_weights, weights
from .tiny import Samples, pad, tiny_model
from .tiny_finetuning import finetuning_model
from .tiny_self import adapted, early_exit, resnet, self_trainer, set_dropout


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "lr_scheduler_type": "cosine"}


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class History(TrainerCallback):
    """Keeps the student's weights and buffers before training and after each step."""

    def __init__(self):
        self.states = []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.states.append(state_of(model))

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.states.append(state_of(model))


# ---- The moving average ----


@pytest.mark.parametrize(("kind", "build"), [("vit", resnet), ("gpt2", lambda: finetuning_model("gpt2"))])
def test_average_is_that_of_weights_and_buffers_tied_ones_once(tmp_path, kind, build):
    history = History()
    trainer = self_trainer(build(), tmp_path, kind=kind, ema_decay=0.3, callbacks=[history])
    trainer.train()
    expected = history.states[0]
    for step, state in enumerate(history.states[1:], start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        for name, value in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    found = trainer.teacher.model.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
    changed = [name for name, value in trainer.model.state_dict().items() if not torch.equal(value, found[name])]
    assert any("running_var" in name for name in changed) == (kind == "vit")


@pytest.mark.parametrize("kind", ["vit", "bert", "gpt2", "masked"])
def test_average_teaches_every_head_and_the_loss_is_the_sum_of_what_is_logged(tmp_path, kind):
    model = tiny_model(kind) if kind in ("vit", "bert") else finetuning_model(kind)
    trainer = self_trainer(
        model, tmp_path, kind=kind, alpha=0.4, eval_dataset=Samples("vit") if kind == "vit" else None
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "kd_loss" in log]
    for log in logs:
        assert log["loss"] == pytest.approx(0.4 * log["kd_loss"] + 0.6 * log["ce_loss"], rel=1e-3)
    assert logs[0]["kd_loss"] < 1e-6 < logs[-1]["kd_loss"]
    if kind == "vit":
        assert trainer.evaluate()["eval_kd_loss"] > 0


def test_average_never_trains_and_the_student_keeps_its_dropout(tmp_path):
    seen = []

    class Modes(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen.append({module.training for module in model.modules()})

    trainer = self_trainer(set_dropout(tiny_model("vit"), 0.3), tmp_path, callbacks=[Modes()])
    trainer.train()
    assert seen == [{True}] * 4
    average = trainer.teacher.model
    assert not any(module.training for module in average.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in average.parameters())


@pytest.mark.parametrize(
    ("kind", "build"), [("vit", lambda: tiny_model("vit")), ("llama", lambda: finetuning_model("llama"))]
)
def test_accumulation_does_not_change_what_the_average_teaches(tmp_path, kind, build):
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        recorder = GradientRecorder()
        trainer = self_trainer(
            build(), tmp_path / str(batch), kind=kind, per_device_train_batch_size=batch, max_steps=3, optim="sgd",
            gradient_accumulation_steps=accumulation, callbacks=[recorder], alpha=0.9, learning_rate=1.0, max_grad_norm=0.0,
        )  # fmt: skip
        trainer.train()
        found.append(recorder.gradient)
    assert_same_gradient(found[1], found[0])


@pytest.mark.parametrize("build", [resnet, lambda: adapted("vit", dropout=0.3)])
def test_resumed_run_has_the_same_weights_and_the_same_average(tmp_path, build):
    options = {"ema_decay": 0.9, "optim": "sgd", "optim_args": "momentum=0.9", **SAVING}
    whole = self_trainer(build(), tmp_path / "whole", **options)
    whole.train()
    self_trainer(build(), tmp_path / "cut", callbacks=[StopAt(2)], **options).train()
    resumed = self_trainer(build(), tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(resumed.model.state_dict(), whole.model.state_dict())
    assert_equal_weights(resumed.teacher.model.state_dict(), whole.teacher.model.state_dict())


def test_average_is_in_checkpoints_only_and_never_pushed(tmp_path):
    trainer = self_trainer(tiny_model("vit"), tmp_path / "run", **SAVING)
    trainer.train()
    trainer.save_model()
    checkpoint = tmp_path / "run/checkpoint-4"
    assert {path.suffix for path in checkpoint.iterdir()} == {".json", ".safetensors"}
    assert (checkpoint / f"{AVERAGE}.safetensors").is_file()
    assert not any(name.startswith(AVERAGE) for name in shareable_files(checkpoint))
    assert not list((tmp_path / "run").glob(f"{AVERAGE}*"))


def test_checkpoint_without_an_average_is_refused(make_trainer, tmp_path):
    make_trainer("vit", folder="other", **SAVING).train()
    trainer = self_trainer(tiny_model("vit"), tmp_path / "run", **SAVING)
    with pytest.raises(ValueError, match="holds no average"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "other/checkpoint-4"))


def test_export_ema_leaves_the_average_of_the_best_checkpoint(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True, "learning_rate": 0.3}
    options |= {"metric_for_best_model": "eval_ce_loss", "greater_is_better": False, "eval_dataset": Samples("vit")}
    trainer = self_trainer(tiny_model("vit"), tmp_path / "run", export_ema=True, ema_decay=0.9, **SAVING | options)
    trainer.train()
    trainer.save_model()
    assert 0 < trainer.state.best_global_step < 4
    average = load_state(trainer.state.best_model_checkpoint, AVERAGE)
    load = type(trainer.model).from_pretrained
    assert_equal_weights(load(tmp_path / "run").state_dict(), average)
    raw = load(trainer.state.best_model_checkpoint).state_dict()
    assert any(not torch.equal(raw[name], value) for name, value in average.items())


def test_projectors_of_hidden_states_are_no_part_of_the_average(tmp_path):
    options = {"feature_loss": "mse", "projector": "always", "export_ema": True, **SAVING}
    trainer = self_trainer(tiny_model("vit"), tmp_path / "run", **options)
    trainer.train()
    trainer.save_model()
    exported = type(trainer.model).from_pretrained(tmp_path / "run")
    assert_equal_weights(exported.state_dict(), trainer.teacher.model.state_dict())
    assert not any("companions" in name for name in weights(tmp_path / "run"))
    assert trainer.state.log_history[-2]["mse_loss"] > 0


def test_half_precision_weights_are_not_averaged(tmp_path):
    with pytest.raises(ValueError, match="half precision"):
        self_trainer(tiny_model("vit").bfloat16(), tmp_path)


# ---- The base under an adapter ----


def test_switched_off_adapter_leaves_modes_and_frozen_weights_as_they_were():
    inputs = {"pixel_values": torch.randn(2, 1, 8, 8)}
    with torch.no_grad():
        expected = tiny_model("vit").eval()(**inputs).logits
    model = set_dropout(adapted("vit", dropout=0.3), 0.3).train()
    frozen = next(parameter for name, parameter in model.named_parameters() if "lora_A" in name)
    frozen.requires_grad_(False)
    model.base_model.model.classifier.eval()
    modes = [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(1.0)
    with adapter_off(model), torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    with torch.no_grad():
        assert not torch.allclose(model.eval()(**inputs).logits, expected)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "vit", "bert"])
def test_base_teaches_its_adapter_without_a_second_copy(tmp_path, kind):
    model = adapted(kind)
    trainer = self_trainer(
        model, tmp_path / "run", kind=kind, self_teacher="adapter_off", alpha=0.7, learning_rate=0.1
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "kd_loss" in log]
    for log in logs:
        assert log["loss"] == pytest.approx(0.7 * log["kd_loss"] + 0.3 * log["ce_loss"], rel=1e-3)
    assert logs[0]["kd_loss"] < 1e-6 < logs[-1]["kd_loss"]
    assert not isinstance(trainer.teacher.model, torch.nn.Module)
    trainer.save_model()
    assert all(
        "lora" in name or "classifier" in name for name in load_file(tmp_path / "run/adapter_model.safetensors")
    )


def test_base_speaks_in_evaluation_mode_while_the_adapter_trains_with_dropout(tmp_path):
    """The base's word on a batch is the same each time, and the same as before training."""
    model = set_dropout(adapted("gpt2", dropout=0.5), 0.5)
    trainer = self_trainer(model, tmp_path, kind="gpt2", self_teacher="adapter_off")
    batch = {"input_ids": torch.arange(5, 15)[None]}
    before = trainer.teacher.logits(batch)
    trainer.train()
    assert model.training
    assert torch.equal(trainer.teacher.logits(batch), before)
    assert model.training


def test_model_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ViTForImageClassification has no adapter"):
        self_trainer(tiny_model("vit"), tmp_path, self_teacher="adapter_off")


# ---- Early exits ----


def by_hand(model, rows, alpha, temperature, hint):
    """The loss over a whole batch, written out; the first two samples have no label."""
    batch = pad(rows)
    labels = batch.pop("labels")
    outputs = model(**batch)
    target = outputs.logits.detach()
    soft = torch.softmax(target / temperature, -1)
    log = torch.log_softmax(outputs.exit_logits[0] / temperature, -1)
    terms = {
        "ce_loss": F.cross_entropy(outputs.logits, labels),
        "exit_0_ce_loss": F.cross_entropy(outputs.exit_logits[0], labels),
        "exit_0_kd_loss": temperature**2 * (soft * (soft.log() - log)).sum(-1).mean(),
        "exit_0_hint_loss": 1
        - F.cosine_similarity(outputs.exit_features[0], outputs.exit_features[1].detach()).mean(),
    }
    weights = {"ce_loss": 1, "exit_0_ce_loss": 1 - alpha, "exit_0_kd_loss": alpha, "exit_0_hint_loss": hint}
    return sum(weights[name] * term for name, term in terms.items()), terms


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_every_exit_gets_the_textbook_gradient_however_the_batch_is_cut(tmp_path, kind):
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        recorder = GradientRecorder()
        trainer = self_trainer(
            early_exit(kind), tmp_path / str(batch), kind=kind, self_teacher="deep_supervision", alpha=0.3, feature_hint=0.5,
            temperature=3.0, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, max_steps=1,
            callbacks=[recorder], max_grad_norm=0.0,
        )  # fmt: skip
        trainer.train()
        found.append(recorder.gradient)
    model = early_exit(kind)
    loss, terms = by_hand(model, Samples(kind).rows, 0.3, 3.0, 0.5)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert_same_gradient(found[0], expected)
    assert_same_gradient(found[1], expected)
    log = trainer.state.log_history[0]
    assert log["loss"] == pytest.approx(loss.item(), rel=1e-4)
    for name, term in terms.items():
        assert log[name] == pytest.approx(term.item(), rel=1e-3)
    assert terms["exit_0_kd_loss"] > 0.01


def test_evaluation_judges_every_exit(tmp_path):
    rows = Samples("vit", size=7)
    model = early_exit("vit")
    trainer = self_trainer(
        model, tmp_path, self_teacher="deep_supervision", eval_dataset=rows, per_device_eval_batch_size=2, alpha=0.0
    )
    metrics = trainer.evaluate()
    _, terms = by_hand(model.eval(), rows.rows, 0.0, 4.0, 0.0)
    for name in ("ce_loss", "exit_0_ce_loss", "exit_0_kd_loss"):
        assert metrics[f"eval_{name}"] == pytest.approx(terms[name].item(), rel=1e-4)
    assert metrics["eval_loss"] == pytest.approx((terms["ce_loss"] + terms["exit_0_ce_loss"]).item(), rel=1e-4)
    batch = pad(rows.rows)
    outputs = model(batch["pixel_values"])
    labelled = batch["labels"] != -100
    for name, logits in (("eval_accuracy", outputs.logits), ("eval_exit_0_accuracy", outputs.exit_logits[0])):
        right = (logits.argmax(-1) == batch["labels"])[labelled]
        assert metrics[name] == pytest.approx(right.float().mean().item())
    assert trainer.predict(rows).predictions.shape == (7, 3)


def test_deep_supervision_resumes_and_exports_a_model_with_its_exits(tmp_path):
    def options():
        return {"self_teacher": "deep_supervision", **SAVING}

    whole = self_trainer(set_dropout(early_exit("vit"), 0.3), tmp_path / "whole", **options())
    whole.train()
    self_trainer(set_dropout(early_exit("vit"), 0.3), tmp_path / "cut", callbacks=[StopAt(2)], **options()).train()
    resumed = self_trainer(set_dropout(early_exit("vit"), 0.3), tmp_path / "cut", **options())
    resumed.train(resume_from_checkpoint=True)
    assert_equal_weights(weights(tmp_path / "cut/checkpoint-4"), weights(tmp_path / "whole/checkpoint-4"))


def test_model_without_exits_and_hints_between_other_widths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ViTForImageClassification has no early exits"):
        self_trainer(tiny_model("vit"), tmp_path, self_teacher="deep_supervision")
    with pytest.raises(ValueError, match="8, 12 channels"):
        self_trainer(early_exit("convnext"), tmp_path, self_teacher="deep_supervision", feature_hint=1.0)


# ---- What is refused, and what is said ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"self_teacher": "emma"}, "`self_teacher` is 'emma'.*did you mean 'ema'"),
        ({"ema_decay": 1.0}, "`ema_decay` is 1.0"),
        ({"feature_hint": 1.0}, "`feature_hint` is 1.0, but it belongs to self_teacher deep_supervision"),
        (
            {"self_teacher": "adapter_off", "export_ema": True},
            "`export_ema` is True, but it belongs to self_teacher ema",
        ),
        ({"self_teacher": "deep_supervision", "feature_loss": "mse"}, "`feature_loss` is 'mse'"),
        ({"self_teacher": "born_again", "generations": 1}, "`generations` is 1"),
        ({"teacher_dtype": "bfloat16"}, "about another model"),
        ({"teacher_cache": "somewhere"}, "has no cache"),
    ],
)
def test_options_of_another_kind_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelfDistillationConfig("unused", use_cpu=True, **options)


@pytest.mark.parametrize(
    ("options", "build", "words"),
    [
        ({}, lambda: tiny_model("vit"), "The teacher was a moving average"),
        ({"self_teacher": "adapter_off"}, lambda: adapted("vit"), "the base with the adapter switched off"),
        ({"self_teacher": "deep_supervision"}, lambda: early_exit("vit"), "early exits behind the layers 0"),
    ],
)
def test_card_says_who_taught(tmp_path, options, build, words):
    trainer = self_trainer(build(), tmp_path, **options)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    assert words in (tmp_path / "README.md").read_text()
