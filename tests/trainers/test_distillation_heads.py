"""One trainer for every head: shifts, padding, unlabelled tokens, decoders and frames."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from hf_genkit import DistillationConfig, DistillationTrainer
from hf_genkit.losses import ctc_loss
from hf_genkit.trainers import distillation_trainer

from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny_distillation import HEADS, collate, distiller, head, llama, rows, whisper


def gradient_of(kind, folder, **options):
    recorder = GradientRecorder()
    trainer = distiller(kind, folder, callbacks=[recorder], **options)
    trainer.train()
    return recorder.gradient, trainer


@pytest.mark.parametrize("kind", HEADS)
def test_accumulation_does_not_change_the_gradient_of_any_head(tmp_path, kind):
    expected, _ = gradient_of(kind, tmp_path / "whole")
    for batch, accumulation in ((4, 2), (2, 4)):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        found, _ = gradient_of(kind, tmp_path / f"cut-{batch}", **options)
        assert_same_gradient(found, expected)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "masked", "whisper", "t5"])
def test_fused_head_changes_nothing(tmp_path, kind):
    expected, plain = gradient_of(kind, tmp_path / "plain", fused_head=False)
    found, fused = gradient_of(kind, tmp_path / "fused")
    assert fused.fuses
    assert fused.teacher.fuses
    assert not plain.fuses
    assert_same_gradient(found, expected)
    one, other = ([t.state.log_history[0][name] for name in ("loss", "kd_loss", "ce_loss")] for t in (fused, plain))
    assert one == pytest.approx(other, rel=1e-4)
    own = {name: value for name, value in fused.evaluate().items() if "per_second" not in name and "time" not in name}
    plainly = plain.evaluate()
    assert own == pytest.approx({name: plainly[name] for name in own}, rel=1e-4)


def textbook(student, teacher, batch, kind):
    """0.5 of each term at temperature 2, written out over the whole batch."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels = batch["labels"]
    if kind in ("whisper", "t5"):
        start = torch.full_like(labels[:, :1], student.config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, labels[:, :-1].clamp(min=0)], 1)
    ours, theirs = student(**inputs).logits, teacher.eval()(**inputs).logits.detach()
    if kind in ("gpt2", "llama"):
        ours, theirs, labels = ours[:, :-1], theirs[:, :-1], labels[:, 1:]
    kept = labels != -100
    soft = kl_div(log_softmax(ours[kept] / 2, -1), softmax(theirs[kept] / 2, -1), reduction="sum") * 4 / kept.sum()
    return soft, cross_entropy(ours[kept], labels[kept])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "masked", "whisper", "t5"])
def test_loss_and_gradient_are_the_textbook_ones(tmp_path, kind):
    student = head(kind)
    soft, hard = textbook(student, head(kind, seed=1, scale=3.0), collate(rows(kind)), kind)
    (0.5 * soft + 0.5 * hard).backward()
    expected = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    found, trainer = gradient_of(kind, tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    log = trainer.state.log_history[0]
    assert [log["kd_loss"], log["ce_loss"]] == pytest.approx([soft.item(), hard.item()], rel=1e-4)


def test_frames_are_taught_where_there_is_sound(tmp_path):
    student, teacher = head("ctc"), head("ctc", seed=1, scale=3.0)
    batch = collate(rows("ctc"))
    inputs = {name: batch[name] for name in ("input_values", "attention_mask")}
    ours, theirs = student(**inputs).logits, teacher.eval()(**inputs).logits.detach()
    lengths = student._get_feat_extract_output_lengths(batch["attention_mask"].sum(-1))
    kept = torch.arange(ours.shape[1]) < lengths[:, None]
    assert 0 < kept.sum() < kept.numel()
    soft = kl_div(log_softmax(ours[kept] / 2, -1), softmax(theirs[kept] / 2, -1), reduction="sum") * 4 / kept.sum()
    hard = ctc_loss(ours, batch["labels"], lengths, blank=0).mean()
    trainer = distiller("ctc", tmp_path)
    trainer.train()
    log = trainer.state.log_history[0]
    assert [log["kd_loss"], log["ce_loss"]] == pytest.approx([soft.item(), hard.item()], rel=1e-4)
    assert "eval_kd_loss" in trainer.evaluate()


def test_unlabelled_sequences_teach_at_every_token_but_the_padding(tmp_path):
    unlabelled = [{**row, "labels": torch.full_like(row["labels"], -100)} for row in rows("llama")]
    trainer = distiller("llama", tmp_path, data=unlabelled)
    batch = collate(unlabelled)
    counts = trainer.count_items(batch)
    assert counts["kd_loss"] == batch["attention_mask"][:, 1:].sum()
    assert counts["ce_loss"] == 0
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.5 * trainer.state.log_history[0]["kd_loss"])


