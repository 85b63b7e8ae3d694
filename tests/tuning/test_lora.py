"""LoRA adapters of diffusion networks: trained alone, saved alone, loaded, merged."""

import json
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from hf_genkit.hub import check_model_card
from hf_genkit.pipelines import ClassConditionalPipeline, UnconditionalPipeline
from hf_genkit.tuning import add_lora, load_lora

from ..trainers.tiny_diffusion import diffusion_trainer, text_parts, unet
from ..trainers.tiny_generative import pictures


@pytest.fixture
def base(tmp_path):
    """The folder of a trained pipeline."""
    trainer = diffusion_trainer(unet(num_class_embeds=5), tmp_path / "base", prediction_type="v")
    trainer.train()
    trainer.save_model()
    return tmp_path / "base"


def adapter_trainer(base, folder, **options):
    pipeline = ClassConditionalPipeline.from_pretrained(base)
    network = add_lora(pipeline.unet, rank=2, base=str(base), revision="main")
    return diffusion_trainer(
        network, folder, noise_scheduler=pipeline.scheduler, train_dataset=pictures(seed=5), **options
    )


def draw(pipeline) -> torch.Tensor:
    return pipeline([0, 1], seed=0, num_inference_steps=3, output_type="pt").images


def test_only_the_adapter_is_trained_and_saved_with_its_base(base, tmp_path):
    trainer = adapter_trainer(base, tmp_path / "adapter")
    before = {name: value.clone() for name, value in trainer.model.raw["unet"].named_parameters()}
    trainer.train()
    trainer.save_model()
    for name, value in trainer.model.raw["unet"].named_parameters():
        assert torch.equal(value, before[name]) == ("lora_" not in name), name
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name for name in weights)
    assert not (tmp_path / "adapter" / "unet").exists()
    recorded = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (recorded["base_model_name_or_path"], recorded["revision"]) == (str(base), "main")


def test_a_loaded_adapter_draws_what_the_trainer_draws_merged_or_not(base, tmp_path):
    trainer = adapter_trainer(base, tmp_path / "adapter", max_steps=8)
    trainer.train()
    trainer.save_model()
    expected = draw(trainer.pipeline())
    merged = load_lora(ClassConditionalPipeline.from_pretrained(base), str(tmp_path / "adapter"))
    assert not isinstance(merged.unet, PeftModel)
    assert torch.allclose(draw(merged), expected, atol=1e-5)
    apart = load_lora(ClassConditionalPipeline.from_pretrained(base), str(tmp_path / "adapter"), merge=False)
    assert torch.allclose(draw(apart), expected, atol=1e-5)
    plain = draw(ClassConditionalPipeline.from_pretrained(base))
    assert (expected - plain).abs().max() > 1e-3, "the adapter changes nothing"
    apart.unet = apart.unet.unload()
    assert torch.allclose(draw(apart), plain, atol=1e-6)
    merged.save_pretrained(tmp_path / "merged")
    assert torch.allclose(draw(ClassConditionalPipeline.from_pretrained(tmp_path / "merged")), expected, atol=1e-5)


def test_a_resumed_adapter_ends_the_same(base, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = adapter_trainer(base, tmp_path / "whole", **options)
    whole.train()
    again = adapter_trainer(base, tmp_path / "again", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for part, values in whole.model.trained_state().items():
        assert values
        for name, value in values.items():
            assert torch.equal(again.model.trained_state()[part][name], value), name


def test_frozen_weights_are_not_averaged_twice(base, tmp_path):
    model = adapter_trainer(base, tmp_path / "adapter").model
    raw, ema = (dict(part.named_parameters()) for part in (model.raw, model.ema))
    assert all((ema[name] is value) == ("lora_" not in name) for name, value in raw.items())


def test_the_card_names_the_base_and_loads_the_adapter(base, tmp_path):
    trainer = adapter_trainer(base, tmp_path / "adapter")
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    card = (tmp_path / "adapter" / "README.md").read_text()
    check_model_card(card)
    assert 'DiffusionPipeline.from_pretrained("base", trust_remote_code=True)' in card
    assert "PeftModel.from_pretrained(pipeline.unet, " in card
    assert "lora" in card
    assert str(tmp_path) not in card


def test_an_adapter_of_another_network_is_refused(base, tmp_path):
    trainer = adapter_trainer(base, tmp_path / "adapter")
    trainer.save_model()
    other = UnconditionalPipeline(unet(block_out_channels=(16, 16)), trainer.sampler())
    with pytest.raises(ValueError, match=r"is one of '.*base' and doesn't fit this network"):
        load_lora(other, str(tmp_path / "adapter"))
    assert not [name for name, _ in other.unet.named_parameters() if "lora" in name]
    with pytest.raises(ValueError, match="is no adapter, neither here nor on the Hub"):
        load_lora(other, str(tmp_path / "nowhere"))


def test_a_trained_text_encoder_beside_an_adapter_is_refused(tmp_path):
    """It would be trained and not saved: the adapter would not go with its base's captions."""
    parts = text_parts()
    network = add_lora(parts.pop("model"), rank=2)
    with pytest.raises(ValueError, match="the text encoder would be trained along: freeze it"):
        diffusion_trainer(network, tmp_path, **parts)
    parts["text_encoder"].requires_grad_(False)
    diffusion_trainer(network, tmp_path, **parts).train()


def test_the_folder_of_the_base_is_refused(base, tmp_path):
    """Adapter and pipeline in one folder would be pushed together."""
    with pytest.raises(ValueError, match="holds another run"):
        adapter_trainer(base, base, prediction_type="v").train()


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="`rank` is 0, but it must be at least 1"):
        add_lora(unet(), rank=0)
    with pytest.raises(ValueError, match="`targets` has 'q_proj', but no linear or convolution layer's name ends so"):
        add_lora(unet(), targets=["q_proj"])


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'pip install "hf-genkit\[peft\]"'):
        add_lora(unet())
