"""Masks: the right weights are zero, exactly as many as asked for, and the burnt-in model is a plain one."""

import pytest
import torch
import transformers

from hf_genkit.compress.masking import (
    input_dim,
    make_permanent,
    prunable_layers,
    prune_n_m,
    prune_weights,
    sparsity_of,
)

from ..trainers.tiny import tiny_model


GPT2 = {"n_embd": 16, "n_head": 2, "n_layer": 2, "vocab_size": 50, "n_positions": 32}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}


def make_model(kind):
    torch.manual_seed(0)
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)).eval()
    if kind == "resnet":
        return transformers.ResNetForImageClassification(transformers.ResNetConfig(**RESNET)).eval()
    return tiny_model(kind).eval()


def outputs(model):
    torch.manual_seed(1)
    if model.main_input_name == "pixel_values":
        size = model.config.to_dict().get("image_size", 32)
        return model(torch.randn(2, model.config.num_channels, size, size)).logits
    return model(torch.randint(5, 50, (2, 9))).logits


def zeros(model):
    return {name: int((weight == 0).sum()) for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "resnet", "convnext"])
def test_only_weights_of_inner_layers_are_pruned(kind):
    model = make_model(kind)
    before = zeros(model)
    layers = {f"{name}.weight" for name in prunable_layers(model)}
    after = zeros(make_permanent(prune_weights(model, 0.5, scope="layer")))
    assert {name for name in after if after[name] != before[name]} == layers
    assert not any("embed" in name or "norm" in name.lower() or "bias" in name for name in layers)
    assert not any(name.startswith(("classifier", "lm_head")) for name in layers)
    for name in layers:
        assert after[name] == round(0.5 * model.state_dict()[name].numel())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_smallest_weights_go(scope):
    model = make_model("bert")
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(1000)
    whole = {name: layer.weight.detach().clone() for name, layer in prunable_layers(model).items()}
    report = sparsity_of(prune_weights(model, 0.3, scope))
    assert report["total"] == pytest.approx(0.3, abs=1e-3)
    largest = report["layers"]["bert.encoder.layer.0.output.dense"]
    assert largest < 0.01 if scope == "global" else largest == pytest.approx(0.3, abs=0.01)
    everything = torch.cat([weight.flatten().abs() for weight in whole.values()])
    for name, layer in prunable_layers(model).items():
        hidden, shown = whole[name][layer.weight == 0].abs(), layer.weight[layer.weight != 0].abs()
        assert scope == "global" or hidden.max() <= shown.min()
        assert scope == "layer" or hidden.numel() == 0 or hidden.max() <= everything.quantile(0.3) * 1.001
        assert torch.equal(layer.weight[layer.weight != 0], whole[name][layer.weight != 0])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_burnt_in_masks_leave_a_plain_model_with_the_same_outputs(kind, tmp_path):
    model = make_model(kind)
    names, whole = set(model.state_dict()), outputs(model)
    masked = outputs(prune_weights(model, 0.6))
    assert not torch.allclose(masked, whole)
    make_permanent(model).save_pretrained(tmp_path)
    assert set(model.state_dict()) == names
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(outputs(loaded), masked)
    assert sparsity_of(loaded)["total"] == pytest.approx(0.6, abs=1e-3)


def test_head_inside_the_base_model_is_left_alone():
    config = transformers.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_heads=2, num_layers=1)
    model = transformers.T5ForConditionalGeneration(config)  # its base model is itself
    assert "lm_head" not in prunable_layers(model)
    assert "decoder.block.0.layer.1.EncDecAttention.q" in prunable_layers(model)


def test_sparsity_is_the_share_of_all_weights_when_pruned_again():
    model = prune_weights(prune_weights(make_model("bert"), 0.5), 0.6)
    assert sparsity_of(model)["total"] == pytest.approx(0.6, abs=1e-3)
    assert sparsity_of(prune_weights(make_model("bert"), 0.0))["total"] == 0


def test_report_counts_each_weight_of_the_model_once():
    model = make_model("gpt2")
    by_mask = sparsity_of(prune_weights(model, 0.5))
    plain = sparsity_of(make_permanent(model))
    assert by_mask == plain
    zero = sum(int((parameter == 0).sum()) for parameter in model.parameters())
    assert plain["model"] == zero / model.num_parameters()
    assert set(plain["layers"]) == set(prunable_layers(model))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "resnet"])
def test_every_group_along_the_inputs_keeps_its_largest_weights(kind):
    model = make_model(kind)
    whole = {name: layer.weight.detach().clone() for name, layer in prunable_layers(model).items()}
    make_permanent(prune_n_m(model, 2, 4))
    for name, layer in prunable_layers(model).items():
        dim = 0 if kind == "gpt2" else 1
        assert input_dim(layer) == dim
        groups, old = (weight.movedim(dim, -1).reshape(-1, 4) for weight in (layer.weight, whole[name]))
        assert torch.equal((groups != 0).sum(-1), torch.full((len(groups),), 2))
        assert torch.equal(groups.abs().sum(-1), old.abs().topk(2, -1).values.sum(-1))


def test_layers_that_cannot_be_divided_are_named_and_can_be_excluded():
    model = make_model("bert")  # 16 and 24 inputs
    with pytest.raises(ValueError, match=r"'bert.encoder.layer.0.attention.self.query' has 16 inputs.*groups of 6"):
        prune_n_m(model, 3, 6)
    assert sparsity_of(model)["total"] == 0
    report = sparsity_of(prune_n_m(model, 3, 6, exclude=["attention", "intermediate", "pooler"]))
    assert {name: zero for name, zero in report["layers"].items() if zero} == {
        f"bert.encoder.layer.{i}.output.dense": 0.5 for i in range(2)
    }


def test_head_is_pruned_when_asked_for_and_names_exclude_whole_parts():
    model = make_model("bert")
    assert "classifier" in prunable_layers(model, include_head=True)
    left = prunable_layers(model, exclude=["layer.1", "attention"])
    assert set(left) == {
        "bert.encoder.layer.0.intermediate.dense",
        "bert.encoder.layer.0.output.dense",
        "bert.pooler.dense",
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: prune_weights(model, 1.0), "`sparsity` is 1.0, but it must be at least 0 and below 1"),
        (lambda model: prune_weights(model, -0.1), "`sparsity` is -0.1"),
        (lambda model: prune_weights(model, scope="all"), "must be one of global, layer"),
        (
            lambda model: prune_weights(model, exclude=["atention"]),
            r"no layer's name has it \(did you mean 'attention'",
        ),
        (lambda model: prune_weights(model, exclude=["bert"]), "leave no layer of this BertForSequenceClassification"),
        (lambda model: prune_n_m(model, 4, 4), "`n` is 4 and `m` is 4"),
        (lambda model: prune_n_m(model, 0, 4), "`n` is 0"),
    ],
)
def test_bad_requests_are_named(call, message):
    model = make_model("bert")
    with pytest.raises(ValueError, match=message):
        call(model)
    assert sparsity_of(model)["total"] == 0


def test_head_that_is_the_embedding_is_refused():
    with pytest.raises(ValueError, match="'lm_head' shares its weights with the embeddings"):
        prune_weights(make_model("gpt2"), include_head=True)