def test_evaluation_has_perplexity_and_returns_logits_where_they_are_asked_for(tmp_path):
    seen = {}

    def compute_metrics(prediction):
        seen["shape"] = prediction.predictions.shape
        return {}

    trainer = distiller("llama", tmp_path, compute_metrics=compute_metrics)
    metrics = trainer.evaluate()
    assert metrics["eval_perplexity"] == pytest.approx(torch.tensor(metrics["eval_ce_loss"]).exp().item(), rel=1e-5)
    assert 0 <= metrics["eval_teacher_agreement"] <= 1
    assert seen["shape"] == (8, 10, 60)


def test_vocabularies_padded_to_other_sizes_train(tmp_path):
    """Qwen's small models have 151,936 tokens and its large ones 152,064, of the same tokenizer."""
    trainer = distiller("llama", tmp_path, model=llama(60), teacher=llama(64, seed=1, layers=2))
    with pytest.warns(UserWarning, match="64"):
        trainer.train()
    assert trainer.state.log_history[0]["kd_loss"] > 0


@pytest.mark.parametrize("top_k", [4, 58])
def test_top_k_targets_come_back_from_the_cache(tmp_path, top_k):
    options = {"teacher_top_k": top_k, "max_steps": 3, "per_device_train_batch_size": 4}
    trainer = distiller("llama", tmp_path / "first", teacher_cache=str(tmp_path / "cache"), **options)
    calls = []
    trainer.teacher.model.register_forward_hook(lambda *args: calls.append(1))
    trainer.train()
    assert len(calls) == 2  # the third step finds its samples
    again = distiller("llama", tmp_path / "again", teacher_cache=str(tmp_path / "cache"), **options)
    again.teacher.model.register_forward_hook(lambda *args: calls.append(1))
    again.train()
    assert len(calls) == 2
    first, second = ([log["kd_loss"] for log in t.state.log_history if "kd_loss" in log] for t in (trainer, again))
    assert first == second
    whole = distiller("llama", tmp_path / "whole", **{**options, "teacher_top_k": None})
    whole.train()
    if top_k == 58:
        assert first[0] == pytest.approx(whole.state.log_history[0]["kd_loss"], rel=5e-2)
    else:
        assert 0 < first[0] < whole.state.log_history[0]["kd_loss"]


def test_as_many_classes_as_there_are_leave_no_tail(tmp_path):
    with pytest.raises(ValueError, match=r"`teacher_top_k` is 60, but .* 60"):
        distiller("llama", tmp_path, teacher_top_k=60)


def test_cache_tells_the_same_text_with_other_labels_apart(tmp_path):
    few, many = rows("llama")[0], {**rows("llama")[0]}
    many["labels"] = many["input_ids"].clone()
    options = {"teacher_top_k": 4, "teacher_cache": str(tmp_path / "cache"), "per_device_train_batch_size": 1}
    for name, row in (("few", few), ("many", many)):
        trainer = distiller("llama", tmp_path / name, data=[row], **options)
        trainer.train()
    plain = distiller("llama", tmp_path / "plain", data=[many], teacher_top_k=4, per_device_train_batch_size=1)
    plain.train()
    assert trainer.state.log_history[0]["kd_loss"] == pytest.approx(plain.state.log_history[0]["kd_loss"], rel=5e-3)


