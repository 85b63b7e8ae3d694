"""Exported models: the same outputs at other sizes, nothing of this machine in the file, int8 that is smaller and told."""

import json
import sys

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from transformers import BertForTokenClassification, Trainer, TrainingArguments

from hf_genkit.compress.executorch import export_executorch
from hf_genkit.compress.export import export_onnx
from hf_genkit.compress.onnx_model import load_onnx
from hf_genkit.compress.quantization import quantize
from hf_genkit.evaluation import measure_efficiency

from .quantized_models import logits, make_inputs, make_model


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A tagger with half of its labels missing, and what was written of it in float32."""
    folder = tmp_path_factory.mktemp("tokens")
    torch.manual_seed(0)
    model, inputs = (
        BertForTokenClassification(make_model("bert", layers=1).config),
        make_inputs("bert", batch=3, length=8),
    )
    labels = logits(model.eval(), inputs).argmax(-1)
    labels[:, 4:] = -100
    labels[:, 0] = (labels[:, 0] + 1) % 3
    return model, folder, export_onnx(model.train(), folder, inputs | {"labels": labels})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of texts, and what was written of it in int8."""
    folder = tmp_path_factory.mktemp("classifier")
    model, inputs = make_model("bert", layers=1), make_inputs("bert", batch=3, length=9)
    labels = logits(model, inputs).argmax(-1)
    return model, folder, export_onnx(model, folder, inputs | {"labels": labels}, int8="dynamic")


def test_other_numbers_of_samples_and_tokens_compute_the_same(tokens):
    model, folder, report = tokens
    assert model.training
    model.eval()
    exported = load_onnx(folder, threads=1)
    for batch, length in ((1, 9), (3, 9), (5, 4), (2, 32), (1, 2)):
        inputs = make_inputs("bert", batch, length)
        expected = logits(model, inputs)
        assert torch.allclose(exported(**inputs, labels=None).logits, expected, atol=1e-5 * expected.abs().max())
    assert 0 < report["difference"] < 1e-5
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"


def test_tokens_are_judged_where_they_have_labels(tokens):
    assert tokens[2]["accuracy"] == 0.75
    assert set(tokens[2]) == {"size_bytes", "difference", "accuracy"}


def test_the_files_name_nothing_of_this_machine(tokens, classifier):
    for _, folder, _ in (tokens, classifier):
        content = (folder / "model.onnx").read_bytes()
        for trace in (b"site-packages", b"hf_genkit", b"modeling_bert", b"/home", b"/root", b"/tmp", b"File "):
            assert trace not in content
        assert {path.name for path in folder.iterdir()} == {"config.json", "model.onnx"}


def test_int8_is_smaller_and_its_deviation_is_reported(tokens, classifier):
    model, folder, report = classifier
    inputs = make_inputs("bert", batch=3, length=9)
    expected = logits(model, inputs)
    found = load_onnx(folder)(**inputs).logits
    assert report["size_bytes"] == (folder / "model.onnx").stat().st_size
    assert report["size_bytes"] < 0.45 * tokens[2]["size_bytes"]
    difference = ((found - expected).abs().max() / expected.abs().max()).item()
    assert report["int8_difference"] == pytest.approx(difference)
    assert 1e-4 < difference < 0.1
    assert report["int8_agreement"] == report["accuracy"] == report["int8_accuracy"] == 1.0


