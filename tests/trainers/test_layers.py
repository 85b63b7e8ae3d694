"""The layers of every architecture, from input to head, and learning rates that follow them."""

import pytest
import torch
import transformers
from torch import nn
from transformers import Trainer

from hf_genkit.trainers.layers import layer_learning_rates, layers_of, parameter_depths

from .tiny import tiny_model


SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
SPEECH = {
    "d_model": 8, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip

# Class, options of its config, the layers, and a parameter below the first, between two, and above the last layer.
ARCHITECTURES = {
    "bert": ("BertForSequenceClassification", {**SIZES, "vocab_size": 20}, ["bert.encoder.layer.0", "bert.encoder.layer.1"],
             {"bert.embeddings.LayerNorm.bias": 0, "bert.pooler.dense.weight": 3, "classifier.weight": 3}),
    "distilbert": ("DistilBertForSequenceClassification", {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 8},
                   ["distilbert.transformer.layer.0", "distilbert.transformer.layer.1"], {"pre_classifier.weight": 3}),
    "vit": ("ViTForImageClassification", {**SIZES, "image_size": 8, "patch_size": 4}, ["vit.layers.0", "vit.layers.1"],
            {"vit.embeddings.cls_token": 0, "vit.layernorm.weight": 3}),
    "dinov2": ("Dinov2ForImageClassification", {**SIZES, "image_size": 8, "patch_size": 4},
               ["dinov2.encoder.layer.0", "dinov2.encoder.layer.1"], {"dinov2.embeddings.mask_token": 0}),
    "convnext": ("ConvNextForImageClassification", {"hidden_sizes": [8, 8], "depths": [1, 2], "num_stages": 2},
                 [f"convnext.encoder.stages.{layer}" for layer in ("0.layers.0", "1.layers.0", "1.layers.1")],
                 {"convnext.encoder.stages.1.downsampling_layer.1.weight": 2, "convnext.layernorm.weight": 4}),
    "resnet": ("ResNetForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 2]},
               [f"resnet.encoder.stages.{layer}" for layer in ("0.layers.0", "1.layers.0", "1.layers.1")],
               {"resnet.embedder.embedder.convolution.weight": 0, "classifier.1.weight": 4}),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.1},
                     [f"mobilenet_v2.layer.{i}" for i in range(16)], {"mobilenet_v2.conv_1x1.convolution.weight": 17}),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 8, "n_layer": 2, "n_head": 2}, ["transformer.h.0", "transformer.h.1"],
             {"transformer.wte.weight": 0, "transformer.ln_f.weight": 3}),
    "llama": ("LlamaForCausalLM", {**SIZES, "vocab_size": 20}, ["model.layers.0", "model.layers.1"],
              {"model.embed_tokens.weight": 0, "model.norm.weight": 3, "lm_head.weight": 3}),
    "whisper": ("WhisperForConditionalGeneration", SPEECH,
                ["model.encoder.layers.0", "model.encoder.layers.1", "model.decoder.layers.0"],
                {"model.encoder.conv1.weight": 0, "model.encoder.layer_norm.weight": 3,
                 "model.decoder.embed_tokens.weight": 3, "model.decoder.layer_norm.weight": 4}),
    "t5": ("T5ForConditionalGeneration", {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_kv": 4, "d_ff": 8},
           ["encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"], {"shared.weight": 0}),
    "swin": ("SwinForImageClassification", {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "image_size": 32},
             ["swin.encoder.layers.0.blocks.0", "swin.encoder.layers.1.blocks.0"],
             {"swin.encoder.layers.0.downsample.norm.weight": 2}),
}  # fmt: skip


def build(architecture: str) -> nn.Module:
    class_name, options, _, _ = ARCHITECTURES[architecture]
    model_class = getattr(transformers, class_name)
    return model_class(model_class.config_class(**options))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_layer_is_missed_and_none_is_made_up(architecture):
    *_, names, depths = ARCHITECTURES[architecture]
    model = build(architecture)
    assert [name for name, _ in layers_of(model)] == names
    assert all(layer is model.get_submodule(name) for name, layer in layers_of(model))
    found = parameter_depths(model)
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert {name: found[name] for name in depths} == depths
    assert list(found.values()) == sorted(found.values())
    for number, name in enumerate(names, start=1):
        assert {depth for parameter, depth in found.items() if parameter.startswith(f"{name}.")} == {number}


def test_a_peft_model_has_the_layers_of_the_model_inside():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["query"], modules_to_save=["classifier"])
    model = peft.get_peft_model(tiny_model("bert"), config)
    assert [name for name, _ in layers_of(model)] == [f"base_model.model.bert.encoder.layer.{i}" for i in (0, 1)]
    trained = {name: parameter_depths(model)[name] for name, p in model.named_parameters() if p.requires_grad}
    assert sorted(set(trained.values())) == [1, 2, 3]
    assert all((depth == 3) == ("classifier" in name) for name, depth in trained.items())


def test_linear_layers_of_a_head_are_no_layers_of_the_trunk():
    model = nn.Module()
    model.body = tiny_model("vit")
    model.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    assert len(layers_of(model)) == 2
    assert parameter_depths(model)["layers.1.weight"] == 3


def test_a_model_without_layers_is_named_in_one_sentence():
    with pytest.raises(ValueError, match=r"^Linear has no list of layers[^.]*\.$"):
        layers_of(nn.Linear(2, 2))


# ---- Learning rates ----


def test_each_layer_learns_slower_than_the_one_above():
    model = tiny_model("bert")
    rates = {id(p): group["lr"] for group in layer_learning_rates(model, 1.0, decay=0.5) for p in group["params"]}
    rates = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert rates == {name: 0.5 ** (3 - depth) for name, depth in parameter_depths(model).items()}
    assert {rates["bert.embeddings.word_embeddings.weight"], rates["classifier.bias"]} == {0.125, 1.0}


def test_weight_decay_is_that_of_the_trainer():
    model = tiny_model("bert")
    groups = layer_learning_rates(model, 1.0, decay=0.5, weight_decay=0.1)
    decayed = {id(p) for group in groups if group["weight_decay"] == 0.1 for p in group["params"]}
    by_trainer = set(Trainer.get_decay_parameter_names(None, model))
    assert {name for name, p in model.named_parameters() if id(p) in decayed} == by_trainer
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert "bert.encoder.layer.0.output.LayerNorm.weight" not in by_trainer


def test_one_rate_for_all_trains_as_without_groups():
    models = [tiny_model("vit"), tiny_model("vit")]
    pixels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    optimizers = [
        torch.optim.AdamW(models[0].parameters(), lr=1e-2, weight_decay=0.0),
        torch.optim.AdamW(layer_learning_rates(models[1], 1e-2, decay=1.0)),
    ]
    for model, optimizer in zip(models, optimizers, strict=True):
        model(pixel_values=pixels, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_frozen_parameters_get_no_group():
    model = tiny_model("vit")
    model.vit.requires_grad_(False)
    groups = layer_learning_rates(model, 1.0, decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.classifier.parameters()))


@pytest.mark.parametrize("decay", [0.0, 1.5, -1.0])
def test_a_decay_that_is_no_share_is_refused(decay):
    with pytest.raises(ValueError, match=rf"`decay` is {decay}, but it must be above 0 and at most 1\."):
        layer_learning_rates(tiny_model("vit"), 1.0, decay=decay)
