"""Classifiers and language models side by side: the same samples for all, paired intervals, and what can't be compared."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

from hf_genkit import FineTuningDataArguments
from hf_genkit.arguments import ComparisonArguments
from hf_genkit.compare.judged_models import JudgedModel
from hf_genkit.compare.task_models import TaskModels, per_sample, saved_bytes
from hf_genkit.compress.chain_report import quality_of
from hf_genkit.data import image_processor_for, train_tokenizer
from hf_genkit.report.writing import read_report

from .test_comparison import compare, refused  # noqa: F401


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXTS = [
    f"the {word} sat on the mat and saw the {other}" for word in ("cat", "dog", "fox") for other in ("sun", "moon")
]


def save_classifier(folder: Path, width: int, labels: int = 10) -> Path:
    torch.manual_seed(width)
    config = ViTConfig(**{**SIZES, "hidden_size": width}, image_size=8, patch_size=4, num_channels=1)
    config.id2label = {index: str(index) for index in range(labels)}
    config.label2id = {name: index for index, name in config.id2label.items()}
    ViTForImageClassification(config).save_pretrained(folder)
    image_processor_for(1, 8).save_pretrained(folder)
    return folder


def save_language_model(folder: Path, width: int, texts: list[str] = TEXTS) -> Path:
    tokenizer = train_tokenizer(texts * 20, 300)
    torch.manual_seed(width)
    config = LlamaConfig(**{**SIZES, "hidden_size": width}, vocab_size=len(tokenizer), max_position_embeddings=64)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("classifiers")
    return save_classifier(folder / "teacher", 32), save_classifier(folder / "student", 16)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts") / "data"
    split = datasets.Dataset.from_dict({"text": TEXTS * 2})
    datasets.DatasetDict(train=split, validation=split, test=split).save_to_disk(str(folder))
    return folder


def test_classifiers_are_compared_on_the_same_samples(classifiers, tmp_path, monkeypatch):
    out = tmp_path / "out"
    compare(monkeypatch, "--task", "image-classification", "--models", *classifiers, "--output_dir", out)
    teacher, student = json.loads((out / "results.json").read_text())["models"]
    assert (teacher["name"], student["name"]) == ("teacher", "student")
    assert len(teacher["parts"]) == len(student["parts"]) == 500
    assert teacher["size_bytes"] > student["size_bytes"] > 0
    assert student["latency_ms"] > 0
    (table,) = [block for block in read_report(out).sections[0].blocks if type(block).__name__ == "Table"]
    gap = np.mean(student["parts"]) - np.mean(teacher["parts"])
    assert table.rows[1]["Minus teacher"].startswith(f"{gap:+.4f}")
    assert table.rows[0]["Minus teacher"] == ""
    assert str(tmp_path) not in (out / "report.html").read_text()


def test_language_models_are_compared_by_perplexity(texts, tmp_path, monkeypatch):
    names = save_language_model(tmp_path / "large", 32), save_language_model(tmp_path / "small", 16)
    out, words = tmp_path / "out", ["--task", "text-generation", "--dataset_name", texts, "--max_length", "32"]
    compare(monkeypatch, *words, "--models", *names, "--output_dir", out)
    models = json.loads((out / "results.json").read_text())["models"]
    (table,) = [block for block in read_report(out).sections[0].blocks if type(block).__name__ == "Table"]
    perplexities = [np.exp(sum(model["parts"]) / sum(model["wholes"])) for model in models]
    for row, perplexity in zip(table.rows, perplexities, strict=True):
        assert float(row["Perplexity"].split()[0]) == pytest.approx(perplexity, rel=0.01)
    assert float(table.rows[1]["Over large"].split()[0]) == pytest.approx(perplexities[1] / perplexities[0], abs=0.002)


class Fixed(torch.nn.Module):
    """A model that answers what it is given."""

    device = torch.device("cpu")

    def forward(self, logits):
        from transformers.modeling_outputs import CausalLMOutput

        return CausalLMOutput(logits=logits)


@pytest.mark.parametrize("task", ["image-classification", "text-generation"])
def test_sums_over_samples_are_the_quality_of_the_whole(task):
    torch.manual_seed(0)
    shape = (4,) if task == "image-classification" else (4, 5)
    labels = torch.randint(0, 7, shape)
    if task == "text-generation":
        labels[0, 2:] = -100
    batches = [{"logits": torch.randn(*shape, 7), "labels": labels}]
    parts, wholes = per_sample(Fixed(), task, batches)
    assert len(parts) == len(wholes) == 4
    value = sum(parts) / sum(wholes)
    expected = quality_of(Fixed(), task, batches).mean
    assert (value if task == "image-classification" else np.exp(value)) == pytest.approx(expected, rel=1e-5)


def test_a_pairs_interval_is_narrower_than_that_of_either_model():
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    one = JudgedModel("one", list((hard < 0.80).astype(float)), [1.0] * 400)
    two = JudgedModel("two", list((hard < 0.83).astype(float)), [1.0] * 400)
    gap, alone = two.minus(one), two.quality("image-classification")
    assert gap.mean == pytest.approx(np.mean(two.parts) - np.mean(one.parts))
    assert gap.low > 0
    assert gap.high - gap.low < alone.high - alone.low


def test_models_of_other_classes_are_refused(classifiers, tmp_path, refused):  # noqa: F811
    other = save_classifier(tmp_path / "other", 16, labels=3)
    words = ["--task", "image-classification", "--models", classifiers[0], other, "--output_dir", tmp_path / "out"]
    assert "knows the classes 0, 1, 2, but the data have 0, 1, 2, 3" in refused(*words)
    assert not (tmp_path / "out").exists()


def test_language_models_with_other_vocabularies_are_refused(texts, tmp_path, refused):  # noqa: F811
    names = save_language_model(tmp_path / "one", 16), save_language_model(tmp_path / "two", 16, ["another text"])
    words = ["--task", "text-generation", "--dataset_name", texts, "--max_length", "32", "--models", *names]
    assert "have different vocabularies" in refused(*words, "--output_dir", tmp_path / "out")


def test_an_exported_model_is_compared_too(classifiers, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install hf-genkit[onnx]")
    from hf_genkit.compress import export_onnx

    model = ViTForImageClassification.from_pretrained(classifiers[1])
    export_onnx(model, tmp_path / "onnx", {"pixel_values": torch.zeros(2, 1, 8, 8)})
    out = tmp_path / "out"
    names = [classifiers[1], tmp_path / "onnx"]
    compare(monkeypatch, "--task", "image-classification", "--models", *names, "--output_dir", out)
    models = json.loads((out / "results.json").read_text())["models"]
    assert models[0]["parts"] == models[1]["parts"]
    assert models[0]["parameters"] == models[1]["parameters"]
    devices = []
    for compared in (classifiers, names):
        args = ComparisonArguments(models=[str(name) for name in compared], task="image-classification")
        data_args = FineTuningDataArguments(dataset_name="digits", max_train_samples=40, max_eval_samples=20)
        devices.append(TaskModels(args, data_args, torch.device("meta")).device.type)
    assert devices == ["meta", "cpu"], "an exported model would be timed on another device"


@pytest.mark.parametrize("method", ["nf4", "int8_bnb"])
def test_a_quantized_model_counts_with_its_own_bytes(texts, tmp_path, monkeypatch, method):
    pytest.importorskip("bitsandbytes", reason="no bitsandbytes: pip install hf-genkit[bnb]")
    from hf_genkit.compress import quantize

    whole, small = save_language_model(tmp_path / "whole", 64), tmp_path / "small"
    quantize(LlamaForCausalLM.from_pretrained(whole), method).save_pretrained(small)
    AutoTokenizer.from_pretrained(whole).save_pretrained(small)
    out, words = tmp_path / "out", ["--task", "text-generation", "--dataset_name", texts, "--max_length", "32"]
    compare(monkeypatch, *words, "--models", whole, small, "--output_dir", out)
    models = json.loads((out / "results.json").read_text())["models"]
    for folder, model in zip((whole, small), models, strict=True):
        assert model["size_bytes"] == (folder / "model.safetensors").stat().st_size


def test_weights_in_several_files_are_counted_together(tmp_path):
    config = LlamaConfig(**SIZES, vocab_size=300)
    LlamaForCausalLM(config).save_pretrained(tmp_path, max_shard_size="20kB")
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    (tmp_path / "training_args.bin").write_bytes(b"x" * 1000)
    (tmp_path / "empty").mkdir()
    config.save_pretrained(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"has no file of weights such as model\.safetensors"):
        saved_bytes(str(tmp_path / "empty"))
    assert saved_bytes(str(tmp_path)) == sum(file.stat().st_size for file in files)


def test_a_single_sample_is_refused(tmp_path, refused):  # noqa: F811
    rows = {name: datasets.Dataset.from_dict({"text": TEXTS[:count]}) for name, count in (("train", 6), ("test", 1))}
    datasets.DatasetDict(rows).save_to_disk(str(tmp_path / "one"))
    names = save_language_model(tmp_path / "large", 32), save_language_model(tmp_path / "small", 16)
    words = ["--task", "text-generation", "--dataset_name", tmp_path / "one", "--max_length", "32", "--models", *names]
    said = refused(*words, "--output_dir", tmp_path / "out")
    assert "There is 1 sample to judge by, but an interval over samples needs 2 or more" in said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
