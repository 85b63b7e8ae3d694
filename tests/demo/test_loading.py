import pytest
import torch

from hf_genkit.demo.loading import bases_and_libraries, load_demo_model, read_file
from hf_genkit.hub import CardFacts, DatasetFacts, Result, push_folder, write_model_card

from ..trainers.tiny_finetuning import finetuning_model
from .tiny_demos import (
    save_classifier,
    save_ctc,
    save_ddpm,
    save_enlarger,
    save_gan,
    save_stock_ddpm,
    save_text_model,
    save_vae,
    save_vq_vae,
)


@pytest.mark.parametrize(
    ("save", "kind"),
    [
        (save_vae, "vae"),
        (save_vq_vae, "vae"),
        (save_gan, "gan"),
        (save_ddpm, "diffusion"),
        (save_stock_ddpm, "diffusion"),
        (save_enlarger, "diffusion"),
        (save_classifier, "image-classification"),
        (lambda folder: save_text_model(folder, "text"), "text-classification"),
        (lambda folder: save_text_model(folder, "tokens"), "token-classification"),
        (lambda folder: save_text_model(folder, "gaps"), "fill-mask"),
        (lambda folder: save_text_model(folder, "generation"), "text-generation"),
        (save_ctc, "ctc"),
    ],
)
def test_the_kind_is_found_out_from_the_folder(save, kind, tmp_path):
    loaded = load_demo_model(str(save(tmp_path)))
    assert loaded.kind == kind
    assert loaded.parameters > 0
    assert f"{loaded.parameters:,} parameters" in loaded.description()


def test_a_kind_without_a_demo_and_a_name_without_a_model_are_told(tmp_path, hub):
    finetuning_model("bert").base_model.save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"is a BertModel, but there are demos of .*genkit_vae, .*text-generation"):
        load_demo_model(str(tmp_path / "headless"))
    for name in (str(tmp_path / "nowhere"), "tester/nobody"):
        with pytest.raises(ValueError, match=f"There is no model '{name}'"):
            load_demo_model(name)


def test_a_folder_without_a_model_or_without_weights_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty' holds no model that a demo could show"):
        load_demo_model(str(tmp_path / "empty"))
    (save_classifier(tmp_path / "model") / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model' can't be loaded: .*no file named model.safetensors"):
        load_demo_model(str(tmp_path / "model"))


def test_an_adapter_is_shown_with_its_base(tmp_path):
    peft = pytest.importorskip("peft")
    base = load_demo_model(str(save_text_model(tmp_path / "base", "generation")))
    model = peft.get_peft_model(base.model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_demo_model(str(tmp_path / "adapter"))
    inputs = base.processor("once upon", return_tensors="pt")
    assert loaded.kind == "text-generation"
    torch.testing.assert_close(loaded.model(**inputs).logits, model.eval()(**inputs).logits)


def test_a_card_says_what_the_model_is_and_reached(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    save_classifier(tmp_path)
    results = [Result("loss", 0.5), Result("accuracy", 0.8125, name="Accuracy")]
    dataset = DatasetFacts("digits", split="validation")
    facts = CardFacts("student", "image-classification", "AutoModelForImageClassification", dataset, results)
    write_model_card(tmp_path, facts)
    push_folder(tmp_path, "tester/student")
    for name in (str(tmp_path), "tester/student"):
        described = load_demo_model(name).description()
        assert described.startswith("student does image classification on digits")
        assert "Accuracy 0.8125 (digits, validation split)" in described
        assert "0.5" not in described


def test_a_card_of_someone_else_shows_none_of_its_pictures(tmp_path):
    save_classifier(tmp_path)
    (tmp_path / "README.md").write_text("---\ntags: [a]\n---\n\n# x\n\n![x](http://example.org/x.png)\n")
    assert "example.org" not in load_demo_model(str(tmp_path)).description()


def test_an_adapter_that_names_no_base_is_said(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(ValueError, match=r"The adapter '.*' doesn't name the base that it is loaded on"):
        bases_and_libraries(str(tmp_path))


def test_a_card_of_another_encoding_is_read_as_far_as_it_goes(tmp_path):
    (tmp_path / "README.md").write_bytes(b"caf\xe9")
    assert read_file(str(tmp_path), "README.md") == "caf\N{REPLACEMENT CHARACTER}"
