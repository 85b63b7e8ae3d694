"""A student against a discriminator: exact in both phases, resumable, and gone from what is exported."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import ResNetConfig, ResNetForImageClassification

from hf_genkit.trainers.adversarial_distillation_config import AdversarialDistillationConfig
from hf_genkit.trainers.adversarial_distillation_trainer import AdversarialDistillationTrainer, Discriminator
from hf_genkit.tuning import add_lora

from .test_exactness import GradientRecorder
from .test_resume import StopAt
from .tiny import Samples, pad, tiny_model
from .tiny_finetuning import finetuning_model, pad_any, samples


def adversarial_trainer(
    folder, kind="vit", *, model=None, teacher="default", **options
) -> AdversarialDistillationTrainer:
    own = {
        name: options.pop(name)
        for name in ("callbacks", "train_dataset", "eval_dataset", "optimizers")
        if name in options
    }
    if kind in ("llama-lm", "whisper", "masked"):
        name = kind.removesuffix("-lm")
        model = model or finetuning_model(name)
        torch.manual_seed(1)
        given = finetuning_model(name) if teacher == "default" else teacher
        rows, collator = samples(name), pad_any
        with torch.no_grad():
            for parameter in given.parameters():
                parameter.mul_(1.5)
    else:
        model = model or tiny_model(kind)
        given = tiny_model(kind, seed=1, scale=4.0) if teacher == "default" else teacher
        rows, collator = Samples(kind).rows, pad
    defaults = {
        "per_device_train_batch_size": 8, "max_steps": 2, "max_grad_norm": 0.0, "learning_rate": 1e-2, "use_cpu": True,
        "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "discriminator_hidden_size": 8,
    }  # fmt: skip
    return AdversarialDistillationTrainer(
        model,
        given,
        AdversarialDistillationConfig(str(folder), **{**defaults, **options}),
        data_collator=collator,
        **{"train_dataset": rows, **own},
    )


CASES = {
    "logits": ("vit", {}),
    "labels": ("bert", {"discriminator_sees_labels": True}),
    "features": ("bert", {"discriminator_on": "features"}),
    "projected": ("bert", {"feature_loss": "mse", "projector": "always"}),
    "tokens": ("llama-lm", {"discriminator_sees_labels": True}),
    "token features": ("whisper", {"discriminator_on": "features"}),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_both_phases_do_not_depend_on_how_the_batch_is_cut(tmp_path, case):
    kind, options = CASES[case]
    found = {}
    for accumulation in (1, 4):
        recorder = GradientRecorder()
        trainer = adversarial_trainer(
            tmp_path / str(accumulation), kind, per_device_train_batch_size=8 // accumulation,
            gradient_accumulation_steps=accumulation, callbacks=[recorder], adversarial_weight=3.0, optim="sgd", **options
        )  # fmt: skip
        trainer.train()
        found[accumulation] = recorder.gradients
    for whole, cut in zip(*found.values(), strict=True):
        assert (cut.norm() / whole.norm()).item() == pytest.approx(1, abs=1e-4)
        assert F.cosine_similarity(cut, whole, dim=0) > 0.9999


def test_each_step_moves_one_of_the_two(tmp_path):
    class Snapshots(GradientRecorder):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            self.gradients.append({name for name, p in model.named_parameters() if p.grad is not None})

    recorder = Snapshots()
    trainer = adversarial_trainer(
        tmp_path, "bert", n_critic=2, max_steps=3, callbacks=[recorder], discriminator_learning_rate=0.5, learning_rate=0.25,
        lr_scheduler_type="constant", discriminator_on="features", model=wider_bert(),
    )  # fmt: skip
    trainer.train()
    names = {name for name, _ in trainer.model.named_parameters()}
    discriminator = {name for name in names if name.startswith("companions.discriminator.")}
    assert recorder.gradients == [discriminator, discriminator, names - discriminator]
    rates = {group["phase"]: group["lr"] for group in trainer.optimizer.param_groups}
    assert rates == {"student": 0.25, "discriminator": 0.5}
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())  # for whatever is done next


def wider_bert():
    model = tiny_model("bert")
    config = model.config
    config.hidden_size, config.intermediate_size = 24, 32
    torch.manual_seed(0)
    return type(model)(config)


def test_the_student_s_loss_and_the_discriminator_s_are_those_of_the_formulas(tmp_path):
    trainer = adversarial_trainer(
        tmp_path, "bert", temperature=2.0, alpha=0.3, adversarial_weight=0.7, discriminator_sees_labels=True, optim="sgd",
        learning_rate=0.0,
    )  # fmt: skip
    trainer.train()
    discriminator_log, student_log = trainer.state.log_history[:2]
    batch = pad(Samples("bert").rows)
    labels = batch.pop("labels")
    student, teacher = (
        model.eval()(**batch).logits.detach() for model in (tiny_model("bert"), tiny_model("bert", seed=1, scale=4.0))
    )
    discriminator = trainer.model.companions["discriminator"]
    log_p, log_q = ((logits / 2).log_softmax(-1) for logits in (teacher, student))

    def score(items):
        hidden = discriminator.first(items) + discriminator.label.weight[labels.where(labels >= 0, 3)]
        hidden = discriminator.second(F.leaky_relu(hidden, 0.2))
        return discriminator.last(F.leaky_relu(hidden, 0.2))[:, 0].detach()

    real, fake = score(log_p), score(log_q)
    kl = 4 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    ce = F.cross_entropy(student, labels)
    adversarial = -F.logsigmoid(fake).mean()
    assert discriminator_log["discriminator_loss"] == pytest.approx(
        -(F.logsigmoid(real) + F.logsigmoid(-fake)).mean().item() / 2, rel=1e-5
    )
    right = ((real > 0).float() + (fake < 0).float()).mean() / 2
    assert discriminator_log["discriminator_accuracy"] == pytest.approx(right.item())
    assert student_log["adversarial_loss"] == pytest.approx(adversarial.item(), rel=1e-5)
    assert student_log["loss"] == pytest.approx((0.3 * kl + 0.7 * ce + 0.7 * adversarial).item(), rel=1e-5)
    assert not {"loss", "kd_loss", "adversarial_loss"} & set(discriminator_log)
    assert not {"discriminator_loss", "discriminator_accuracy"} & set(student_log)


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_the_discriminator_learns_and_draws_the_student_to_the_teacher(tmp_path, loss):
    """With alpha 0 and one label, only the discriminator can tell the student that the teacher always says something else."""
    rows = Samples("bert", size=32, unlabelled=31)
    answer = (rows.rows[-1]["labels"] + 1) % 3
    batch = pad(rows.rows)
    del batch["labels"]

    def teacher(input_ids, **inputs):
        return 2 * F.one_hot(torch.full((len(input_ids),), answer), 3).float()

    found = {}
    for weight in (0.0, 10.0):
        trainer = adversarial_trainer(
            tmp_path / str(weight), "bert", teacher=teacher, alpha=0.0, temperature=1.0, adversarial_weight=weight,
            adversarial_loss_type=loss, max_steps=80, per_device_train_batch_size=32, learning_rate=5e-3,
            discriminator_learning_rate=1e-2, lr_scheduler_type="constant", train_dataset=rows,
        )  # fmt: skip
        trainer.train()
        scores = [
            log["discriminator_accuracy"] for log in trainer.state.log_history if "discriminator_accuracy" in log
        ]
        with torch.no_grad():
            probability = trainer.model.eval()(**batch).logits.softmax(-1)[:, answer].mean().item()
        found[weight] = probability, sum(scores[-10:]) / 10
    assert found[0.0][0] < 0.1
    assert found[0.0][1] > 0.9
    assert found[10.0][0] > 0.6
    assert found[10.0][1] < 0.8


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 6, "lr_scheduler_type": "cosine", "n_critic": 1}


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    options = {"per_device_train_batch_size": 4, "feature_loss": "mse", "projector": "always", **SAVING}
    whole = adversarial_trainer(tmp_path / "whole", "bert", **options)
    whole.train()
    adversarial_trainer(tmp_path / "cut", "bert", callbacks=[StopAt(3)], **options).train()
    torch.manual_seed(5)  # whatever was drawn before
    resumed = adversarial_trainer(tmp_path / "cut", "bert", **options)
    resumed.train(resume_from_checkpoint=True)
    expected = dict(whole.model.named_parameters())
    assert any("discriminator" in name for name in expected)
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    logs = [[log for log in t.state.log_history if log["step"] > 3 and "epoch" in log] for t in (whole, resumed)]
    for expected_log, log in zip(*logs, strict=True):
        for name in {"loss", "discriminator_loss"} & set(expected_log):
            assert log[name] == expected_log[name]


def test_the_discriminator_is_in_no_file_of_the_student(tmp_path):
    trainer = adversarial_trainer(
        tmp_path / "run", "bert", discriminator_on="features", save_strategy="steps", save_steps=2
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    names = set(tiny_model("bert").state_dict())
    for folder in (tmp_path / "saved", tmp_path / "run" / "checkpoint-2"):
        assert set(load_file(folder / "model.safetensors")) == names
    assert not list((tmp_path / "saved").glob("companions*"))
    assert "discriminator" not in json.dumps(trainer.model.config.to_dict())


def test_an_adapter_is_trained_against_a_discriminator(tmp_path):
    torch.manual_seed(0)
    trainer = adversarial_trainer(tmp_path, "bert", model=add_lora(tiny_model("bert"), rank=2))
    frozen = {name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad}
    trainer.train()
    assert {name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad} == frozen
    assert "adversarial_loss" in trainer.state.log_history[1]


def test_features_of_a_cnn_and_a_transformer_meet_in_one_width(tmp_path):
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    torch.manual_seed(0)
    student = ResNetForImageClassification(config)
    trainer = adversarial_trainer(tmp_path, "vit", model=student, discriminator_on="features")
    assert trainer.model.companions["bridge"].weight.shape == (16, 8)
    trainer.train()
    assert math.isfinite(trainer.state.log_history[1]["adversarial_loss"])


def test_padding_tokens_and_unlabelled_ends_of_sentences_are_no_items(tmp_path):
    trainer = adversarial_trainer(tmp_path, "llama-lm")
    labels = pad_any(samples("llama"))["labels"]
    seen = []
    trainer.model.companions["discriminator"].register_forward_hook(lambda module, args, output: seen.append(output))
    trainer.train()
    tokens = int((labels[:, 1:] != -100).sum())
    assert [len(scores) for scores in seen] == [tokens] * 3  # both sides in the first step, the student in the second
    expected = -F.logsigmoid(seen[2]).mean().item()
    assert trainer.state.log_history[1]["adversarial_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_larger_vocabulary_is_cut_and_scores_stay_finite_where_a_class_is_impossible():
    discriminator = Discriminator(4, 8, temperature=2.0)
    logits = torch.tensor([[1.0, 2.0, -torch.inf, 0.5, 9.0]])
    labels = torch.tensor([-100])
    assert torch.equal(discriminator(logits, labels), discriminator(logits[:, :4], labels))
    assert torch.isfinite(discriminator(logits, labels)).all()


def test_features_of_another_scale_give_the_student_not_away():
    discriminator, features = Discriminator(4, 8), torch.randn(3, 4)
    scores = [discriminator(items, torch.zeros(3).long()) for items in (features, 10 * features + 3)]
    assert torch.allclose(*scores, atol=1e-4)


def test_several_teachers_speak_as_their_mixture(tmp_path):
    teachers = [tiny_model("bert", seed=seed, scale=4.0) for seed in (1, 2)]
    trainer = adversarial_trainer(tmp_path, "bert", teacher=teachers, teacher_cache="off")
    inputs = pad(Samples("bert").rows)
    view = trainer._view_of_teachers(trainer.take_apart(inputs))
    del inputs["labels"]
    expected = sum(teacher.eval()(**inputs).logits.softmax(-1) for teacher in teachers) / 2
    assert torch.allclose(view.softmax(-1), expected, atol=1e-6)


def function(**inputs):
    return torch.zeros(len(inputs["input_ids"]), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": None, "alpha": 0.0}, "There is no `teacher_model`, but a discriminator"),
        ({"teacher": function, "discriminator_on": "features"}, "the teacher, a function, has no hidden states"),
        ({"teacher": torch.nn.Linear(2, 3), "discriminator_on": "features"}, "the teacher, a Linear, has no hidden states"),
        ({"discriminator_on": "logit"}, r"`discriminator_on` is 'logit', but .*did you mean 'logits'"),
        ({"adversarial_loss_type": "wgan"}, "`adversarial_loss_type` is 'wgan', but it must be one of non_saturating"),
        ({"adversarial_weight": -1.0}, "`adversarial_weight` is -1.0, but it must be at least 0"),
        ({"n_critic": 0}, "`n_critic` is 0, but it must be at least 1"),
        ({"discriminator_hidden_size": 0}, "`discriminator_hidden_size` is 0"),
        ({"discriminator_learning_rate": -0.1}, "`discriminator_learning_rate` is -0.1"),
        ({"loss_type": "uld"}, "`loss_type` is 'uld', but a discriminator needs"),
        ({"fp16": True}, "`fp16` is true, but two networks"),
        ({"teacher_top_k": 2, "loss_type": "kl"}, "`teacher_top_k` is 2, but a discriminator on logits needs every class"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_one_sentence(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        adversarial_trainer(tmp_path, "bert", **options)


def test_a_run_that_never_reaches_the_student_is_refused_before_anything_is_written(tmp_path):
    trainer = adversarial_trainer(tmp_path / "run", n_critic=2, max_steps=2)
    with pytest.raises(
        ValueError, match="takes 2 steps, but one cycle of 2 discriminator steps and a student's step takes 3"
    ):
        trainer.train()
    model = tiny_model("vit")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = adversarial_trainer(tmp_path / "run", model=model, optimizers=(optimizer, None))
    with pytest.raises(ValueError, match="`optimizers` holds an optimizer"):
        trainer.train()
