"""recipes/finetune.py, merge_adapters.py, compare_optimizers.py and compress.py: what they leave, and what they refuse."""

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoTokenizer,
    ViTConfig,
)

from hf_genkit.compress import quantize
from hf_genkit.data import image_processor_for
from hf_genkit.hub import check_model_card

from .launching import launch, results, run


VIT = '{"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 4}'
SENTENCES = [f"The {a} {b} sees the {c} {d}." for a in ("old", "new") for b in ("cat", "dog", "cow") for c in ("red", "wet")
             for d in ("house", "tree", "road")] * 4  # fmt: skip


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """What an unchanged debug run leaves behind, launched as people do."""
    out = tmp_path_factory.mktemp("finetune") / "vit"
    shown = launch("finetune", "single", out, "--model_config", VIT).stdout
    assert "Accuracy" in shown
    return out


@pytest.fixture
def corpus(tmp_path):
    """A folder with sentences; the splits are different ones."""
    rows = {"train": SENTENCES[:96], "validation": SENTENCES[96:120], "test": SENTENCES[120:]}
    splits = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in rows.items()}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "corpus"))
    return tmp_path / "corpus"


def test_the_debug_run_leaves_a_model_card_curves_and_results(classifier):
    found = results(classifier)
    assert found["steps"] == 8
    assert found["trainable_parameters"] == found["parameters"]
    assert 0 <= found["test_accuracy"] <= 1
    assert {"latency_ms", "size_bytes", "optimizer_bytes"} <= set(found)
    check_model_card((classifier / "README.md").read_text())
    assert (classifier / "curves.png").is_file()
    assert AutoModelForImageClassification.from_pretrained(classifier).config.num_labels == 10


def test_an_adapter_is_trained_alone_and_merged_into_a_plain_model(classifier, tmp_path, monkeypatch, capsys):
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    words = ["--model_config", "null", "--model_name_or_path", classifier, "--peft", "lora", "--lora_rank", 2]
    run(monkeypatch, "finetune", *words, "--output_dir", adapter)
    found = results(adapter)
    assert found["trainable_parameters"] < found["parameters"] / 2
    assert not (adapter / "model.safetensors").exists()
    check_model_card((adapter / "README.md").read_text())
    run(monkeypatch, "merge_adapters", "--adapters", adapter, "--output_dir", merged)
    assert "ViTForImageClassification" in capsys.readouterr().out
    base, plain = load_file(classifier / "model.safetensors"), load_file(merged / "model.safetensors")
    assert base.keys() == plain.keys()
    changed = {name for name in base if not torch.equal(base[name], plain[name])}
    assert changed
    assert all("classifier" in name or "weight" in name for name in changed)
    assert AutoModelForImageClassification.from_pretrained(merged).config.id2label[3] == "3"


def test_what_cannot_be_trained_or_compressed_is_refused_by_its_source(
    classifier, tmp_path, monkeypatch, capsys, refusal
):
    adapter, small = tmp_path / "adapter", tmp_path / "small"
    source = ["--model_config", "null", "--model_name_or_path", classifier]
    run(monkeypatch, "finetune", *source, "--peft", "lora", "--lora_rank", 2, "--output_dir", adapter)
    quantize(AutoModelForImageClassification.from_pretrained(classifier), "int8_weight_only").save_pretrained(small)
    AutoImageProcessor.from_pretrained(classifier).save_pretrained(small)
    out = ["--output_dir", tmp_path / "out", "--model_name_or_path"]
    train = ["--model_config", "null", *out]
    capsys.readouterr()
    assert "is an adapter: make a plain model of it" in refusal("finetune", *train, adapter)
    assert "is quantized, so its weights can't be changed" in refusal("finetune", *train, small)
    assert "is an adapter: make a plain model of it" in refusal("compress", *out, adapter)
    assert "is quantized, so its weights can't be changed" in refusal("compress", *out, small)
    assert not (tmp_path / "out" / "forms").exists()


def test_a_model_of_other_classes_is_not_compressed(tmp_path, refusal):
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=8, patch_size=4,
        num_channels=1, num_labels=7,
    )  # fmt: skip
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / "seven")
    image_processor_for(1, 8).save_pretrained(tmp_path / "seven")
    words = ["--model_name_or_path", tmp_path / "seven", "--output_dir", tmp_path / "out"]
    assert "knows the classes LABEL_0, LABEL_1" in refusal("compress", *words)