def test_a_frozen_encoder_that_both_share_runs_once(tmp_path):
    teacher = whisper(2, seed=1)
    student = whisper(1)
    student.get_encoder().load_state_dict(teacher.get_encoder().state_dict())
    student.get_encoder().requires_grad_(False)
    trainer = distiller("whisper", tmp_path, model=student, teacher=teacher)
    apart = distiller("whisper", tmp_path / "apart", model=student, teacher=teacher)
    apart.shares_encoder = False
    assert trainer.shares_encoder
    calls = []
    teacher.get_encoder().register_forward_hook(lambda *args: calls.append(1))
    batch = trainer._prepare_inputs(collate(rows("whisper")))
    assert trainer.compute_loss(student.train(), batch).item() == pytest.approx(
        apart.compute_loss(student.train(), batch).item(), rel=1e-6
    )
    assert len(calls) == 1  # of the trainer that doesn't know
    student.get_encoder().requires_grad_(True)
    assert not distiller("whisper", tmp_path, model=student, teacher=teacher).shares_encoder


def test_a_shared_encoder_reads_without_dropout_and_in_the_teachers_dtype(tmp_path):
    student, teacher = head("t5"), head("t5").to(torch.bfloat16)
    for part in student.get_encoder().modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    teacher.get_encoder().load_state_dict(student.get_encoder().state_dict())
    student.get_encoder().load_state_dict(teacher.get_encoder().state_dict())
    student.get_encoder().requires_grad_(False)
    trainer = distiller("t5", tmp_path, model=student, teacher=teacher)
    assert trainer.shares_encoder
    batch = trainer._prepare_inputs(collate(rows("t5")))
    losses = {trainer.compute_loss(student.train(), batch).item() for _ in range(3)}
    assert len(losses) == 1


def test_an_encoder_is_shared_with_all_teachers_or_with_none(tmp_path):
    student = head("t5")
    student.get_encoder().requires_grad_(False)
    equal, other = head("t5"), head("t5", seed=1)
    assert distiller("t5", tmp_path, model=student, teacher=[equal, head("t5")]).shares_encoder
    assert not distiller("t5", tmp_path, model=student, teacher=[equal, other]).shares_encoder


def test_fused_head_computes_in_half_precision_where_that_is_asked_for(tmp_path, monkeypatch):
    seen = []
    original = distillation_trainer.fused_distillation

    def spy(hidden, *args, **options):
        seen.append(torch.is_autocast_enabled("cpu"))
        return original(hidden, *args, **options)

    monkeypatch.setattr(distillation_trainer, "fused_distillation", spy)
    distiller("llama", tmp_path, bf16=True).train()
    assert seen == [True]


def test_labels_are_smoothed_in_training_alone(tmp_path):
    plain, smooth = (distiller("llama", tmp_path / f"{s}", label_smoothing_factor=s).evaluate() for s in (0.0, 0.3))
    assert smooth["eval_ce_loss"] == plain["eval_ce_loss"]
    assert smooth["eval_perplexity"] == plain["eval_perplexity"]


def test_a_language_model_is_evaluated_without_training_data(tmp_path):
    args = DistillationConfig(str(tmp_path), use_cpu=True)
    trainer = DistillationTrainer(head("llama"), head("llama", seed=1), args, data_collator=collate)
    assert "eval_kd_loss" in trainer.evaluate(rows("llama"))


def test_a_teacher_of_other_frames_is_refused(tmp_path):
    slow = head("ctc", seed=1)
    slow.config.conv_stride = (4, 8)
    with pytest.raises(ValueError, match="The teacher makes 500 frames of a second of sound and the student 1000"):
        distiller("ctc", tmp_path, teacher=slow)