def test_embeddings_are_int8_too(classifier):
    import onnx

    weights = onnx.load(classifier[1] / "model.onnx").graph.initializer
    kinds = {weight.data_type for weight in weights if np.prod(weight.dims) >= 64 * 64}
    assert kinds == {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_efficiency_and_trainer_take_the_exported_model(tokens, classifier, tmp_path):
    model, folder, report = classifier
    inputs = make_inputs("bert", batch=5, length=7)
    measured = measure_efficiency(load_onnx(folder, threads=1), inputs, repeats=2)
    assert measured["parameters"] == model.num_parameters()
    assert measured["size_bytes"] == report["size_bytes"]
    model, folder, _ = tokens
    rows = [{name: value[i] for name, value in inputs.items()} | {"labels": torch.zeros(7).long()} for i in range(5)]
    arguments = TrainingArguments(tmp_path, use_cpu=True, per_device_eval_batch_size=2, remove_unused_columns=False)
    predictions = Trainer(load_onnx(folder), arguments).predict(rows).predictions
    assert np.allclose(predictions, logits(model.eval(), inputs), atol=1e-4)


def test_convolutions_become_int8_with_calibration(tmp_path):
    model, inputs = make_model("resnet"), make_inputs("resnet", batch=6)
    seen = []

    def batches():
        for start in (0, 3):
            seen.append(start)
            yield {"pixel_values": inputs["pixel_values"][start : start + 3], "labels": torch.zeros(3)}

    report = export_onnx(model, tmp_path, inputs, int8="static", calibration=batches())
    assert seen == [0, 3]
    import onnx

    graph = onnx.load(tmp_path / "model.onnx").graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    assert not any(len(tensor.dims) == 4 and tensor.data_type == onnx.TensorProto.FLOAT for tensor in weights.values())
    assert 1e-4 < report["int8_difference"] < 0.2
    with pytest.raises(ValueError, match='`calibration` must be given with `int8="static"` and with nothing else'):
        export_onnx(model, tmp_path, inputs, int8="static")
    with pytest.raises(ValueError, match="`int8` is 'statik', but it must be one of dynamic, static"):
        export_onnx(model, tmp_path, inputs, int8="statik")


def test_a_unet_is_exported_by_the_name_of_its_output(tmp_path):
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    ).eval()  # fmt: skip
    inputs = {"sample": torch.randn(2, 1, 8, 8), "timestep": torch.tensor([3, 900])}
    export_onnx(unet, tmp_path, inputs, output="sample")
    more = {"sample": torch.randn(5, 1, 8, 8), "timestep": torch.arange(5)}
    with torch.no_grad():
        assert torch.allclose(load_onnx(tmp_path)(**more).sample, unet(**more).sample, atol=1e-4)


def refuse(*arguments, **options):
    raise torch.onnx.OnnxExporterError("no such operator\nand more")


def test_a_model_that_differs_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    model, inputs = make_model("resnet"), make_inputs("resnet")
    with pytest.raises(
        ValueError, match=r"ResNetForImageClassification differs from PyTorch's by .* but the tolerance is 1e-12"
    ):
        export_onnx(model, tmp_path / "new", inputs, tolerance=1e-12)
    for export in (export_onnx, export_executorch):
        with pytest.raises(ValueError, match="`output` is 'sample', but it must be one of logits"):
            export(model, tmp_path / "new", inputs, output="sample")
        with pytest.raises(ValueError, match="ViTForImageClassification is quantized already"):
            export(quantize(make_model("vit"), "int8_weight_only"), tmp_path / "new", inputs)
    monkeypatch.setattr("torch.onnx.export", refuse)
    with pytest.raises(
        ValueError, match="ResNetForImageClassification can't be exported with the inputs pixel_values: no"
    ):
        export_onnx(model, tmp_path / "new", inputs)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=r"which has no model\.onnx"):
        load_onnx(tmp_path)


def test_missing_libraries_are_named_with_their_extra(monkeypatch, tmp_path):
    model, inputs = make_model("vit"), make_inputs("vit")
    for missing, extra, export in (
        ("onnx_ir.passes.common", "onnx", export_onnx),
        ("onnxruntime", "onnx", export_onnx),
        ("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch", export_executorch),
    ):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=rf'pip install "hf-genkit\[{extra}\]"'):
            export(model, tmp_path, inputs)


@pytest.mark.slow
def test_executorch_computes_the_same(tmp_path):
    pytest.importorskip("ruamel.yaml", reason="executorch needs it")
    pytest.importorskip("tabulate", reason="executorch needs it")
    runtime = pytest.importorskip("executorch.runtime")
    model, inputs = make_model("vit", layers=1), make_inputs("vit")
    report = export_executorch(model, tmp_path, inputs)
    method = runtime.Runtime.get().load_program(tmp_path / "model.pte").load_method("forward")
    (found,) = method.execute((inputs["pixel_values"][1:2],))
    assert torch.allclose(found, logits(model, {"pixel_values": inputs["pixel_values"][1:2]}), atol=1e-4)
    assert report["difference"] < 1e-4
    assert report["size_bytes"] == (tmp_path / "model.pte").stat().st_size
    assert b"site-packages" not in (tmp_path / "model.pte").read_bytes()
