"""A chain of compression: links in order, every form saved and judged, nothing trained where a link can't be done."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from transformers import AutoModelForImageClassification, ViTConfig

from hf_genkit import DistillationConfig
from hf_genkit.arguments import CompressionArguments
from hf_genkit.compress import CompressionChain, finish_compression, judge_forms, load_onnx
from hf_genkit.compress.chain_report import JudgedForm, _dominates, quality_of
from hf_genkit.data import ArrayImageDataset, BatchCollator, image_processor_for
from hf_genkit.evaluation import Interval
from hf_genkit.hub import DatasetFacts, check_model_card
from hf_genkit.trainers.inputs import with_float_pixels

from ..trainers.tiny import tiny_model


PROCESSOR = image_processor_for(1, 8)


def images(size: int = 64) -> ArrayImageDataset:
    """Bright or dark, in three grades: easy to learn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size)
    pixels = rng.integers(0, 60, (size, 1, 8, 8)) + labels[:, None, None, None] * 90
    return ArrayImageDataset(pixels.astype(np.uint8), labels)


def batches(dataset, size: int) -> list[dict]:
    return [with_float_pixels(batch, PROCESSOR) for batch in DataLoader(dataset, size, collate_fn=BatchCollator(None))]


def model(layers: int = 2):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64, image_size=8, patch_size=4,
        num_channels=1, num_labels=3,
    )  # fmt: skip
    return AutoModelForImageClassification.from_config(config)


