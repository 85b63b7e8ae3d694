"""Adapters of transformers' models: trained and saved alone, resumed, loaded, merged, several into one; QLoRA."""

import json
import re
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from hf_genkit import add_lora, load_adapter, merge_adapters
from hf_genkit.data import train_tokenizer
from hf_genkit.hub import check_model_card, push_folder
from hf_genkit.trainers.quantized_loading import in_few_bits

from ..trainers.tiny import CONFIGS, TEXT, tiny_model
from ..trainers.tiny_finetuning import finetuning_model, finetuning_trainer, pad_any, samples


def saved(model, folder):
    """The model as people get it: loaded from a folder."""
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder)


def logits(model, kind):
    batch = pad_any(samples(kind))
    del batch["labels"]
    with torch.no_grad():
        return model.eval()(**batch).logits


def train_adapter(kind, tmp_path, name="adapter", seed=0, steps=3, **options):
    base = saved(finetuning_model(kind), tmp_path / "base")
    torch.manual_seed(seed)
    model = add_lora(base, rank=2, revision="main", **options)
    trainer = finetuning_trainer(model, tmp_path / name, samples(kind), max_steps=steps, seed=seed)
    trainer.train()
    trainer.save_model()
    return trainer


@pytest.mark.parametrize("kind", ["bert", "convnext", "gpt2", "llama", "masked", "whisper"])
def test_only_the_adapter_and_a_new_head_are_trained_and_saved(kind, tmp_path):
    trainer = train_adapter(kind, tmp_path)
    base = finetuning_model(kind).state_dict()
    for name, value in trainer.model.named_parameters():
        name = name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".original_module", "")
        if name in base:
            assert torch.equal(value, base[name]), name
    names = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert any("lora_A" in name for name in names)
    assert all("lora_" in name or "classifier" in name for name in names)
    assert any("classifier" in name for name in names) == (kind in ("bert", "convnext"))
    recorded = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (recorded["base_model_name_or_path"], recorded["revision"]) == (str(tmp_path / "base"), "main")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["bert", "convnext", "gpt2", "llama", "masked"])
@pytest.mark.parametrize("dora", [False, True])
def test_loaded_and_merged_adapters_answer_like_the_trained_model(kind, dora, tmp_path):
    if dora and kind == "gpt2":
        pytest.skip("one of the two is enough for transposed layers")
    trainer = train_adapter(kind, tmp_path, dora=dora)
    expected = logits(trainer.model, kind)
    folder = str(tmp_path / "adapter")
    loaded, merged = load_adapter(folder), load_adapter(folder, merge=True)
    assert isinstance(loaded, PeftModel)
    assert not isinstance(merged, PeftModel)
    torch.testing.assert_close(logits(loaded, kind), expected)
    torch.testing.assert_close(logits(merged, kind), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(saved(merged, tmp_path / "merged"), kind), logits(merged, kind))


def test_transformers_itself_loads_the_adapter_by_its_folder(tmp_path):
    trainer = train_adapter("llama", tmp_path)
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(logits(found, "llama"), logits(trainer.model, "llama"))


def test_a_new_head_has_the_classes_of_the_data_after_loading(tmp_path):
    labels = {0: "bad", 1: "fair", 2: "good", 3: "best"}
    tiny_model("bert").save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", id2label=labels, ignore_mismatched_sizes=True
    )
    trainer = finetuning_trainer(add_lora(base, rank=2), tmp_path / "adapter", samples("bert"))
    trainer.train()
    trainer.save_model()
    loaded = load_adapter(str(tmp_path / "adapter"), merge=True)
    assert loaded.config.id2label == labels
    torch.testing.assert_close(logits(loaded, "bert"), logits(trainer.model, "bert"))


def test_a_resumed_adapter_ends_with_the_same_weights(tmp_path):
    def trainer(folder):
        model = add_lora(saved(finetuning_model("llama"), tmp_path / "base"), rank=2, dropout=0.1)
        return finetuning_trainer(
            model, tmp_path / folder, samples("llama"), max_steps=4, save_strategy="steps", save_steps=2,
            per_device_train_batch_size=4,
        )  # fmt: skip

    torch.manual_seed(0)
    whole = trainer("whole")
    whole.train()
    torch.manual_seed(1)  # what the adapter starts from must come out of the checkpoint
    resumed = trainer("whole")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_target_modules_are_found_for_every_architecture(kind):
    model = add_lora(tiny_model(kind), rank=2)
    adapted = [name for name, module in model.named_modules() if "lora_A" in dict(module.named_children())]
    plain = {"classifier", "score", "pre_classifier"}
    assert adapted
    assert not any(plain & set(name.split(".")) for name in adapted)
    trained = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name}
    assert trained <= plain
    assert trained


