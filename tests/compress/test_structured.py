"""A narrower model: it must compute what the whole one computes without the removed units, and be a plain model."""

import copy
import sys

import pytest
import torch
import transformers
from torch.nn.utils import prune

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.compress.importance import taylor_scores
from hf_genkit.compress.structured import prune_structure
from hf_genkit.compress.units import CONVOLUTIONAL, TRANSFORMERS, units_of_convolutions, units_of_transformer

from ..trainers.tiny import Samples, pad


TEXT = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA = TEXT | {"num_key_value_heads": 2}
IMAGE = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "image_size": 8, "patch_size": 4}
DISTILBERT = {"dim": 32, "n_heads": 4, "hidden_dim": 48, "n_layers": 3, "vocab_size": 50}
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 3, "vocab_size": 50, "n_positions": 64, "pad_token_id": 0}
STAGES = {"hidden_sizes": [16, 32], "depths": [2, 2]}

MODELS = {
    "bert": ("BertForSequenceClassification", TEXT),
    "bert_mlm": ("BertForMaskedLM", TEXT),
    "roberta": ("RobertaForTokenClassification", TEXT),
    "distilbert": ("DistilBertForSequenceClassification", DISTILBERT),
    "vit": ("ViTForImageClassification", IMAGE | {"intermediate_size": 48}),
    "deit": ("DeiTForImageClassification", IMAGE | {"intermediate_size": 48}),
    "dinov2": ("Dinov2ForImageClassification", IMAGE),
    "dinov2_swiglu": ("Dinov2ForImageClassification", IMAGE | {"use_swiglu_ffn": True}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "llama": ("LlamaForCausalLM", LLAMA | {"tie_word_embeddings": True}),
    "llama_classifier": ("LlamaForSequenceClassification", LLAMA),
    "mistral": ("MistralForCausalLM", LLAMA),
    "qwen2": ("Qwen2ForCausalLM", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", LLAMA | {"head_dim": 6}),
    "resnet": ("ResNetForImageClassification", STAGES | {"embedding_size": 16, "layer_type": "bottleneck"}),
    "resnet_basic": ("ResNetForImageClassification", STAGES | {"embedding_size": 16, "layer_type": "basic"}),
    "convnext": ("ConvNextForImageClassification", STAGES | {"num_stages": 2, "image_size": 32}),
}
CNNS = ("resnet", "resnet_basic", "convnext")
WITHOUT_HEAD_DIM = ("bert", "bert_mlm", "roberta", "distilbert", "gpt2")
EXACT = [(name, "intermediate") for name in MODELS if name not in CNNS]
EXACT += [(name, "heads") for name in MODELS if name not in (*CNNS, *WITHOUT_HEAD_DIM)]
EXACT += [("resnet", "channels"), ("resnet_basic", "channels")]
ALL = [*EXACT, *[(name, "hidden") for name in MODELS if name not in CNNS], ("convnext", "channels")]


def make_model(name, **changes):
    torch.manual_seed(0)
    class_name, values = MODELS[name]
    model_class = getattr(transformers, class_name)
    model = model_class(model_class.config_class(**values | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def outputs(model):
    torch.manual_seed(1)
    if model.main_input_name == "pixel_values":
        size = model.config.to_dict().get("image_size", 32)
        return model(torch.randn(2, 3, size, size)).logits
    return model(torch.randint(5, 50, (2, 9))).logits


def groups_of(model, small):
    kind = model.config.model_type
    if kind in CONVOLUTIONAL:
        return units_of_convolutions(model, small.config)
    return units_of_transformer(model, TRANSFORMERS[kind], small.config)


@pytest.mark.parametrize(("name", "structure"), EXACT)
def test_what_is_removed_leaves_no_trace(name, structure):
    model = make_model(name)
    generator = torch.Generator().manual_seed(2)
    weights = model.state_dict()
    for group in groups_of(model, prune_structure(model, **{structure: 0.5})):
        gone = torch.randperm(group.count, generator=generator)[group.kept :]
        for part in group.parts:
            blocks = weights[part.tensor].unflatten(part.dim, (part.copies, group.count, -1))
            blocks.index_fill_(part.dim + 1, gone, 0)
    small = prune_structure(model, **{structure: 0.5})
    assert small.num_parameters() < model.num_parameters()
    torch.testing.assert_close(outputs(small), outputs(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "structure"), ALL)
def test_result_saves_and_loads_like_any_model(name, structure, tmp_path):
    small = prune_structure(make_model(name), **{structure: 0.5})
    small.save_pretrained(tmp_path)
    loaded, report = type(small).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(outputs(loaded), outputs(small))
    assert loaded.num_parameters() < make_model(name).num_parameters()


def test_configuration_says_what_was_done():
    config = prune_structure(make_model("bert"), intermediate=0.5, hidden=0.25, layers=[0, 2]).config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (24, 3, 24)
    assert config.num_hidden_layers == 2
    config = prune_structure(make_model("vit"), heads=0.25).config
    assert (config.hidden_size, config.num_attention_heads, config.head_dim) == (32, 3, 8)
    config = prune_structure(make_model("qwen3"), heads=0.5).config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (2, 1, 6)
    config = prune_structure(make_model("dinov2"), hidden=0.5, intermediate=0.75).config
    assert (config.hidden_size, config.mlp_ratio) == (16, 1)
    config = prune_structure(make_model("gpt2"), hidden=0.5).config
    assert (config.n_embd, config.n_head, config.n_inner) == (16, 2, 128)
    config = prune_structure(make_model("resnet"), channels=0.5).config
    assert (config.embedding_size, config.hidden_sizes) == (8, [8, 16])
    assert prune_structure(make_model("bert"), intermediate=0.3).config.intermediate_size == 32
    assert prune_structure(make_model("bert"), intermediate=0.3, multiple_of=1).config.intermediate_size == 34


def test_the_whole_model_is_left_as_it_is():
    model = make_model("bert").train()
    config, weights = model.config.to_dict(), copy.deepcopy(model.state_dict())
    batches = [{"input_ids": torch.randint(5, 50, (2, 9)), "labels": torch.tensor([0, 1])}]
    small = prune_structure(model, intermediate=0.5, hidden=0.5, importance="taylor", batches=batches)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1.0)
    assert model.config.to_dict() == config
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert small.training


def intermediate_weights(layer):
    """Rows, biases and columns of a BERT layer's feed-forward units."""
    return layer.intermediate.dense.weight, layer.intermediate.dense.bias, layer.output.dense.weight.T


def test_units_without_weights_are_the_ones_removed():
    model = make_model("bert")
    kept = torch.tensor([1, 2, 5, 8, 13, 21, 34, 40])
    gone = torch.tensor(sorted(set(range(48)) - set(kept.tolist())))
    layers = model.bert.encoder.layer
    for shift, layer in enumerate(layers):
        for weight in intermediate_weights(layer):
            weight.data[(gone + shift) % 48] = 0
    small = prune_structure(model, intermediate=40 / 48)
    for shift, (new, old) in enumerate(zip(small.bert.encoder.layer, layers, strict=True)):
        for weight, whole in zip(intermediate_weights(new), intermediate_weights(old), strict=True):
            assert torch.equal(weight, whole[kept + shift])


def test_taylor_sees_units_that_nothing_reads_where_magnitude_does_not():
    model = make_model("bert")
    for layer in model.bert.encoder.layer:
        rows, _, columns = intermediate_weights(layer)
        columns.data[:24] = 0
        rows.data[:24] *= 10
    batches = [{"input_ids": torch.randint(5, 50, (2, 9)), "labels": torch.tensor([0, 1])} for _ in range(2)]
    expected = outputs(model)
    small = prune_structure(model, intermediate=0.5, importance="taylor", batches=batches)
    torch.testing.assert_close(outputs(small), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs(prune_structure(model, intermediate=0.5)), expected, atol=1e-2)


def test_taylor_is_the_squared_derivative_by_a_gate_summed_over_batches():
    model = make_model("resnet_basic")
    batches = [{"pixel_values": torch.randn(2, 3, 32, 32), "labels": torch.tensor([0, 1])} for _ in range(2)]
    groups = groups_of(model, prune_structure(model, channels=0.5))
    inner = next(i for i, group in enumerate(groups) if "stages.1.layers.1.layer.0.conv" in group.parts[0].tensor)
    found = taylor_scores(model, groups, batches)[inner]
    expected = torch.zeros(32)
    layer = model.resnet.encoder.stages[1].layers[1].layer[0]
    gate = torch.ones(1, 32, 1, 1, requires_grad=True)
    layer.register_forward_hook(lambda _, __, output: output * gate)
    for batch in batches:
        (gradient,) = torch.autograd.grad(model(**batch).loss, gate)
        expected += gradient.flatten().square()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_hidden_width_is_the_same_everywhere():
    # RMS normalisation over fewer channels is the same up to a factor, which its weights can make good.
    model = make_model("llama_classifier", rms_norm_eps=1e-30)
    gone = torch.tensor([0, 3, 4, 7, 8, 9, 12, 15, 18, 19, 20, 25, 27, 29, 30, 31])
    reads = (
        "embed_tokens.weight",
        *(f"{layer}_proj.weight" for layer in ("q", "k", "v", "gate", "up")),
        "score.weight",
    )
    for name, parameter in model.named_parameters():
        if name.endswith(reads):
            parameter.data[:, gone] = 0
        elif name.endswith(("o_proj.weight", "down_proj.weight", "norm.weight")):
            parameter.data[gone] = 0
        if "self_attn.o_proj" in name:
            parameter.data[:, 16:] = 0
        elif "self_attn.q_proj" in name:
            parameter.data[16:] = 0
        elif "self_attn.k_proj" in name or "self_attn.v_proj" in name:
            parameter.data[8:] = 0
    expected = outputs(model)
    small = prune_structure(model, hidden=0.5)
    for name, parameter in small.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data *= 2**0.5
    torch.testing.assert_close(outputs(small), expected, rtol=1e-4, atol=1e-5)


def test_query_key_and_value_of_one_layer_lose_the_same_heads():
    model = make_model("gpt2")
    for block in model.transformer.h:
        block.attn.c_attn.bias.data = torch.arange(96.0)
        block.attn.c_proj.weight.data = torch.arange(32.0)[:, None].repeat(1, 32)
    small = prune_structure(model, hidden=0.5)
    for block in small.transformer.h:
        query, key, value = block.attn.c_attn.bias.split(16)
        assert torch.equal(query, torch.arange(16.0, 32.0))  # the heads with the larger weights, in order
        assert torch.equal(key, query + 32)
        assert torch.equal(value, query + 64)
        assert torch.equal(block.attn.c_proj.weight[:, 0], query)


def test_narrow_student_learns_from_the_whole_model(tmp_path):
    teacher = make_model("bert", num_labels=3)
    student = prune_structure(teacher, intermediate=0.5, hidden=0.5, layers=[0, 2])
    args = DistillationConfig(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, use_cpu=True, save_strategy="no"
    )
    data = Samples("bert")
    for row in data.rows:
        row["input_ids"] = row["input_ids"].clamp(max=49)
    before = copy.deepcopy(student.state_dict())
    trainer = DistillationTrainer(student, teacher, args, train_dataset=data, data_collator=pad)
    trainer.train()
    assert all(
        not torch.equal(before[name], weight) for name, weight in student.state_dict().items() if "dense.w" in name
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bert", {}, "Nothing is to be removed"),
        ("bert", {"intermediate": 1.0}, "`intermediate` is 1.0, but it must be at least 0 and below 1"),
        ("bert", {"hidden": -0.5}, "`hidden` is -0.5"),
        ("bert", {"heads": 0.5}, "can't be pruned by `heads`.*'bert' model, intermediate, hidden can be"),
        ("resnet", {"intermediate": 0.5}, "can't be pruned by `intermediate`.*channels can be"),
        ("vit", {"channels": 0.5}, "can't be pruned by `channels`"),
        ("vit", {"heads": 0.5, "hidden": 0.5}, "both set"),
        ("vit", {"heads": 0.1}, "`heads` is 0.1, which removes none of 4 heads"),
        ("vit", {"intermediate": 0.05}, "removes nothing of 48 units in multiples of 8"),
        ("resnet", {"channels": 0.1}, "`channels` is 0.1, which removes nothing in multiples of 8"),
        ("vit", {"intermediate": 0.5, "importance": "taylor"}, "needs `batches`"),
        ("vit", {"intermediate": 0.5, "importance": "taylor", "batches": []}, "`batches` is empty"),
        ("vit", {"intermediate": 0.5, "importance": "random"}, "must be one of magnitude, taylor"),
        ("vit", {"intermediate": 0.5, "multiple_of": 0}, "`multiple_of` is 0"),
        ("dinov2", {"intermediate": 0.3}, "No Dinov2Config can have.*'mlp_ratio': 2.8.*expected int"),
        ("llama", {"layers": [5]}, "increasing indices"),
    ],
)
def test_bad_requests_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        prune_structure(make_model(name), **options)


def test_heads_that_the_configuration_refuses_are_named():
    model = make_model("llama", num_key_value_heads=4)
    with pytest.raises(ValueError, match=r"No LlamaConfig can have.*hidden size \(32\) is not a multiple"):
        prune_structure(model, heads=0.25)


def test_batches_without_labels_and_unknown_families_are_refused():
    batches = [{"input_ids": torch.ones(1, 4, dtype=torch.long)}]
    with pytest.raises(ValueError, match="without labels"):
        prune_structure(make_model("bert"), intermediate=0.5, importance="taylor", batches=batches)
    albert = transformers.AlbertModel(transformers.AlbertConfig(**TEXT, embedding_size=8))
    with pytest.raises(ValueError, match="AlbertModel can't be pruned by `intermediate`"):
        prune_structure(albert, intermediate=0.5)


def test_masks_are_to_be_burnt_in_first():
    model = make_model("bert")
    prune.l1_unstructured(model.bert.encoder.layer[0].intermediate.dense, "weight", 0.5)
    with pytest.raises(ValueError, match="make_permanent"):
        prune_structure(model, intermediate=0.5)


def test_missing_torch_pruning_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError, match=r'pip install "hf-genkit\[prune\]"'):
        prune_structure(make_model("resnet"), channels=0.5)
    prune_structure(make_model("bert"), intermediate=0.5)
