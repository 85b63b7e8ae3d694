"""A student made of teacher layers: right weights in the right places, and a configuration that says so."""

import copy

import pytest
import torch
import transformers

from hf_genkit.compress.layer_dropping import student_from_teacher


TEXT = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_hidden_layers": 6,
    "vocab_size": 50,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
IMAGE = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 6, "image_size": 14, "patch_size": 7}
DISTILBERT = {"dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 6, "vocab_size": 50}
WINDOWS = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3, "num_key_value_heads": 2}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 6, "vocab_size": 50}

SEQ2SEQ = {
    "d_model": 16,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "vocab_size": 50,
}
WHISPER = {"num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 16, "bos_token_id": 1}
IDS = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 3}

TEACHERS = {  # class, configuration, path of the stack of layers
    "bert": ("BertForSequenceClassification", TEXT, "bert.encoder.layer"),
    "bert_mlm": ("BertForMaskedLM", TEXT, "bert.encoder.layer"),
    "distilbert": ("DistilBertForSequenceClassification", DISTILBERT, "distilbert.transformer.layer"),
    "roberta": ("RobertaForTokenClassification", TEXT, "roberta.encoder.layer"),
    "vit": ("ViTForImageClassification", IMAGE | {"intermediate_size": 32}, "vit.layers"),
    "dinov2": ("Dinov2ForImageClassification", IMAGE, "dinov2.encoder.layer"),
    "llama": ("LlamaForCausalLM", TEXT | {"tie_word_embeddings": True}, "model.layers"),
    "llama_classifier": ("LlamaForSequenceClassification", TEXT, "model.layers"),
    "qwen2_windows": ("Qwen2ForCausalLM", TEXT | WINDOWS, "model.layers"),
    "smollm3_no_rope": ("SmolLM3ForCausalLM", TEXT | {"num_key_value_heads": 2}, "model.layers"),
}


def make_model(class_name, values):
    torch.manual_seed(0)
    model_class = getattr(transformers, class_name)
    return model_class(model_class.config_class(**values)).eval()


def make_teacher(name):
    return make_model(*TEACHERS[name][:2])


def outputs(model):
    torch.manual_seed(0)
    if model.main_input_name == "pixel_values":
        return model(torch.randn(2, 3, 14, 14)).logits
    return model(torch.randint(5, 50, (2, 9))).logits


@pytest.mark.parametrize("name", TEACHERS)
def test_all_layers_reproduce_the_teacher_exactly(name):
    teacher = make_teacher(name)
    student = student_from_teacher(teacher, range(6))
    assert type(student) is type(teacher)
    assert torch.equal(outputs(student), outputs(teacher))


@pytest.mark.parametrize("name", TEACHERS)
def test_student_computes_what_the_teacher_computes_with_the_other_layers_skipped(name):
    teacher = make_teacher(name)
    student = student_from_teacher(teacher, [0, 3, 5])
    for layer in (1, 2, 4):
        teacher.get_submodule(f"{TEACHERS[name][2]}.{layer}").forward = lambda hidden_states, *args, **kwargs: (
            hidden_states
        )
    assert student.config.num_hidden_layers == 3
    assert torch.equal(outputs(student), outputs(teacher))


@pytest.mark.parametrize("name", TEACHERS)
def test_student_saves_and_loads_like_any_model(name, tmp_path):
    student = student_from_teacher(make_teacher(name), [1, 4])
    student.save_pretrained(tmp_path)
    loaded, report = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert loaded.config.num_hidden_layers == 2
    assert torch.equal(outputs(loaded), outputs(student))


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_student_shares_nothing_with_its_teacher(name):
    teacher = make_teacher(name)
    config, weights = teacher.config.to_dict(), copy.deepcopy(teacher.state_dict())
    student = student_from_teacher(teacher, [0, 5])
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    student.config.id2label[0] = "changed"
    assert teacher.config.to_dict() == config
    assert all(torch.equal(weight, weights[key]) for key, weight in teacher.state_dict().items())


def test_what_the_configuration_says_per_layer_follows_the_layers():
    student = student_from_teacher(make_teacher("qwen2_windows"), [0, 3, 5])
    assert student.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    student = student_from_teacher(make_teacher("smollm3_no_rope"), [2, 3])
    assert student.config.no_rope_layers == [1, 0]
    student = student_from_teacher(make_teacher("dinov2"), [0, 3])
    assert student.config.stage_names == ["stem", "stage1", "stage2"]