def test_gpt2_is_adapted_though_its_layers_are_no_linear_ones():
    model = finetuning_model("gpt2")
    assert any(isinstance(module, Conv1D) for module in model.modules())
    assert set(add_lora(model, rank=2).peft_config["default"].target_modules) == {"c_attn", "c_fc", "c_proj"}


def test_merged_adapters_weigh_as_told(tmp_path):
    for seed in (0, 1):
        train_adapter("llama", tmp_path, name=f"adapter-{seed}", seed=seed)
    adapters = [str(tmp_path / "adapter-0"), str(tmp_path / "adapter-1")]
    first = load_adapter(adapters[0], merge=True)
    torch.testing.assert_close(
        logits(merge_adapters(adapters, weights=[1.0, 0.0], method="cat"), "llama"), logits(first, "llama"),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    even = merge_adapters(adapters, method="cat")
    name = "model.layers.0.mlp.up_proj.weight"
    both = [load_adapter(adapter, merge=True).state_dict()[name] for adapter in adapters]
    torch.testing.assert_close(even.state_dict()[name], (both[0] + both[1]) / 2)
    assert not isinstance(merge_adapters(adapters, method="ties", density=0.5), PeftModel)


def quantizable(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return LlamaForCausalLM.from_pretrained(tmp_path / "base", **in_few_bits(4))


def test_qlora_trains_an_adapter_on_a_base_in_four_bits(tmp_path):
    model = add_lora(quantizable(tmp_path), rank=2)
    names = [name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"]
    assert len([name for name in names if name.endswith("base_layer")]) == 14
    assert not any("lm_head" in name for name in names)
    weight = model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
    assert weight.quant_state.nested
    trainer = finetuning_trainer(model, tmp_path / "adapter", samples("llama"), max_steps=20)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    trainer.save_model()
    loaded = load_adapter(str(tmp_path / "adapter"), bits=4)
    torch.testing.assert_close(logits(loaded, "llama"), logits(trainer.model, "llama"), rtol=0.02, atol=0.02)
    assert all("lora_" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))


# ---- The card ----


def test_the_card_is_ours_with_what_the_hub_needs_for_adapters(tmp_path, monkeypatch, capsys):
    trainer = train_adapter("bert", tmp_path, steps=1)
    trainer.evaluate()
    assert not (tmp_path / "adapter" / "README.md").exists(), "a card of placeholders was left by peft"
    trainer.create_model_card()
    text = (tmp_path / "adapter" / "README.md").read_text()
    check_model_card(text)
    assert "library_name: peft" in text
    assert "- lora" in text
    assert "rank 2" in text
    trainer.save_model()
    assert (tmp_path / "adapter" / "README.md").read_text() == text, "saving again changed the card"


def test_the_card_of_a_hub_base_names_it_with_revision_and_relation(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    tiny_model("bert").save_pretrained(tmp_path / "base")
    push_folder(tmp_path / "base", "tester/base")
    base = AutoModelForSequenceClassification.from_pretrained("tester/base")
    trainer = finetuning_trainer(
        add_lora(base, rank=2, revision="main"), tmp_path / "adapter", samples("bert"), hub_model_id="adapter"
    )
    trainer.train()
    trainer.evaluate()
    trainer.push_to_hub()
    recorded = json.loads(hub.files("tester/adapter")["adapter_config.json"])
    assert recorded["base_model_name_or_path"] == "tester/base"
    text = hub.files("tester/adapter")["README.md"].decode()
    assert "base_model: tester/base\n" in text
    assert "base_model_relation: adapter\n" in text
    assert 'from_pretrained("tester/base", revision="main", id2label=' in text
    assert "model.safetensors" not in hub.files("tester/adapter")
    loaded = load_adapter("tester/adapter", merge=True)
    torch.testing.assert_close(logits(loaded, "bert"), logits(trainer.model, "bert"), rtol=1e-4, atol=1e-5)


def test_the_snippet_of_an_adapter_with_another_head_than_its_base_runs(tmp_path, monkeypatch, capsys):
    tokenizer = train_tokenizer(["This is an example."] * 3, 300)
    base = BertForSequenceClassification(BertConfig(**{**TEXT, "vocab_size": 300}, num_labels=2))
    base.save_pretrained(tmp_path / "base")
    labels = {0: "bad", 1: "fair", 2: "good"}
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", id2label=labels, ignore_mismatched_sizes=True
    )
    trainer = finetuning_trainer(
        add_lora(model, rank=2), tmp_path / "adapter", samples("bert"), processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "adapter" / "README.md").read_text()
    monkeypatch.chdir(tmp_path / "adapter")
    capsys.readouterr()
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1).replace('"base"', '"../base"'), {})
    assert capsys.readouterr().out.strip() in labels.values()


