"""Quantization-aware training: what is trained is what int8 computes, and checkpoints stay those of the plain model."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, set_seed

from hf_genkit import FineTuningConfig, FineTuningTrainer
from hf_genkit.compress.qat import prepare_qat
from hf_genkit.compress.quantization import quantize

from .quantized_models import logits, make_inputs, make_model


def rows(size=16):
    inputs = make_inputs("bert", batch=size)
    labels = torch.arange(size) % 3
    return [{"labels": labels[i]} | {name: value[i] for name, value in inputs.items()} for i in range(size)]


def train(model, folder, steps, resume=False):
    args = FineTuningConfig(
        str(folder), max_steps=steps, learning_rate=1e-3, per_device_train_batch_size=8, save_steps=2, lr_scheduler_type="constant",
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = FineTuningTrainer(model, args, train_dataset=rows())
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_training_feels_the_rounding_that_int8_does():
    model, inputs = make_model("bert"), make_inputs("bert", batch=16)
    prepared = prepare_qat(copy.deepcopy(model))
    plain, rounded, int8 = (
        logits(network, inputs) for network in (model, prepared, quantize(prepared, "int8_dynamic"))
    )
    assert (rounded - int8).abs().mean() < 0.1 * (plain - int8).abs().mean()
    assert torch.equal(int8, logits(quantize(model, "int8_dynamic"), inputs))


def test_weights_round_only_where_int8_will():
    model = prepare_qat(make_model("bert"), keep=["bert.encoder.layer.1"])
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    assert kinds["bert.encoder.layer.0.output.dense"] == "FakeQuantizedLinear"
    assert kinds["bert.encoder.layer.1.output.dense"] == kinds["classifier"] == "Linear"


def test_gradients_reach_every_parameter_and_names_stay():
    model = make_model("bert")
    names = set(model.state_dict())
    prepare_qat(model)
    model(**make_inputs("bert"), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert all(
        parameter.grad.abs().sum() > 0 for name, parameter in model.named_parameters() if "key.bias" not in name
    )
    assert set(model.state_dict()) == names


def test_a_run_resumes_and_its_checkpoint_is_a_plain_model(tmp_path):
    inputs = make_inputs("bert")
    set_seed(0)
    whole = train(prepare_qat(make_model("bert")), tmp_path / "whole", 4).model
    set_seed(0)
    train(prepare_qat(make_model("bert")), tmp_path / "cut", 2)
    resumed = train(prepare_qat(make_model("bert")), tmp_path / "cut", 4, resume=True).model
    expected = logits(whole, inputs)
    assert torch.equal(logits(resumed, inputs), expected)
    assert not torch.allclose(expected, logits(prepare_qat(make_model("bert")), inputs), atol=0.01)

    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "cut" / "checkpoint-4", output_loading_info=True
    )
    assert not any(report.values())
    quantize(loaded, "int8_dynamic").save_pretrained(tmp_path / "int8")
    int8 = logits(AutoModelForSequenceClassification.from_pretrained(tmp_path / "int8"), inputs)
    assert (int8 - expected).abs().mean() < 0.1 * (int8 - logits(loaded, inputs)).abs().mean()


def test_unknown_names_to_keep_change_nothing():
    model = make_model("bert")
    with pytest.raises(ValueError, match="`keep` has 'head', but no module has that name"):
        prepare_qat(model, keep=["head"])
    assert {type(module) for module in model.modules()} == {type(module) for module in make_model("bert").modules()}
