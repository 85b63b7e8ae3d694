"""The models that are compared: the backbone's weights where they belong, and nowhere else."""

import pytest
import torch

from hf_genkit.arguments import DataArguments, TransferArguments
from hf_genkit.data import image_processor_for, load_data
from hf_genkit.tuning.transfer import Transfer
from tests.trainers.tiny import tiny_model


@pytest.fixture
def backbone(tmp_path):
    """A pre-trained model for 10 classes, as many as the digits have."""
    model = tiny_model("vit", num_labels=10)
    model.save_pretrained(tmp_path)
    image_processor_for(1, 8).save_pretrained(tmp_path)
    return model


def transfer_from(folder, **options) -> Transfer:
    args = TransferArguments(model_name_or_path=str(folder), **options)
    return Transfer(args, DataArguments(), load_data("digits"))


def test_every_variant_but_scratch_starts_with_the_weights_of_the_backbone(backbone, tmp_path):
    transfer = transfer_from(tmp_path, variants=["first:1", "all", "none", "scratch"])
    trunk = backbone.vit.state_dict()
    for variant in ("first:1", "all", "none"):
        model = transfer.new_model(variant)
        assert all(torch.equal(value, trunk[name]) for name, value in model.vit.state_dict().items())
    scratch = transfer.new_model("scratch")
    same = {name for name, value in scratch.vit.state_dict().items() if torch.equal(value, trunk[name])}
    assert "layers.0.attention.q_proj.weight" not in same
    assert len([name for name in same if name.endswith("weight") and "norm" not in name]) == 0
    assert scratch.num_parameters() == backbone.num_parameters()
    assert scratch.config.id2label == {i: str(i) for i in range(10)}


def test_variants_freeze_what_they_say(backbone, tmp_path):
    transfer = transfer_from(tmp_path, variants=["first:1", "all", "none", "scratch"])
    trained = {
        variant: sum(p.numel() for p in transfer.new_model(variant).parameters() if p.requires_grad)
        for variant in ("first:1", "all", "none", "scratch")
    }
    assert trained["scratch"] == trained["none"] == backbone.num_parameters()
    head = backbone.classifier.weight.numel() + backbone.classifier.bias.numel()
    norm = backbone.vit.layernorm.weight.numel() + backbone.vit.layernorm.bias.numel()
    assert trained["all"] == head + norm
    layer = sum(parameter.numel() for parameter in backbone.vit.layers[1].parameters())
    assert trained["first:1"] == trained["all"] + layer


def test_too_many_layers_are_refused_before_anything_is_loaded(backbone, tmp_path):
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="`first` is 3, but ViTForImageClassification has 2 layers"):
        transfer_from(tmp_path, variants=["first:3"])


def test_own_learning_rates_of_head_and_scratch():
    args = TransferArguments(model_name_or_path="x", head_learning_rate=0.5)
    rates = {variant: args.learning_rate_of(variant, 0.1) for variant in ("first:5", "all", "none", "scratch")}
    assert rates == {"first:5": 0.1, "all": 0.5, "none": 0.1, "scratch": 0.1}