def test_the_card_counts_neither_the_old_head_nor_nothing_of_the_adapter(tmp_path):
    base = tiny_model("bert").num_parameters()
    trainer = train_adapter("bert", tmp_path, steps=1)
    adapter = sum(p.numel() for name, p in trainer.model.named_parameters() if "lora_" in name)
    assert trainer.card_facts().parameters == base + adapter


def test_a_base_in_bfloat16_is_loaded_as_it_was_trained(tmp_path):
    trainer = train_adapter("llama", tmp_path)
    finetuning_model("llama").to(torch.bfloat16).save_pretrained(tmp_path / "base")
    merged = load_adapter(str(tmp_path / "adapter"), merge=True)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    assert trainer.model.dtype == torch.float32


def test_a_quantized_model_keeps_its_weights_where_no_bits_are_asked_for(tmp_path):
    """`quantization_config=None` would switch the folder's own quantization off, and leave random weights."""
    assert in_few_bits(None) == {}
    model = quantizable(tmp_path)
    model.save_pretrained(tmp_path / "small")
    found = LlamaForCausalLM.from_pretrained(tmp_path / "small", **in_few_bits(None))
    torch.testing.assert_close(logits(found, "llama"), logits(model, "llama"), rtol=0.02, atol=0.02)


# ---- Refusals ----


def test_another_base_or_other_frozen_layers_are_another_run(tmp_path):
    trainer = train_adapter("llama", tmp_path, steps=1)
    finetuning_model("llama").save_pretrained(tmp_path / "other")
    other = add_lora(LlamaForCausalLM.from_pretrained(tmp_path / "other"), rank=2)
    with pytest.raises(ValueError, match=r"holds another run \(.*base .*base there, .*other here"):
        finetuning_trainer(other, tmp_path / "adapter", samples("llama")).train()
    assert trainer.state.global_step == 1


def test_an_adapter_of_a_local_base_is_not_pushed(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    base = saved(finetuning_model("llama"), tmp_path / "base")
    with pytest.raises(ValueError, match="base' is not on the Hub, so nobody could load the adapter"):
        finetuning_trainer(
            add_lora(base, rank=2), tmp_path / "adapter", samples("llama"), hub_model_id="adapter", push_to_hub=True
        )


def test_a_tied_head_is_not_adapted(tmp_path):
    model = LlamaForCausalLM(LlamaConfig(**TEXT, num_key_value_heads=2, tie_word_embeddings=True))
    with pytest.raises(ValueError, match="`targets` has 'lm_head', but that head shares its weights"):
        add_lora(model, targets=["lm_head", "q_proj"])


def test_bad_adapters_are_refused_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`targets` has 'q_prj', but .* \(did you mean 'q_proj'\?\); there are "):
        add_lora(finetuning_model("llama"), targets=["q_prj"])
    with pytest.raises(ValueError, match="`rank` is 0"):
        add_lora(finetuning_model("llama"), rank=0)
    with pytest.raises(ValueError, match=r"`dropout` is 1\.0"):
        add_lora(finetuning_model("llama"), dropout=1.0)
    with pytest.raises(ValueError, match="nowhere' is no adapter"):
        load_adapter(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="`adapters` holds 1"):
        merge_adapters(["a"])
    with pytest.raises(ValueError, match="`method` is 'mean', but it must be one of linear"):
        merge_adapters(["a", "b"], method="mean")
    with pytest.raises(ValueError, match="`weights` holds 1 numbers for 2 adapters"):
        merge_adapters(["a", "b"], weights=[1.0])
    train_adapter("bert", tmp_path, steps=1)
    folder = str(tmp_path / "adapter")
    with pytest.raises(ValueError, match="has a head of its own"):
        merge_adapters([folder, folder])
    with pytest.raises(ValueError, match="`bits` is 4 and `merge` is set"):
        load_adapter(folder, merge=True, bits=4)


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'pip install "hf-genkit\[peft\]"'):
        add_lora(finetuning_model("llama"))
    monkeypatch.setattr("hf_genkit.trainers.quantized_loading.is_bitsandbytes_available", lambda: False)
    with pytest.raises(ImportError, match=r'pip install "hf-genkit\[bnb\]"'):
        in_few_bits(4)
