import logging

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import (
    AutoModelForImageClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
)

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.data import ArrayImageDataset, image_processor_for

from .tiny import Samples, pad, tiny_model


def expected_metrics(student, teacher, samples, alpha, temperature):
    """What evaluation must say, from one pass over the whole set."""
    batch = pad([samples[i] for i in range(len(samples))])
    labels = batch.pop("labels")
    with torch.no_grad():
        logits, targets = student.eval()(**batch).logits, teacher.eval()(**batch).logits
    seen = labels != -100
    soft = torch.softmax(targets / temperature, -1)
    log_soft = torch.log_softmax(logits / temperature, -1)
    kd = temperature**2 * (soft * (soft.log() - log_soft)).sum(-1)
    items = torch.ones_like(seen) if labels.ndim == 1 else batch["attention_mask"].bool()
    if labels.ndim == 2:
        items = torch.where(seen.any(-1, keepdim=True), seen, items)
    ce = torch.nn.functional.cross_entropy(logits[seen], labels[seen]).item()
    kd = kd[items].mean().item()
    return {
        "eval_ce_loss": ce,
        "eval_kd_loss": kd,
        "eval_loss": alpha * kd + (1 - alpha) * ce,
        "eval_accuracy": (logits.argmax(-1) == labels)[seen].float().mean().item(),
        "eval_teacher_agreement": (logits.argmax(-1) == targets.argmax(-1))[items].float().mean().item(),
    }


@pytest.mark.parametrize(("kind", "token_level"), [("vit", False), ("bert", False), ("bert", True)])
def test_evaluation_is_exact_over_uneven_batches(make_trainer, kind, token_level):
    samples = Samples(kind, size=7, token_level=token_level)
    trainer = make_trainer(
        kind, token_level=token_level, eval_dataset=samples, alpha=0.3, temperature=2.0, per_device_eval_batch_size=3
    )
    metrics = trainer.evaluate()
    expected = expected_metrics(trainer.model, trainer.teacher.model, samples, 0.3, 2.0)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4), name


def test_without_teacher_there_is_no_soft_term(make_trainer):
    trainer = make_trainer("vit", teacher=None, alpha=0.0, eval_dataset=Samples("vit"))
    trainer.train()
    assert "kd_loss" not in trainer.state.log_history[0]
    metrics = trainer.evaluate()
    assert "eval_kd_loss" not in metrics
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_ce_loss"])


def test_alpha_one_needs_no_label(make_trainer):
    trainer = make_trainer("vit", alpha=1.0, train_dataset=Samples("vit", unlabelled=8))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(trainer.state.log_history[0]["kd_loss"])
    assert "ce_loss" not in trainer.state.log_history[0]


def test_unlabelled_batches_give_a_finite_loss(make_trainer):
    trainer = make_trainer("vit", train_dataset=Samples("vit", unlabelled=8))
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["ce_loss"] == 0
    assert log["loss"] == pytest.approx(0.5 * log["kd_loss"])


def test_student_learns_its_teacher(make_trainer):
    samples = Samples("vit", size=32)
    trainer = make_trainer(
        "vit", train_dataset=samples, eval_dataset=samples, alpha=1.0, temperature=1.0, max_steps=60
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_kd_loss"] < 0.5 * before["eval_kd_loss"]
    assert after["eval_teacher_agreement"] > before["eval_teacher_agreement"]


def test_compute_metrics_and_best_model_work(make_trainer):
    def compute_metrics(prediction):
        assert prediction.predictions.shape == (6, 3)
        return {"hits": float((np.argmax(prediction.predictions, -1) == prediction.label_ids).sum())}

    trainer = make_trainer(
        "vit",
        eval_dataset=Samples("vit", size=6),
        compute_metrics=compute_metrics,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_kd_loss",
        greater_is_better=False,
        learning_rate=0.5,
    )
    trainer.train()
    evaluations = [log for log in trainer.state.log_history if "eval_kd_loss" in log]
    assert all("eval_hits" in log for log in evaluations)
    best = min(evaluations, key=lambda log: log["eval_kd_loss"])
    assert best["step"] < 4
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best['step']}")
    assert trainer.evaluate()["eval_kd_loss"] == pytest.approx(best["eval_kd_loss"], rel=1e-5)


def test_outputs_come_back_with_logits(make_trainer):
    trainer = make_trainer("vit")
    trainer.model.eval()
    loss, outputs = trainer.compute_loss(
        trainer.model, pad([Samples("vit")[i] for i in range(4)]), return_outputs=True
    )
    assert loss.ndim == 0
    assert outputs.logits.shape == (4, 3)


class KeepsEval(TrainerCallback):
    """Notes whether a module is in eval mode after each step."""

    def __init__(self, module):
        self.module, self.modes = module, []

    def on_step_end(self, args, state, control, **kwargs):
        self.modes.append(self.module.training)


