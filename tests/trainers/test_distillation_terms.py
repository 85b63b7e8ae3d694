"""Terms beside the first teacher's logits: hidden states, relations, several teachers, other tokenizers."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, PreTrainedTokenizerFast

from hf_genkit import DistillationConfig, DistillationTrainer, add_lora
from hf_genkit.losses import FEATURE_LOSSES, RELATION_LOSSES

from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny import Samples, tiny_model
from .tiny_distillation import collate, distiller, head, llama, rows, whisper


def vit(width=16, seed=0, layers=2):
    torch.manual_seed(seed)
    config = tiny_model("vit").config
    config.hidden_size, config.num_hidden_layers = width, layers
    return AutoModelForImageClassification.from_config(config)


def images(folder, **options):
    options = {"model": vit(), "teacher": vit(24, seed=1, layers=4), "data": Samples("vit", size=8).rows, **options}
    return distiller("vit", folder, **options)


def gradient_of(trainer):
    recorder = GradientRecorder()
    trainer.add_callback(recorder)
    trainer.train()
    return recorder.gradient


@pytest.mark.parametrize("name", [name for name in FEATURE_LOSSES if name != "cka"])
def test_features_of_single_samples_are_exact_under_accumulation(tmp_path, name):
    options = {"feature_loss": {name: 2.0}, "layer_map": "uniform"}
    torch.manual_seed(0)
    expected = gradient_of(images(tmp_path / "whole", **options))
    torch.manual_seed(0)
    cut = images(tmp_path / "cut", per_device_train_batch_size=2, gradient_accumulation_steps=4, **options)
    assert_same_gradient(gradient_of(cut), expected)


@pytest.mark.parametrize("kind", ["ctc", "t5", "llama"])
def test_features_at_padding_do_not_count(tmp_path, kind):
    expected = gradient_of(distiller(kind, tmp_path / "whole", feature_loss="mse"))
    cut = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    assert_same_gradient(gradient_of(distiller(kind, tmp_path / "cut", feature_loss="mse", **cut)), expected)


def test_every_term_is_logged_and_weighed(tmp_path):
    features, relations = dict.fromkeys(FEATURE_LOSSES, 0.5), dict.fromkeys(RELATION_LOSSES, 0.25)
    trainer = images(tmp_path, feature_loss=features, relation_loss=relations)
    trainer.train()
    log = trainer.state.log_history[0]
    total = 0.5 * log["kd_loss"] + 0.5 * log["ce_loss"]
    total += sum(weight * log[f"{name}_loss"] for name, weight in {**features, **relations}.items())
    assert log["loss"] == pytest.approx(total, rel=1e-4)
    metrics = trainer.evaluate()
    assert all(f"eval_{name}_loss" in metrics for name in {**features, **relations})


def test_projectors_learn_and_resume_and_stay_behind(tmp_path):
    options = {"feature_loss": "mse", "layer_map": [[1, 2], [2, 4]], "max_steps": 4, "save_steps": 2}
    torch.manual_seed(0)
    trainer = images(tmp_path, save_strategy="steps", **options)
    before = {name: value.clone() for name, value in trainer.student.companions.state_dict().items()}
    trainer.train()
    whole = {name: value.clone() for name, value in trainer.student.companions.state_dict().items()}
    assert len(whole) == 4
    assert all(not torch.equal(whole[name], before[name]) for name in whole)
    trainer.save_model()
    for file in (tmp_path / "model.safetensors", tmp_path / "checkpoint-2" / "model.safetensors"):
        assert not [name for name in load_file(file) if "companion" in name]
    assert not list(tmp_path.glob("companions*"))
    assert (tmp_path / "checkpoint-2" / "companions.safetensors").is_file()
    assert trainer.card_facts().parameters == vit().num_parameters()
    plain = AutoModelForImageClassification.from_pretrained(tmp_path)
    pixels = Samples("vit").rows[0]["pixel_values"][None]
    assert torch.equal(plain(pixels).logits, trainer.student.eval()(pixels).logits)
    again = images(tmp_path, save_strategy="steps", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(value, whole[name]) for name, value in again.student.companions.state_dict().items())
    assert all(
        torch.equal(value, trainer.student.state_dict()[name]) for name, value in again.student.state_dict().items()
    )


@pytest.mark.parametrize("kind", ["llama", "masked", "whisper"])
def test_hidden_states_of_language_models_are_compared_with_a_fused_head(tmp_path, kind):
    expected = gradient_of(distiller(kind, tmp_path / "plain", feature_loss="cosine", fused_head=False))
    fused = distiller(kind, tmp_path / "fused", feature_loss="cosine")
    assert fused.fuses
    assert_same_gradient(gradient_of(fused), expected)


def test_hidden_states_need_a_teacher_that_has_some(tmp_path):
    with pytest.raises(ValueError, match="compare hidden states, but the teacher is a function"):
        images(tmp_path, teacher=lambda **inputs: torch.zeros(8, 3), feature_loss="cka")
    with pytest.raises(ValueError, match=r"`layer_map` holds \[3, 1\], .* student's layers go from 0 .* to 2"):
        images(tmp_path, feature_loss="attention", layer_map=[[3, 1]])
    with pytest.raises(ValueError, match="`projector` is 'none', but 'mse' needs equal widths"):
        images(tmp_path, feature_loss="mse", projector="none")
    with pytest.raises(ValueError, match=r"`teacher_cache` is '.*', but hidden states are too large to keep"):
        images(tmp_path, feature_loss="attention", teacher_cache=str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("feature_loss", "atention", "did you mean 'attention'"),
        ("relation_loss", '{"pkt": -1}', "pkt"),
        ("layer_map", "first", "must be one of last, uniform"),
        ("layer_map", "[1, 2]", r"pairs such as \[\[1, 2\], \[2, 4\]\]"),
        ("teacher_weights", "[1, 0]", "each must be a number above 0"),
        ("projector", "sometimes", "auto, always, none"),
        ("on_policy", 1.5, "at most 1"),
    ],
)
def test_config_refuses_what_makes_no_sense(tmp_path, field, value, message):
    with pytest.raises(ValueError, match=message):
        DistillationConfig(str(tmp_path), **{field: value})


def test_several_teachers_share_the_soft_term(tmp_path):
    teachers = [vit(seed=1), vit(24, seed=2)]
    weighted = images(tmp_path / "both", teacher=teachers, teacher_weights=[3, 1], alpha=1.0)
    weighted.train()
    singles = [images(tmp_path / f"{i}", teacher=teacher, alpha=1.0) for i, teacher in enumerate(teachers)]
    for single in singles:
        single.train()
    first, second = (single.state.log_history[0]["kd_loss"] for single in singles)
    assert weighted.state.log_history[0]["kd_loss"] == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)
    assert "2 teachers" in weighted.method_sentence
    assert " and " in weighted.teacher_title


def test_each_teacher_has_its_own_cache_and_confidence_is_exact(tmp_path):
    def trainer(name, **options):
        teachers = [vit(seed=1), vit(24, seed=2)]
        return images(tmp_path / name, teacher=teachers, teacher_weights="confidence", **options)

    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    expected = gradient_of(trainer("whole"))
    cached = trainer("cached", teacher_cache=str(tmp_path / "cache"), **cut)
    assert_same_gradient(gradient_of(cached), expected)
    assert len({teacher.cache.folder for teacher in cached.teachers}) == 2
    assert all(len(teacher.cache) == 8 for teacher in cached.teachers)


def test_teachers_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds 1 weights, but there are 2 teachers"):
        images(tmp_path, teacher=[vit(seed=1), vit(seed=2)], teacher_weights=[1.0])
    other = vit(seed=2)
    other.config.id2label = {0: "x", 1: "y", 2: "z"}
    student = vit()
    student.config.id2label = {0: "a", 1: "b", 2: "c"}
    with pytest.raises(ValueError, match="different label sets"):
        images(tmp_path, model=student, teacher=[vit(seed=1), other])


def tokenizer(tokens):
    vocabulary = {"version": "1.0", "model": {"type": "WordLevel", "vocab": tokens, "unk_token": "u"}}
    import tokenizers

    made = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(vocabulary)))
    made.pad_token = made.eos_token = "u"
    return made


def test_other_tokenizers_are_refused_and_padded_ones_are_not(tmp_path):
    names = ["u", *(f"t{i}" for i in range(55))]
    ours = tokenizer({name: i for i, name in enumerate(names)})
    longer = tokenizer({name: i for i, name in enumerate([*names, "extra"])})
    moved = tokenizer({name: i for i, name in enumerate([*names[:3], "new", *names[3:]])})
    options = {"processing_class": ours, "model": llama(60), "teacher": llama(64, seed=1)}
    distiller("llama", tmp_path, teacher_processing_class=longer, **options)
    with pytest.raises(ValueError, match=r"tokenizer .* is not the teacher's .* set loss_type to 'uld'"):
        distiller("llama", tmp_path, teacher_processing_class=moved, **options)
    distiller("llama", tmp_path, teacher_processing_class=moved, loss_type="uld", **options)


def test_tokens_of_another_tokenizer_are_paired_in_order(tmp_path):
    data = rows("llama")
    for number, row in enumerate(data):
        ids = row["input_ids"][: -1 - number % 2]
        row["teacher_input_ids"] = ids % 40
        row["teacher_labels"] = ids.clone() % 40
        row["teacher_labels"][0] = -100

    def pad_both(features):
        theirs = [{"input_ids": row["teacher_input_ids"], "labels": row["teacher_labels"]} for row in features]
        return collate(features) | {f"teacher_{name}": value for name, value in collate(theirs).items()}

    def gradient(name, **options):
        trainer = distiller("llama", tmp_path / name, teacher=llama(40, seed=1), data=data, loss_type="uld", **options)
        trainer.data_collator = pad_both
        return gradient_of(trainer), trainer

    expected, whole = gradient("whole")
    found, _ = gradient("cut", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert_same_gradient(found, expected)
    counts = whole.count_items(pad_both(data))
    assert 0 < counts["kd_loss"] < counts["ce_loss"]


def test_on_policy_needs_a_language_model_and_its_tokenizer(tmp_path):
    for kind, model, message in (
        ("whisper", whisper(1), "automatic-speech-recognition"),
        ("llama", head("llama"), "tokenizer"),
    ):
        with pytest.raises(ValueError, match=message):
            distiller(kind, tmp_path / kind, model=model, on_policy=0.5).train()


def test_an_adapter_and_its_projectors_resume_and_the_adapter_alone_is_saved(tmp_path):
    def trainer():
        torch.manual_seed(0)
        student = add_lora(llama(60, layers=2), rank=2)
        options = {
            "feature_loss": "mse",
            "projector": "always",
            "max_steps": 4,
            "save_steps": 2,
            "save_strategy": "steps",
        }
        return distiller("llama", tmp_path, model=student, teacher=llama(60, seed=1, layers=2), **options)

    first = trainer()
    first.train()
    model = first.accelerator.unwrap_model(first.model)
    projectors = {name: value.clone() for name, value in model.companions.state_dict().items()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    first.save_model()
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "README.md").exists()
    again = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    resumed = again.accelerator.unwrap_model(again.model)
    assert all(torch.equal(value, projectors[name]) for name, value in resumed.companions.state_dict().items())
    assert all(torch.equal(value, weights[name]) for name, value in resumed.state_dict().items())


def test_what_can_not_be_shared_or_kept_is_refused_before_training(tmp_path):
    teachers = [llama(60, seed=1), llama(60, seed=2)]
    for options, message in (
        ({"loss_type": "uld"}, "'uld', which pairs a student with one teacher, but there are 2"),
        ({"teacher_weights": [2, 1], "teacher_top_k": 4}, "share equally with `teacher_top_k`"),
    ):
        with pytest.raises(ValueError, match=message):
            distiller("llama", tmp_path, teacher=teachers, **options)
    with pytest.raises(ValueError, match="`teacher_top_k` is 2, but a classifier's few classes are kept whole"):
        images(tmp_path, teacher_top_k=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_type": "uld"}, "the data have no `teacher_input_ids` and `teacher_labels`"),
        ({"metric_for_best_model": "eval_acuracy", "eval_strategy": "steps"}, "did you mean 'accuracy'"),
        ({"alpha": 0.0, "on_policy": 0.5}, "`on_policy` is 0.5, but"),
    ],
)
def test_a_run_that_would_end_badly_does_not_begin(tmp_path, options, message):
    trainer = distiller("llama", tmp_path, teacher=llama(64, seed=1), **options)
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert not (tmp_path / "run.json").exists()


def test_a_model_that_is_made_anew_gets_projectors_anew(tmp_path):
    args = DistillationConfig(str(tmp_path), feature_loss="mse", max_steps=1, use_cpu=True, logging_steps=1)
    data = Samples("vit", size=8).rows
    trainer = DistillationTrainer(
        None, vit(24, seed=1), args, model_init=lambda: vit(), train_dataset=data, data_collator=collate
    )
    trainer.train()
    assert trainer.state.log_history[0]["mse_loss"] > 0


def test_predictions_are_logits_where_hidden_states_are_compared(tmp_path):
    trainer = images(tmp_path, feature_loss="mse")
    assert trainer.predict(Samples("vit", size=8).rows).predictions.shape == (8, 3)


def test_a_teacher_of_other_tokens_is_judged_on_its_own(tmp_path):
    data = rows("llama")
    for row in data:
        row["teacher_input_ids"], row["teacher_labels"] = row["input_ids"] % 40, row["labels"].clamp(max=39)

    def pad_both(features):
        theirs = [{"input_ids": row["teacher_input_ids"], "labels": row["teacher_labels"]} for row in features]
        return collate(features) | {f"teacher_{name}": value for name, value in collate(theirs).items()}

    trainer = distiller("llama", tmp_path, teacher=llama(40, seed=1), data=data, loss_type="uld")
    trainer.data_collator = pad_both
    found = trainer.evaluate_teacher()
    assert found["items"] == int(trainer.count_items(pad_both(data))["ce_loss"])
    assert found["teacher_perplexity"] > 1
