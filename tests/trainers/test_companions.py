"""Modules beside a student: trained with it, in none of its files, gone without a trace."""

import copy

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForImageClassification, ResNetConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_genkit.trainers.companions import (
    attach,
    companion_parameters,
    companion_state,
    detach,
    load_companion_state,
)
from hf_genkit.tuning import add_lora

from .tiny import IMAGE_MODELS, tiny_model


def resnet():
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return AutoModelForImageClassification.from_config(config)


MODELS = {
    **{kind: lambda kind=kind: tiny_model(kind) for kind in ("bert", "llama", "vit", "convnext")},
    "resnet": resnet,
    "adapter": lambda: add_lora(tiny_model("bert"), rank=2),
}


def inputs_of(kind):
    if kind in (*IMAGE_MODELS, "resnet"):
        return {"pixel_values": torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))}
    return {"input_ids": torch.arange(5, 19).view(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.long)}


def scaled(companions, outputs, beside):
    return {"scaled": companions["scale"](outputs.logits), "seen": beside}


def scale():
    torch.manual_seed(1)
    return nn.ModuleDict({"scale": nn.Linear(3, 3)})


@pytest.fixture
def student():
    student = tiny_model("bert")
    attach(student, scale(), scaled)
    return student


@pytest.mark.parametrize("kind", MODELS)
def test_they_train_with_the_student_and_leave_no_trace(kind, tmp_path):
    student = MODELS[kind]()
    names = list(student.state_dict())
    fresh = {name: value for name, value in vars(student).items() if name.endswith("hooks")}
    before = {name: len(value) for name, value in fresh.items()}
    attach(student, scale(), scaled)
    student.train()
    outputs = student(**inputs_of(kind), beside={"of": "the teacher"})
    assert outputs.seen == {"of": "the teacher"}
    outputs.scaled.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in student.named_parameters() if parameter.grad is not None}
    assert gradients["companions.scale.weight"].abs().sum() > 0
    assert len(gradients) > 2  # the student's own

    assert list(student.state_dict()) == names
    student.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        assert not any("companions" in name for name in load_file(file))

    detach(student)
    assert "companions" not in str(student)
    assert {name: len(getattr(student, name)) for name in before} == before
    assert "scaled" not in student(**inputs_of(kind))
    detach(student)  # nothing is left to take away


def test_a_student_s_weights_load_as_if_they_were_not_there(student):
    saved = tiny_model("bert", seed=5).state_dict()
    kept = companion_state(student)["scale.weight"].clone()
    student.load_state_dict(saved)
    assert torch.equal(student.classifier.weight, saved["classifier.weight"])
    assert torch.equal(student.companions["scale"].weight, kept)
    del saved["classifier.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"classifier.weight\""):
        student.load_state_dict(saved)


def test_a_resumed_run_gets_its_companions_back(student):
    state = {name: value.clone() for name, value in companion_state(student).items()}
    with torch.no_grad():
        student.companions["scale"].weight.zero_()
    load_companion_state(student, state)
    assert torch.equal(student.companions["scale"].weight, scale()["scale"].weight)


def test_a_copy_has_its_own_companions(student):
    student(**inputs_of("bert"), beside={"states": torch.ones(2, requires_grad=True) * 2})  # which can't be copied
    copied = copy.deepcopy(student)
    with torch.no_grad():
        copied.companions["scale"].weight.zero_()
        copied.companions["scale"].bias.zero_()
    assert not copied(**inputs_of("bert")).scaled.any()
    assert student(**inputs_of("bert")).scaled.any()
    detach(copied)
    assert "scaled" not in copied(**inputs_of("bert"))
    assert "scaled" in student(**inputs_of("bert"))


def test_what_is_beside_one_batch_is_not_beside_the_next(student):
    student(**inputs_of("bert"), beside={"of": "the teacher"})
    assert student(**inputs_of("bert")).seen == {}


class Strict(nn.Module):
    """A model that takes no other keywords than its own."""

    def forward(self, pixel_values):
        return SequenceClassifierOutput(logits=pixel_values)


def test_the_student_itself_never_sees_what_is_beside_it():
    student = Strict()
    attach(student, nn.ModuleDict(), lambda companions, outputs, beside: beside)
    assert list(student(torch.ones(1), beside={"of": 1})) == ["logits", "of"]


def test_they_are_counted_apart(student):
    assert companion_parameters(student) == 12
    assert student.num_parameters() - companion_parameters(student) == tiny_model("bert").num_parameters()
    detach(student)
    assert companion_parameters(student) == 0


def test_a_second_set_is_refused(student):
    with pytest.raises(ValueError, match="BertForSequenceClassification has companions already"):
        attach(student, scale(), scaled)


def test_ddp_sees_the_parameters_that_a_loss_reaches_through_them():
    """With unused parameters allowed, DDP takes the outputs apart and makes them anew, and waits for what they reach."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        student = tiny_model("bert")
        attach(student, scale(), scaled)
        wrapped = DistributedDataParallel(student, find_unused_parameters=True)
        outputs = wrapped(**inputs_of("bert"), output_hidden_states=True, beside={})
        outputs.scaled.sum().backward()
        assert student.companions["scale"].weight.grad.abs().sum() > 0
        assert student.classifier.weight.grad.abs().sum() > 0
    finally:
        dist.destroy_process_group()


def test_run_without_an_answer_changes_nothing():
    student = tiny_model("bert")
    attach(student, scale(), lambda companions, outputs, beside: {})
    outputs = student(**inputs_of("bert"))
    detach(student)
    assert type(outputs) is type(student(**inputs_of("bert")))