def test_teacher_is_frozen_in_eval_mode_and_in_no_checkpoint(make_trainer, tmp_path):
    teacher = tiny_model("bert", seed=1)
    teacher.config.hidden_dropout_prob = 0.5
    teacher.bert.embeddings.dropout.p = 0.5
    weights = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    watcher = KeepsEval(teacher)
    trainer = make_trainer(
        "bert", teacher=teacher, callbacks=[watcher], save_strategy="steps", save_steps=2, teacher_cache="off"
    )
    trainer.train()
    assert watcher.modes == [False] * 4
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in teacher.state_dict().items())
    own = {id(parameter) for parameter in trainer.model.parameters()}
    held = [id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]]
    assert set(held) <= own
    student_bytes = sum(value.nbytes for value in trainer.model.state_dict().values())
    checkpoint = tmp_path / "run" / "checkpoint-4"
    assert (checkpoint / "model.safetensors").stat().st_size < student_bytes + 20_000
    assert (checkpoint / "optimizer.safetensors").stat().st_size < 2 * student_bytes + 20_000


def test_teacher_by_name_keeps_its_dtype(make_trainer, tmp_path):
    tiny_model("bert", seed=1, scale=4.0).to(torch.bfloat16).save_pretrained(tmp_path / "teacher")
    trainer = make_trainer("bert", teacher=str(tmp_path / "teacher"))
    assert trainer.teacher.dtype == torch.bfloat16
    trainer.train()
    assert trainer.teacher.cache.dtype == torch.bfloat16
    wide = make_trainer("bert", teacher=str(tmp_path / "teacher"), teacher_dtype="float32", folder="wide")
    assert wide.teacher.dtype == torch.float32


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantized_teacher_trains_a_student(make_trainer, tmp_path, quantization):
    pytest.importorskip("bitsandbytes")
    wide = BertConfig(
        vocab_size=60, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3
    )
    BertForSequenceClassification(wide).save_pretrained(tmp_path / "teacher")
    trainer = make_trainer("bert", teacher=str(tmp_path / "teacher"), teacher_quantization=quantization)
    linear = trainer.teacher.model.bert.encoder.layer[0].intermediate.dense
    assert type(linear).__name__ == {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[quantization]
    trainer.train()
    assert np.isfinite([log["kd_loss"] for log in trainer.state.log_history if "kd_loss" in log]).all()


def test_function_can_teach(make_trainer):
    model = tiny_model("vit", seed=1, scale=4.0).eval()
    by_function = make_trainer("vit", teacher=lambda pixel_values: model(pixel_values).logits)
    by_function.train()
    by_model = make_trainer("vit", teacher=model, folder="model")
    by_model.train()
    assert by_function.state.log_history[0]["kd_loss"] == pytest.approx(by_model.state.log_history[0]["kd_loss"])


def test_teacher_with_pixels_of_its_own(make_trainer):
    """One uint8 batch, two models: grey 8x8 for the student, colour 16x16 with other statistics for the teacher."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    teacher = AutoModelForImageClassification.from_config(config).eval()
    teacher_processor = image_processor_for(3, 16, mean=0.2, std=0.3)
    pixels = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    data = ArrayImageDataset(pixels.numpy(), np.arange(8) % 3)
    trainer = make_trainer(
        "vit",
        teacher=teacher,
        train_dataset=data,
        processing_class=image_processor_for(1, 8),
        teacher_processing_class=teacher_processor,
    )
    trainer.train()
    found = trainer.teacher.logits({"pixel_values": pixels})
    grey = torch.nn.functional.interpolate(pixels.float(), (16, 16), mode="bilinear", antialias=True).round()
    expected = teacher(((grey / 255 - 0.2) / 0.3).repeat(1, 3, 1, 1)).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_uint8_pixels_need_a_processor(make_trainer):
    data = ArrayImageDataset(np.zeros((8, 1, 8, 8), np.uint8), np.arange(8) % 3)
    with pytest.raises(ValueError, match="processing_class"):
        make_trainer("vit", train_dataset=data).train()


# ---- Labels ----


def named(model, names):
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    return model


def test_labels_are_matched_by_name(make_trainer):
    student = named(tiny_model("vit"), ["cat", "dog", "owl"])
    teacher = named(tiny_model("vit", seed=1, scale=4.0), ["owl", "cat", "dog"])
    trainer = make_trainer("vit", model=student, teacher=teacher)
    batch = pad([Samples("vit")[i] for i in range(4)])
    raw = teacher(pixel_values=batch["pixel_values"]).logits
    assert torch.equal(trainer.teacher.logits(batch), raw[:, [1, 2, 0]])


def test_generic_labels_are_matched_by_position(make_trainer):
    teacher = named(tiny_model("vit", seed=1), ["owl", "cat", "dog"])
    assert make_trainer("vit", teacher=teacher).teacher.order is None


def test_different_label_sets_are_refused(make_trainer):
    student = named(tiny_model("vit"), ["cat", "dog", "owl"])
    with pytest.raises(ValueError, match=r"only the teacher has \['cow'\], only the student has \['owl'\]"):
        make_trainer("vit", model=student, teacher=named(tiny_model("vit"), ["cat", "dog", "cow"]))
    with pytest.raises(ValueError, match="4 labels and the student 3"):
        make_trainer("vit", teacher=tiny_model("vit", num_labels=4))


# ---- Warnings and errors ----


def test_teacher_no_better_than_chance_is_named_before_training(make_trainer, caplog):
    logging.getLogger("hf_genkit").propagate = True
    samples = Samples("vit", size=30, unlabelled=0)
    with caplog.at_level("WARNING"):
        trainer = make_trainer("vit", teacher=tiny_model("vit", seed=9), eval_dataset=samples)
        trainer.train()
    assert "no better than chance" in caplog.text
    assert trainer.state.global_step == 4


def test_good_teacher_gets_no_warning(make_trainer, caplog):
    samples = Samples("vit", size=30, unlabelled=0)
    labels = {row["pixel_values"].sum().item(): row["labels"] for row in samples.rows}

    def oracle(pixel_values):
        return torch.stack([torch.eye(3)[labels[image.sum().item()]] for image in pixel_values])

    with caplog.at_level("WARNING"):
        make_trainer("vit", teacher=oracle, train_dataset=samples, eval_dataset=samples).train()
    assert "no better than chance" not in caplog.text


def test_missing_teacher_is_an_error_unless_alpha_is_zero():
    with pytest.raises(ValueError, match="needs a `teacher_model`"):
        DistillationTrainer(tiny_model("vit"), None, DistillationConfig("unused", alpha=0.5, use_cpu=True))


def test_model_without_a_head_and_other_problem_types_are_refused(make_trainer):
    regression = tiny_model("bert")
    regression.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="multi_label_classification"):
        make_trainer("bert", model=regression)
    with pytest.raises(
        ValueError, match="no head for image-classification, text-classification, token-classification"
    ):
        make_trainer("bert", model=BertModel(tiny_model("bert").config))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"args": TrainingArguments("unused", use_cpu=True)}, "must be a DistillationConfig"),
        ({"compute_loss_func": lambda *_: 0}, "loss of its own"),
        (
            {"model": tiny_model("vit", num_labels=1), "teacher_model": tiny_model("vit", num_labels=1)},
            "num_labels is 1",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path, options, message):
    defaults = {"args": DistillationConfig(str(tmp_path), use_cpu=True), "model": tiny_model("vit")}
    with pytest.raises(ValueError, match=message):
        DistillationTrainer(**{**defaults, "teacher_model": tiny_model("vit", seed=1), **options})


def test_student_cannot_be_its_own_frozen_teacher(make_trainer):
    model = tiny_model("vit")
    with pytest.raises(ValueError, match="student itself"):
        make_trainer("vit", model=model, teacher=model)
    assert all(parameter.requires_grad for parameter in model.parameters())


class Unlabelled(Samples):
    def __getitem__(self, i):
        return {"pixel_values": self.rows[i]["pixel_values"]}


def stack(features):
    return {"pixel_values": torch.stack([feature["pixel_values"] for feature in features])}


def test_new_data_without_labels_can_be_predicted(make_trainer):
    trainer = make_trainer("vit", teacher=None, alpha=0.0, data_collator=stack)
    assert trainer.predict(Unlabelled("vit", size=5)).predictions.shape == (5, 3)
    assert trainer.evaluate(Unlabelled("vit", size=5))["eval_loss"] == 0
    with pytest.raises(ValueError, match="nothing to learn from"):
        make_trainer("vit", teacher=None, alpha=0.0, data_collator=stack, train_dataset=Unlabelled("vit")).train()


def test_data_without_labels_teach_through_every_loss(make_trainer):
    for loss_type in ("kl", "dkd"):
        trainer = make_trainer(
            "vit", loss_type=loss_type, data_collator=stack, train_dataset=Unlabelled("vit"), folder=loss_type
        )
        trainer.train()
        assert trainer.state.log_history[0]["kd_loss"] > 0


def test_hidden_states_can_be_predicted_too(make_trainer):
    model = tiny_model("bert")
    model.config.output_hidden_states = True
    logits, hidden = make_trainer("bert", model=model).predict(Samples("bert", size=4)).predictions
    assert logits.shape == (4, 3)
    assert len(hidden) == 3


def test_persistent_workers_do_not_mix_up_the_evaluation_sets(make_trainer):
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    plain = make_trainer("vit", eval_dataset=Samples("vit", size=6))
    kept = make_trainer("vit", eval_dataset=Samples("vit", size=6), folder="kept", **workers)
    test = Samples("vit", size=12, unlabelled=0)
    kept.evaluate()
    assert kept.evaluate(test)["eval_ce_loss"] == pytest.approx(plain.evaluate(test)["eval_ce_loss"])


def test_components_are_means_where_a_stream_ends_early(make_trainer):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(Samples("vit", size=6, unlabelled=0).rows)

    trainer = make_trainer("vit", train_dataset=Stream(), max_steps=6, gradient_accumulation_steps=1)
    trainer.train()
    for log in trainer.state.log_history:
        if "kd_loss" in log:
            assert log["loss"] == pytest.approx(0.5 * log["kd_loss"] + 0.5 * log["ce_loss"], rel=1e-3)