def chain_of(folder, *links: str, network=None, **options) -> CompressionChain:
    args = DistillationConfig(
        str(folder), per_device_train_batch_size=16, use_cpu=True, disable_tqdm=True, save_strategy="no",
        num_train_epochs=2, learning_rate=1e-3, teacher_cache="off",
    )  # fmt: skip
    data = images()
    return CompressionChain(
        model() if network is None else network,
        args,
        CompressionArguments("vit", chain=list(links)),
        train=data,
        evaluation=None,
        collator=None,
        processor=PROCESSOR,
        batches=lambda samples: batches(Subset(data, range(min(samples, 64))), 16),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole chain, and its forms judged."""
    out = tmp_path_factory.mktemp("chain") / "small"
    chain = chain_of(
        out, "prune:intermediate=0.5,layers=1,importance=taylor", "mask:sparsity=0.5", "distil:epochs=2",
        "qat:epochs=1", "quantize:method=int8_dynamic", "export:int8=none",
    )  # fmt: skip
    forms = chain.run()
    return out, forms, judge_forms(forms, "image-classification", batches(images(), 32), measure_memory=False)


def test_each_link_starts_from_the_last_and_its_form_is_saved(run):
    _, forms, _ = run
    assert [form.name.split(":")[0] for form in forms] == [
        "as it was", "prune", "mask", "distil", "qat", "quantize", "export",
    ]  # fmt: skip
    assert forms[0].model.config.num_hidden_layers == 2
    assert forms[1].model.config.num_hidden_layers == 1
    assert forms[1].model.config.intermediate_size == 32
    assert all((form.folder / "config.json").is_file() for form in forms)
    assert all((form.folder / "preprocessor_config.json").is_file() for form in forms)
    weights = [form.model.state_dict()["vit.layers.0.mlp.fc1.weight"] for form in forms[1:5]]
    assert not torch.equal(weights[1], weights[2]), "distillation moved nothing"


def test_masked_weights_stay_zero_through_training(run):
    _, forms, _ = run
    masked, distilled = (form.model.state_dict() for form in forms[2:4])
    zeros = {name: weight == 0 for name, weight in masked.items() if name.endswith("fc1.weight")}
    assert zeros
    for name, where in zeros.items():
        assert where.float().mean() > 0.2
        assert (distilled[name][where] == 0).all()


def test_the_output_folder_holds_the_last_form_that_from_pretrained_loads_and_the_export(run):
    out, forms, _ = run
    sample = {"pixel_values": batches(images(), 4)[0]["pixel_values"]}
    loaded = AutoModelForImageClassification.from_pretrained(out)
    assert loaded.config.quantization_config is not None
    with torch.no_grad():
        torch.testing.assert_close(loaded(**sample).logits, forms[5].model(**sample).logits)
        exported = load_onnx(out / "onnx")(**sample).logits
        assert (exported - forms[6].model(**sample).logits).abs().max() == 0


def test_the_model_that_was_given_is_left_as_it_was(tmp_path):
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    forms = chain_of(tmp_path, "prune:intermediate=0.5", "finetune:epochs=1", network=network).run()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert forms[0].model is network


def test_forms_are_judged_beside_the_first(run):
    _, _, judged = run
    assert judged[1].parameters < judged[0].parameters / 2
    assert judged[1].size_bytes < judged[0].size_bytes / 2
    assert judged[3].parameters == judged[1].parameters
    assert all(form.latency_ms > 0 and form.quality.n == 64 for form in judged)
    assert any(form.is_pareto for form in judged)


def test_a_form_that_is_worse_in_all_is_no_trade_off():
    def form(accuracy, size, latency):
        return JudgedForm("x", Interval(accuracy, 0, 1, 10), 1, size, latency)

    assert _dominates(form(0.9, 10, 1.0), form(0.8, 20, 2.0), 1)
    assert not _dominates(form(0.9, 30, 1.0), form(0.8, 20, 2.0), 1), "larger"
    assert not _dominates(form(0.9, 10, 1.0), form(0.9, 10, 1.0), 1), "equal"
    assert _dominates(form(3.0, 10, 1.0), form(4.0, 10, 1.0), -1), "a lower perplexity is better"


def test_quality_counts_labels_alone():
    network = tiny_model("vit")
    batch = {"pixel_values": torch.randn(4, 1, 8, 8), "labels": torch.tensor([0, 1, 2, -100])}
    named = network(pixel_values=batch["pixel_values"]).logits.argmax(-1)
    found = quality_of(network, "image-classification", [batch])
    assert found.n == 3
    assert found.mean == pytest.approx((named[:3] == batch["labels"][:3]).float().mean().item())


def test_the_report_names_what_it_takes_to_load_and_passes_the_hubs_rules(run, capsys, monkeypatch):
    out, forms, judged = run
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    finish_compression(
        judged, forms, task="image-classification", dataset=DatasetFacts("grades", split="test"), base="me/vit",
        labels=["a", "b", "c"], out=out, method="The chain was long.", command=["recipes/compress.py"], seconds=1.0,
        image={"image_mode": "L", "image_size": (8, 8)},
    )  # fmt: skip
    card = (out / "README.md").read_text()
    check_model_card(card)
    assert "base_model: me/vit" in card
    assert "base_model_relation: quantized" in card
    assert "needs torchao" in card
    assert "onnx/model.onnx, for onnxruntime, is the form 'export:int8=none' of the table" in card
    assert Image.open(out / "pareto.png").width > 500
    assert len(json.loads((out / "results.json").read_text())["forms"]) == 7
    assert "Accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("links", "message"),
    [
        (["prun:intermediate=0.5"], r"`chain` is 'prun', but it must be one of .* \(did you mean 'prune'\?\)"),
        (["prune:intermedate=0.5"], r"'prune' takes .* and not 'intermedate' \(did you mean 'intermediate'\?\)"),
        (["prune:intermediate=half"], "'half' is no value for 'intermediate'"),
        (["prune"], "'prune' without a share to remove"),
        (["prune:intermediate=1.0"], r"`intermediate` is 1\.0, but it must be at least 0 and below 1"),
        (["distil", "prune:channels=0.5"], "can't be pruned by `channels`"),
        (["distil", "mask:sparsity=1.5"], "sparsity"),
        (["distil", "mask:n=2,m=5"], "can't be divided into groups of 5"),
        (["distil", "quantize:method=int3"], "`method` is 'int3'"),
        (["distil", "export:int8=4bit"], "`int8` is '4bit', but it must be one of none, dynamic, static"),
        (["distil", "distil:learning_rate=-1"], "`learning_rate` is -1.0"),
        (["quantize", "distil"], "'distil' after 'quantize', but only quantize and export may follow"),
        (["quantize:embeddings=yes"], "'yes' is no value for 'embeddings'"),
        (["qat", "quantize:method=nf4"], "'qat', which must be followed by 'quantize:method=int8_dynamic'"),
        (["qat", "export"], "'qat', which must be followed by 'quantize"),
        ([], "`chain` is empty"),
    ],
)
def test_a_link_that_cannot_be_done_is_refused_before_anything_is_trained(links, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        chain_of(tmp_path / "out", *links)
    assert not (tmp_path / "out").exists()