def test_labels_dtype_attention_mode_and_tying_are_the_teachers():
    teacher = make_model("BertForSequenceClassification", TEXT | {"id2label": {0: "cat", 1: "dog"}}).bfloat16().train()
    teacher.set_attn_implementation("eager")
    teacher.requires_grad_(False)
    student = student_from_teacher(teacher, [0])
    assert student.config.id2label == {0: "cat", 1: "dog"}
    assert student.dtype == torch.bfloat16
    assert student.config._attn_implementation == "eager"
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not student_from_teacher(teacher.eval(), [0]).training

    student = student_from_teacher(make_teacher("llama"), [0])
    assert student.lm_head.weight is student.model.embed_tokens.weight


def test_student_generates_with_its_own_cache():
    teacher = make_teacher("llama")
    teacher.generation_config.max_new_tokens = 7
    teacher.generation_config.eos_token_id = None
    student = student_from_teacher(teacher, [2, 5])
    prompt = torch.randint(5, 50, (1, 4), generator=torch.Generator().manual_seed(0))
    with_cache, without = (student.generate(prompt, do_sample=False, use_cache=cache) for cache in (True, False))
    assert with_cache.shape == (1, 11)
    assert torch.equal(with_cache, without)
    assert student.generation_config is not teacher.generation_config


def test_lists_inside_the_layers_are_not_taken_for_the_stack():
    teacher = make_model("T5EncoderModel", T5 | {"num_layers": 2})  # each of its blocks is a list of two parts
    student = student_from_teacher(teacher, [0])
    assert len(student.encoder.block) == 1
    assert len(student.encoder.block[0].layer) == 2


@pytest.mark.parametrize(
    ("class_name", "values"),
    [
        ("WhisperForConditionalGeneration", SEQ2SEQ | WHISPER | IDS),
        ("BartForConditionalGeneration", SEQ2SEQ | {"max_position_embeddings": 32}),
    ],
)
def test_layers_of_a_sequence_to_sequence_model_are_the_decoders(class_name, values, tmp_path):
    """Its encoder has as many layers as its decoder, and stays whole."""
    teacher = make_model(class_name, values)
    student = student_from_teacher(teacher, [0, 3])
    assert (student.config.encoder_layers, student.config.decoder_layers) == (4, 2)
    for layer in (1, 2):
        teacher.get_decoder().layers[layer].forward = lambda hidden_states, *args, **kwargs: hidden_states
    torch.manual_seed(0)
    is_speech = teacher.main_input_name == "input_features"
    own = torch.randn(2, 8, 20) if is_speech else torch.randint(5, 50, (2, 9))
    inputs = {teacher.main_input_name: own, "decoder_input_ids": torch.randint(5, 50, (2, 6))}
    assert torch.equal(student(**inputs).logits, teacher(**inputs).logits)
    student.save_pretrained(tmp_path)
    loaded, report = type(student).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert loaded.config.decoder_layers == 2


def test_a_t5_keeps_the_decoder_layer_that_knows_the_positions():
    student = student_from_teacher(make_model("T5ForConditionalGeneration", T5), [0, 3])
    assert (student.config.num_layers, student.config.num_decoder_layers) == (6, 2)
    assert len(student.decoder.block) == 2


@pytest.mark.parametrize("layers", [[], [6], [-1], [0, 0], [3, 1]])
def test_bad_layers_are_named(layers):
    with pytest.raises(ValueError, match=r"increasing indices from 0 to 5, got \["):
        student_from_teacher(make_teacher("bert"), layers)


@pytest.mark.parametrize(
    ("class_name", "values", "message"),
    [
        ("AlbertForSequenceClassification", TEXT | {"embedding_size": 8}, "one stack .*found none"),
        (
            "T5ForConditionalGeneration",
            T5,
            r"layers are not interchangeable \(see decoder.block.0.*relative_attention_bias",
        ),
        ("T5EncoderModel", T5, r"layers are not interchangeable \(see encoder.block.0.*relative_attention_bias"),
    ],
)
def test_teachers_without_interchangeable_layers_are_refused(class_name, values, message):
    with pytest.raises(ValueError, match=f"{class_name} .*{message}"):
        student_from_teacher(make_model(class_name, values), [1, 3])


@pytest.mark.parametrize(("layers", "heads"), [([1, 3], [[0, 1], [1, 0]]), ([0, 2], None)])
def test_the_heads_that_time_words_are_those_of_the_chosen_layers(layers, heads):
    teacher = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**SEQ2SEQ | WHISPER | IDS))
    teacher.generation_config.alignment_heads = [[1, 1], [3, 0]]
    student = student_from_teacher(teacher, layers)
    assert student.generation_config.to_dict().get("alignment_heads") == heads
    assert teacher.generation_config.alignment_heads == [[1, 1], [3, 0]]
