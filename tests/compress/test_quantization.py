"""Quantized models: what is saved is what was computed, loads without a flag, and is as near and as small as it says."""

import json
import sys

import pytest
import torch
from diffusers import UNet2DModel
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, AutoModelForSequenceClassification

from hf_genkit import VAEConfig, VAEModel
from hf_genkit.compress.qat import prepare_qat
from hf_genkit.compress.quantization import quantize
from hf_genkit.evaluation import measure_efficiency

from .quantized_models import deviation, logits, make_inputs, make_model


AUTO = {
    "bert": AutoModelForSequenceClassification,
    "llama": AutoModelForCausalLM,
    "vit": AutoModelForImageClassification,
}
METHODS = {  # the library that config.json names, and the largest deviation
    "int8_dynamic": ("torchao", 0.15),
    "int8_weight_only": ("torchao", 0.1),
    "int4_weight_only": ("torchao", 2.0),
    "int8_bnb": ("bitsandbytes", 0.15),
    "nf4": ("bitsandbytes", 2.0),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", AUTO)
def test_what_is_saved_loads_without_a_flag_and_computes_the_same(kind, method, tmp_path):
    model, inputs = make_model(kind), make_inputs(kind)
    expected, library = logits(model, inputs), METHODS[method][0]
    quantized = quantize(model, method)
    quantized.save_pretrained(tmp_path)
    loaded, report = AUTO[kind].from_pretrained(tmp_path, output_loading_info=True)

    assert not any(report.values())
    assert torch.equal(logits(loaded, inputs), logits(quantized, inputs))
    assert 1e-4 < deviation(loaded, expected, inputs) < METHODS[method][1]
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["quant_method"] == library
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert loaded.num_parameters() == model.num_parameters()
    assert torch.equal(logits(model, inputs), expected)
    assert "quantization_config" not in model.config.to_dict()


def test_fewer_bits_mean_larger_errors_and_smaller_files():
    model, inputs = make_model("vit"), make_inputs("vit", batch=32)
    expected = logits(model, inputs)
    quantized = {method: quantize(model, method) for method in METHODS}
    errors = {method: deviation(quantized[method], expected, inputs) for method in METHODS}
    sizes = {name: measure_efficiency(network, inputs, repeats=2) for name, network in quantized.items()
             if name != "int8_bnb"}  # fmt: skip
    assert max(errors["int8_dynamic"], errors["int8_weight_only"], errors["int8_bnb"]) < errors["nf4"] / 3
    assert errors["int8_weight_only"] < errors["int4_weight_only"] / 3
    full = measure_efficiency(model, inputs, repeats=2)
    assert all(size["parameters"] == full["parameters"] for size in sizes.values())
    assert sizes["nf4"]["size_bytes"] < sizes["int8_weight_only"]["size_bytes"] < 0.45 * full["size_bytes"]


def test_the_head_and_what_is_kept_stay_as_they_are():
    model, key = make_model("bert"), "bert.encoder.layer.0.attention.self.key"
    quantized = quantize(model, "int8_weight_only", keep=["bert.encoder.layer.1"])
    for name in ("classifier", "bert.encoder.layer.1.output.dense"):
        assert torch.equal(quantized.get_submodule(name).weight, model.get_submodule(name).weight)
    assert type(quantized.get_submodule(key).weight).__name__ == "Int8Tensor"
    with pytest.raises(ValueError, match=r"`keep` has 'bert.encoder.layer.9', but no module .*did you mean"):
        quantize(model, "int8_weight_only", keep=["bert.encoder.layer.9"])


def test_layers_whose_width_does_not_fit_the_groups_stay(tmp_path):
    """bitsandbytes' CPU kernel asserts, at the first pass without gradients, that widths are multiples of 32 and 64."""
    model, inputs = make_model("vit"), make_inputs("vit")
    layer = model.vit.layers[0].mlp
    layer.fc1, layer.fc2 = torch.nn.Linear(64, 40), torch.nn.Linear(40, 64)
    model.config.intermediate_size = 40
    model.vit.layers[1].mlp.fc1, model.vit.layers[1].mlp.fc2 = torch.nn.Linear(64, 40), torch.nn.Linear(40, 64)
    quantized = quantize(model, "nf4")
    assert logits(quantized, inputs).isfinite().all()
    assert torch.equal(quantized.vit.layers[0].mlp.fc1.weight, layer.fc1.weight)


def test_embeddings_are_quantized_on_request(tmp_path):
    model, inputs = make_model("bert"), make_inputs("bert")
    expected = logits(model, inputs)
    quantized = quantize(model, "int8_dynamic", embeddings=True)
    quantized.save_pretrained(tmp_path)
    loaded = AUTO["bert"].from_pretrained(tmp_path)
    assert torch.equal(logits(loaded, inputs), logits(quantized, inputs))
    assert deviation(loaded, expected, inputs) < 0.15
    sizes = [measure_efficiency(network, inputs, repeats=2)["size_bytes"]
             for network in (quantized, quantize(model, "int8_dynamic"))]  # fmt: skip
    assert sizes[1] - sizes[0] > 2 * model.bert.embeddings.word_embeddings.weight.numel()
    for kind, method, message in (
        ("llama", "int8_dynamic", "LlamaForCausalLM has no table of embeddings of its own"),
        ("vit", "int8_dynamic", "ViTForImageClassification has no table of embeddings of its own"),
        ("bert", "nf4", "'nf4' quantizes linear layers only"),
    ):
        with pytest.raises(ValueError, match=message):
            quantize(make_model(kind), method, embeddings=True)


@pytest.mark.parametrize("method", ["int8_dynamic", "int8_weight_only"])
def test_a_unet_of_diffusers_loads_again(method, tmp_path):
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    quantized = quantize(unet, method)
    quantized.save_pretrained(tmp_path)
    loaded = UNet2DModel.from_pretrained(tmp_path, dtype=torch.float32)
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        whole, small, again = (network(images, 5).sample for network in (unet, quantized, loaded))
    assert torch.equal(small, again)
    assert 0 < (small - whole).abs().max() < 0.1 * whole.abs().max()
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    with pytest.raises(ValueError, match=r"UNet2DModel of diffusers can be quantized with int8_dynamic"):
        quantize(unet, "nf4")
    with pytest.raises(ValueError, match="UNet2DModel is quantized already"):
        quantize(loaded, method)


def test_bad_requests_are_refused_in_one_sentence():
    model = make_model("bert")
    with pytest.raises(ValueError, match=r"'int8', but it must be one of int8_dynamic, .*nf4 \(did you mean"):
        quantize(model, "int8")
    with pytest.raises(ValueError, match=r"'int8_static', which `from_pretrained` can't load: use `export_onnx"):
        quantize(model, "int8_static")
    quantized = quantize(model, "int8_weight_only")
    for call in (lambda: quantize(quantized, "nf4"), lambda: prepare_qat(quantized)):
        with pytest.raises(ValueError, match="BertForSequenceClassification is quantized already"):
            call()
    with pytest.raises(
        ValueError, match=r"ResNetForImageClassification has no linear layer to quantize besides its head"
    ):
        quantize(make_model("resnet"), "int8_dynamic")
    with pytest.raises(ValueError, match=r"VAEModel has no `get_input_embeddings`, .*use int8_bnb or nf4"):
        quantize(VAEModel(VAEConfig(hidden_sizes=[8, 16])), "int8_dynamic")


def test_missing_libraries_are_named_with_their_extra(monkeypatch):
    model = make_model("bert")
    monkeypatch.setattr("hf_genkit.compress.quantization.is_bitsandbytes_available", lambda: False)
    with pytest.raises(ImportError, match=r'pip install "hf-genkit\[bnb\]"'):
        quantize(model, "nf4")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    for call in (lambda: quantize(model, "int8_dynamic"), lambda: prepare_qat(model)):
        with pytest.raises(ImportError, match=r'pip install "hf-genkit\[quantize\]"'):
            call()
