"""Early exits: layers that are really left out, answers that are really those of the exit, and a base that stays as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForImageClassification,
    BertForMaskedLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
)

from hf_genkit.models.early_exit import (
    EarlyExitConfig,
    EarlyExitForImageClassification,
    EarlyExitForSequenceClassification,
)
from hf_genkit.models.early_exit.layers_early_exit import layers_of as own_layers
from hf_genkit.trainers.layers import layers_of
from hf_genkit.trainers.tasks import task_of
from tests.trainers.tiny import IMAGE_MODELS, tiny_model


NETS = {"num_channels": 1, "num_labels": 3}
MORE = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], layer_type="basic", **NETS),
    "swin": SwinConfig(
        image_size=8, patch_size=1, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4, **NETS
    ),
}
KINDS = ["vit", "convnext", "bert", "roberta", "distilbert", "llama", "gpt2", *MORE]


def base_of(kind: str):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=0, num_labels=3
        )
        return GPT2ForSequenceClassification(config).eval()
    if kind in MORE:
        return AutoModelForImageClassification.from_config(MORE[kind]).eval()
    return tiny_model(kind, scale=3.0).eval()


def inputs_of(kind: str, size: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    if kind in (*IMAGE_MODELS, *MORE):
        return {"pixel_values": torch.randn(size, 1, 8, 8, generator=generator)}
    mask = torch.ones(size, 9).long()
    mask[:, 6:] = 0
    return {"input_ids": torch.randint(5, 60, (size, 9), generator=generator) * mask, "attention_mask": mask}


def with_exits(kind: str, exits=(0,), opinion: float = 100.0):
    model_class = (
        EarlyExitForImageClassification if "pixel_values" in inputs_of(kind) else EarlyExitForSequenceClassification
    )
    torch.manual_seed(2)
    model = model_class.from_base(base_of(kind), list(exits))
    for head in model.exit_heads:
        head[1].weight.data.mul_(opinion)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_exits_do_not_change_what_the_classifier_says(kind):
    model, inputs = with_exits(kind), inputs_of(kind)
    with torch.no_grad():
        output = model(**inputs)
        torch.testing.assert_close(output.logits, base_of(kind)(**inputs).logits)
    assert output.exit_logits[0].shape == (5, 3)
    assert [feature.shape[1] for feature in output.exit_features] == model.widths
    assert task_of(model) == ("image-classification" if "pixel_values" in inputs else "text-classification")


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_those_that_the_rest_of_the_package_counts(kind):
    model = base_of(kind)
    assert own_layers(model) == [layer for _, layer in layers_of(model)]


@pytest.mark.parametrize("kind", KINDS)
def test_saved_model_comes_back_with_base_and_exits(kind, tmp_path):
    model, inputs = with_exits(kind), inputs_of(kind)
    model.save_pretrained(tmp_path)
    loaded = type(model).loader.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        for name, value in model(**inputs).items():
            torch.testing.assert_close(loaded(**inputs)[name], value)


def test_half_weights_are_half_everywhere(tmp_path):
    inputs = {"pixel_values": inputs_of("vit")["pixel_values"].bfloat16()}
    model = EarlyExitForImageClassification.from_base(base_of("vit").bfloat16(), [0])
    model.save_pretrained(tmp_path)
    whole = with_exits("vit", opinion=1.0).eval()
    whole.save_pretrained(tmp_path / "float32")
    for half in (
        model,
        AutoModelForImageClassification.from_pretrained(tmp_path),
        AutoModelForImageClassification.from_pretrained(tmp_path / "float32", dtype=torch.bfloat16),
    ):
        assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
        assert half(**inputs).exit_logits[0].dtype == torch.bfloat16
    torch.testing.assert_close(half(**inputs).logits.float(), whole(**inputs_of("vit")).logits, atol=0.05, rtol=0.05)


def test_new_classes_reach_base_and_exits(tmp_path):
    with_exits("bert").save_pretrained(tmp_path)
    names = {0: "a", 1: "b", 2: "c", 3: "d"}
    loaded = EarlyExitForSequenceClassification.from_pretrained(tmp_path, id2label=names, ignore_mismatched_sizes=True)
    output = loaded(**inputs_of("bert"))
    assert output.logits.shape == output.exit_logits[0].shape == (5, 4)
    assert loaded.base.config.id2label == loaded.config.id2label == names


def test_padding_does_not_reach_an_exit():
    model, inputs = with_exits("bert"), inputs_of("bert")
    short = {name: value[:, :6] for name, value in inputs.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).exit_logits, model(**short).exit_logits)


def test_base_is_left_as_it_is():
    base = base_of("vit").train()
    before = copy.deepcopy(base.state_dict())
    model = EarlyExitForImageClassification.from_base(base, [0])
    assert model.training
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


# ---- Answering early ----


class Counter:
    """Counts how often the last layer is computed."""

    def __init__(self, model):
        self.calls = 0
        own_layers(model.base)[-1].register_forward_hook(self.count)

    def count(self, *args):
        self.calls += 1


@pytest.mark.parametrize("kind", KINDS)
def test_layers_behind_a_sure_exit_are_not_computed(kind):
    model, inputs = with_exits(kind, opinion=1.0), inputs_of(kind)
    counter = Counter(model)
    output = model.predict(0.0, **inputs)
    assert counter.calls == 0
    assert output.exit_index.tolist() == [0] * 5
    unsure = model.predict(1.0, **inputs)
    assert counter.calls == 1
    whole = model(**inputs, output_hidden_states=True)
    torch.testing.assert_close(output.logits, whole.exit_logits[0])
    torch.testing.assert_close(unsure.logits, whole.logits)
    assert whole.hidden_states is not None


def test_each_sample_is_answered_by_its_first_sure_exit_alone_or_in_a_batch():
    model, inputs = with_exits("vit"), inputs_of("vit", size=16)
    with torch.no_grad():
        whole = model(**inputs)
    confidence = whole.exit_logits[0].softmax(-1).amax(-1)
    threshold = confidence.median().item()
    output = model.predict(threshold, **inputs)
    sure = confidence >= threshold
    assert output.exit_index.tolist() == [0 if each else 1 for each in sure]
    torch.testing.assert_close(output.logits, torch.where(sure[:, None], whole.exit_logits[0], whole.logits))
    counter = Counter(model)
    for i in range(16):
        alone = model.predict(threshold, pixel_values=inputs["pixel_values"][i : i + 1])
        assert alone.exit_index.item() == output.exit_index[i].item()
        torch.testing.assert_close(alone.logits[0], output.logits[i])
    assert counter.calls == (~sure).sum()


def test_hooks_are_gone_even_after_an_early_stop():
    model, inputs = with_exits("vit"), inputs_of("vit")
    hooks = [len(layer._forward_hooks) for layer in own_layers(model.base)]
    model.predict(0.0, **inputs)
    model(**inputs)
    assert [len(layer._forward_hooks) for layer in own_layers(model.base)] == hooks
    assert torch.equal(copy.deepcopy(model)(**inputs).logits, model(**inputs).logits)


def test_loss_is_the_sum_over_exits_and_last_layer():
    model, inputs = with_exits("vit"), inputs_of("vit")
    labels = torch.tensor([0, 1, 2, -100, 1])
    output = model(**inputs, labels=labels)
    expected = F.cross_entropy(output.logits, labels) + F.cross_entropy(output.exit_logits[0], labels)
    assert output.loss.item() == pytest.approx(expected.item())
    assert torch.equal(model(**inputs, labels=labels, return_dict=False)[0], output.loss)


def test_measured_tradeoff_is_what_predicting_one_by_one_reaches():
    model = with_exits("resnet", exits=(0, 2))
    pixels, labels = inputs_of("resnet", size=12)["pixel_values"], torch.arange(12) % 3
    labels[0] = -100
    batches = [{"pixel_values": pixels[i : i + 5], "labels": labels[i : i + 5]} for i in (0, 5, 10)]
    model.train()
    *found, full = model.measure_exits(batches, thresholds=[0.6, 0.9])
    assert model.training
    model.eval()
    for point in found:
        outputs = [model.predict(point["threshold"], pixel_values=pixels[i : i + 1]) for i in range(1, 12)]
        index = torch.cat([output.exit_index for output in outputs])
        right = torch.cat([output.logits.argmax(-1) for output in outputs]) == labels[1:]
        assert point["accuracy"] == pytest.approx(right.float().mean().item())
        assert point["layers"] == pytest.approx(torch.tensor([1, 3, 4])[index].float().mean().item() / 4)
        assert point["answered"] == pytest.approx([(index == i).float().mean().item() for i in range(3)])
    assert full["threshold"] is None
    assert full["layers"] == 1
    assert found[0]["layers"] < 1


# ---- What is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exits": [1]}, "has 2 layers: exits go from 0 to 0"),
        ({"exits": []}, "`exits` is \\[\\]"),
        ({"exits": [1, 0]}, "increasing"),
        ({"exits": [0], "problem_type": "multi_label_classification"}, "problem_type"),
        ({"exits": [0], "base_config": {"hidden_size": 8}}, "no `model_type`"),
    ],
)
def test_exits_that_there_cannot_be_are_refused(options, message):
    base = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8)
    with pytest.raises(ValueError, match=message):
        EarlyExitForImageClassification(EarlyExitConfig(**{"base_config": base, **options}))


def test_models_without_classes_and_other_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no model of AutoModelForSequenceClassification"):
        EarlyExitForSequenceClassification.from_base(tiny_model("vit"), [0])
    with pytest.raises(ValueError, match="no model of AutoModelForImageClassification"):
        EarlyExitForImageClassification.from_base(BertForMaskedLM(tiny_model("bert").config), [0])
    base_of("vit").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of type 'vit', but EarlyExitConfig"):
        EarlyExitForImageClassification.from_pretrained(tmp_path)


def test_early_answers_are_no_training():
    model, inputs = with_exits("vit"), inputs_of("vit")
    with pytest.raises(ValueError, match=r"`exit_threshold` is 1.5"):
        model.predict(1.5, **inputs)
    with pytest.raises(ValueError, match="leave out the labels"):
        model(**inputs, labels=torch.zeros(5).long(), exit_threshold=0.5)
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        model.train().predict(0.5, **inputs)
    with pytest.raises(ValueError, match="No sample has a label"):
        model.measure_exits([{**inputs, "labels": torch.full((5,), -100)}])
