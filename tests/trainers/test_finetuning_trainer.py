"""Fine-tuning: losses against the textbook, gradients that don't depend on how a batch is cut, layers and optimizers."""

import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from hf_genkit import DistillationConfig, FineTuningConfig, FineTuningTrainer, freeze_layers

from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny import tiny_model
from .tiny_finetuning import MODELS, finetuning_model, finetuning_trainer, pad_any, samples


def gradient(kind, folder, batch, accumulation, **options):
    recorder = GradientRecorder()
    trainer = finetuning_trainer(
        finetuning_model(kind), folder, samples(kind), callbacks=[recorder], per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation, **options,
    )  # fmt: skip
    trainer.train()
    return recorder.gradient, trainer


@pytest.mark.parametrize("kind", MODELS)
def test_accumulation_does_not_change_the_gradient_where_labels_are_uneven(kind, tmp_path):
    expected, _ = gradient(kind, tmp_path / "whole", 8, 1)
    for batch, accumulation in ((4, 2), (2, 4)):
        found, _ = gradient(kind, tmp_path / f"cut-{batch}", batch, accumulation)
        assert_same_gradient(found, expected)


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_is_the_models_own_mean_over_labels(kind, tmp_path):
    """transformers computes it inside `forward(labels=...)`, shift included: a wrong one would differ."""
    model = finetuning_model(kind).eval()
    trainer = finetuning_trainer(model, tmp_path, samples(kind))
    batch = pad_any(samples(kind))
    expected = model(**batch).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_evaluation_counts_labels_and_not_batches(tmp_path):
    rows = samples("llama", size=7)
    losses = [
        finetuning_trainer(finetuning_model("llama"), tmp_path, rows, per_device_eval_batch_size=size).evaluate()
        for size in (7, 2)
    ]
    assert losses[0]["eval_loss"] == pytest.approx(losses[1]["eval_loss"], rel=1e-5)
    assert losses[0]["eval_accuracy"] == pytest.approx(losses[1]["eval_accuracy"])
    assert losses[1]["eval_perplexity"] == pytest.approx(math.exp(losses[1]["eval_loss"]), rel=1e-6)


def test_label_smoothing_is_for_training_alone(tmp_path):
    plain, _ = gradient("llama", tmp_path / "plain", 8, 1)
    smooth, trainer = gradient("llama", tmp_path / "smooth", 8, 1, label_smoothing_factor=0.3)
    assert smooth.norm() < 0.8 * plain.norm()
    fresh = finetuning_trainer(trainer.model, tmp_path / "again", samples("llama"))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(fresh.evaluate()["eval_loss"], rel=1e-6)


def test_layers_learn_at_falling_rates(tmp_path):
    trainer = finetuning_trainer(
        tiny_model("bert"), tmp_path, samples("bert"), layer_lr_decay=0.5, weight_decay=0.1, optim="momentum"
    )
    trainer.create_optimizer()
    rate_of = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    model = trainer.model.bert
    assert rate_of[id(trainer.model.classifier.weight)] == pytest.approx(1e-2)
    assert rate_of[id(model.encoder.layer[1].output.dense.weight)] == pytest.approx(5e-3)
    assert rate_of[id(model.encoder.layer[0].output.dense.weight)] == pytest.approx(2.5e-3)
    assert rate_of[id(model.embeddings.word_embeddings.weight)] == pytest.approx(1.25e-3)
    assert {group["momentum"] for group in trainer.optimizer.param_groups} == {0.9}
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0, 0.1}


def test_frozen_layers_stay_and_the_run_knows_them(tmp_path):
    model = tiny_model("bert")
    freeze_layers(model, first=1)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = finetuning_trainer(model, tmp_path, samples("bert"), max_steps=2)
    trainer.train()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert "bert.encoder.layer.1.output.dense.weight" in moved
    assert not any(".layer.0." in name or "embeddings" in name for name in moved)
    whole = finetuning_trainer(tiny_model("bert"), tmp_path, samples("bert"), max_steps=2)
    with pytest.raises(ValueError, match="holds another run"):
        whole.train()


@pytest.mark.parametrize(
    ("name", "kind", "momentum"),
    [("sgd", "SGD", 0), ("momentum", "SGD", 0.9), ("adam", "AdamW", None), ("adamw", "AdamW", None),
     ("rmsprop", "RMSprop", 0), ("adagrad", "Adagrad", None), ("adafactor", "Adafactor", None),
     ("adamw_8bit", "AdamW", None)],
)  # fmt: skip
def test_textbook_optimizers_train(name, kind, momentum, tmp_path):
    trainer = finetuning_trainer(tiny_model("bert"), tmp_path, samples("bert"), optim=name, max_steps=2)
    trainer.train()
    assert type(trainer.optimizer.optimizer).__name__ == kind
    if momentum is not None:
        assert trainer.optimizer.param_groups[0]["momentum"] == momentum


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim": "adamm"}, r"`optim` is 'adamm', but it must be one of .* \(did you mean 'adam'\?\)"),
        ({"optim": "adam", "weight_decay": 0.1}, "`optim` is 'adam' and `weight_decay` is 0.1, but .* is 'adamw'"),
        ({"layer_lr_decay": 0.0}, "`layer_lr_decay` is 0.0, but it must be above 0 and at most 1"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        FineTuningConfig(str(tmp_path), **options)


def test_a_misspelt_metric_for_the_best_model_is_refused_before_training(tmp_path):
    trainer = finetuning_trainer(
        tiny_model("bert"), tmp_path / "out", samples("bert"), metric_for_best_model="acuracy"
    )
    with pytest.raises(ValueError, match=r"`metric_for_best_model` is 'acuracy', .* \(did you mean 'accuracy'\?\)"):
        trainer.train()
    assert not (tmp_path / "out" / "run.json").exists()


def test_momentum_that_is_given_wins():
    config = FineTuningConfig("x", optim="momentum", optim_args="momentum=0.5,nesterov=true")
    assert config.optim_args == "momentum=0.5,nesterov=true"


def test_models_without_a_head_and_frozen_ones_are_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    args = FineTuningConfig(str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match="BertModel has no head for image-classification"):
        FineTuningTrainer(BertModel(BertConfig(**sizes, vocab_size=20)), args)
    frozen = AutoModelForSequenceClassification.from_config(BertConfig(**sizes, vocab_size=20)).requires_grad_(False)
    with pytest.raises(ValueError, match="Every parameter of the model is frozen"):
        FineTuningTrainer(frozen, args)
    with pytest.raises(ValueError, match="must be a FineTuningConfig"):
        FineTuningTrainer(tiny_model("bert"), DistillationConfig(str(tmp_path), alpha=0.0))