def test_another_base_in_the_same_folder_is_refused(classifier, tmp_path, monkeypatch, capsys, refusal):
    source = ["--model_config", "null", "--model_name_or_path", classifier, "--output_dir", tmp_path / "out"]
    run(monkeypatch, "finetune", *source, "--unfreeze_every", 1)
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert "holds another run (unfreeze_every 1.0 there" in refusal("finetune", *source)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_frozen_layers_are_those_of_the_start(classifier, tmp_path, monkeypatch):
    words = ["--model_config", "null", "--model_name_or_path", classifier, "--freeze_first", 1, "--unfreeze_every", 1]
    run(monkeypatch, "finetune", *words, "--output_dir", tmp_path / "out")
    before, after = load_file(classifier / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("layers.0." in name or "embeddings" in name for name in moved)
    assert any("classifier" in name for name in moved)


LANGUAGE_RUN = [
    "--max_length",
    32,
    "--vocab_size",
    300,
    "--num_train_epochs",
    8,
    "--per_device_train_batch_size",
    4,
    "--eval_strategy",
    "no",
]
TINY = '{"model_type": "%s", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'


def test_a_causal_model_is_pretrained_and_tuned_from_scratch_on_the_same_data(corpus, tmp_path, monkeypatch):
    data = ["--dataset_name", corpus, *LANGUAGE_RUN]
    run(monkeypatch, "finetune", *data, "--model_config", TINY % "llama", "--output_dir", tmp_path / "first")
    first = results(tmp_path / "first")
    assert first["test_perplexity"] < 100, "no better than guessing among the 300 tokens"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "first")
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "first"))
    check_model_card((tmp_path / "first" / "README.md").read_text())

    source = ["--model_config", "null", "--model_name_or_path", tmp_path / "first"]
    run(monkeypatch, "finetune", *data, *source, "--output_dir", tmp_path / "tuned")
    run(monkeypatch, "finetune", *data, *source, "--from_scratch", "true", "--output_dir", tmp_path / "scratch")
    tuned, scratch = results(tmp_path / "tuned"), results(tmp_path / "scratch")
    assert tuned["before_test_perplexity"] == pytest.approx(first["test_perplexity"], rel=1e-4)
    assert tuned["test_perplexity"] < scratch["test_perplexity"]
    assert "before_test_perplexity" not in scratch


def test_texts_longer_than_the_model_reads_are_refused(corpus, tmp_path, refusal):
    short = '{"model_type": "gpt2", "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}'
    words = ["--dataset_name", corpus, "--model_config", short, "--output_dir", tmp_path / "out"]
    assert "`max_length` is 32, but the model reads at most 16 tokens" in refusal("finetune", *words, *LANGUAGE_RUN)


def test_a_masked_model_learns_to_fill_gaps(corpus, tmp_path, monkeypatch):
    words = [
        "--dataset_name",
        corpus,
        *LANGUAGE_RUN,
        "--model_config",
        TINY % "bert",
        "--output_dir",
        tmp_path / "out",
    ]
    run(monkeypatch, "finetune", *words)
    assert results(tmp_path / "out")["test_perplexity"] < 200
    AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert "pipeline_tag: fill-mask" in (tmp_path / "out" / "README.md").read_text()


def test_chats_teach_answers_alone(tmp_path, monkeypatch):
    turns = [
        [{"role": "user", "content": f"{n} and {n}?"}, {"role": "assistant", "content": "yes"}] for n in range(40)
    ]
    datasets.Dataset.from_dict({"messages": turns}).save_to_disk(str(tmp_path / "chats"))
    words = ["--dataset_name", tmp_path / "chats", *LANGUAGE_RUN, "--model_config", TINY % "llama"]
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    run(monkeypatch, "finetune", *words, "--chat_template", template, "--output_dir", tmp_path / "out")
    assert results(tmp_path / "out")["test_accuracy"] == 1.0, "the answer is always the same, the questions differ"
    assert "apply_chat_template" in (tmp_path / "out" / "README.md").read_text()


def test_optimizers_are_compared_on_the_same_model(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "compare_optimizers", "--output_dir", tmp_path / "out")
    found = results(tmp_path / "out")
    assert set(found) == {"momentum 0.05", "adamw 0.002"}
    assert found["adamw 0.002"]["optimizer_bytes"] > 1.9 * found["momentum 0.05"]["optimizer_bytes"]
    assert "Optimizer" in capsys.readouterr().out
    assert (tmp_path / "out" / "curves.png").is_file()


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("finetune", ["--peft", "lor"], "`peft` is 'lor', but it must be one of none, lora, qlora (did you mean 'lora'?)"),
        ("finetune", ["--freeze_first", "some"], "`freeze_first` is 'some', but it must be a number of layers or 'all'"),
        ("finetune", ["--freeze_first", "9"], "`first` is 9, but ViTForImageClassification has 1 layers"),
        ("finetune", ["--freeze_patterns", "*.lyer.0.*"], "`patterns` has '*.lyer.0.*', but no module or parameter"),
        ("finetune", ["--target_modules", "q_proj"], "`target_modules` is given, but `peft` is 'none'"),
        ("finetune", ["--peft", "lora", "--target_modules", "quary"], "`targets` has 'quary', but no linear or conv"),
        ("finetune", ["--peft", "lora", "--freeze_first", "1"], "`peft` is 'lora', which freezes every layer itself"),
        ("finetune", ["--model_name_or_path", "x"], "one of `model_name_or_path` and `model_config`; given: both"),
        ("finetune", ["--from_scratch", "true"], "`from_scratch` takes the config of `model_name_or_path`"),
        ("finetune", ["--task", "text-generation"], "no text column"),
        ("finetune", ["--task", "text-classification"], "`task` is 'text-classification', but it must be one of image"),
        ("finetune", ["--chat_template", "nowhere.jinja"], "`chat_template` is 'nowhere.jinja', but there is no such file"),
        ("finetune", ["--optim", "adamw_torc"], "`optim` is 'adamw_torc'"),
        ("compare_optimizers", ["--optimizers", "adamw"], "`optimizers` has 'adamw', but it must be a name and a rate"),
        ("compare_optimizers", ["--optimizers", "adamm:1e-3"], "`optim` is 'adamm', but it must be one of"),
        ("merge_adapters", ["--adapters", "nowhere"], "'nowhere' is no adapter"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_sentence_before_training(refusal, recipe, words, message, tmp_path):
    out = tmp_path / "out"
    assert message in refusal(recipe, "--output_dir", out, *words)
    assert not any(out.glob("**/*.safetensors"))
