"""Peers that teach each other: the loss, the metrics, and what is refused."""

from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM, TrainingArguments

from hf_genkit.losses import ctc_loss
from hf_genkit.trainers.finetuning_config import FineTuningConfig
from hf_genkit.trainers.finetuning_trainer import FineTuningTrainer
from hf_genkit.trainers.mutual_config import MutualDistillationConfig
from hf_genkit.trainers.mutual_trainer import MutualDistillationTrainer

from .test_exactness import GradientRecorder, assert_same_gradient
from .test_resume import assert_equal_weights
from .tiny import CONFIGS, tiny_model
from .tiny_distillation import collate
from .tiny_mutual import PAIRS, mutual_trainer, peers, samples


REPOSITORY = Path(__file__).parents[2]
SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 6, "lr_scheduler_type": "cosine"}


def recorded_gradient(task, folder, **options):
    recorder = GradientRecorder()
    trainer = mutual_trainer(task, folder, callbacks=[recorder], **options)
    trainer.train()
    return recorder.gradient, trainer


# ---- The loss ----


@pytest.mark.parametrize("task", PAIRS)
def test_accumulation_does_not_change_the_gradient(tmp_path, task):
    expected, _ = recorded_gradient(task, tmp_path / "whole")
    cut = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    found, _ = recorded_gradient(task, tmp_path / "cut", **cut)
    assert_same_gradient(found, expected)


def three_peers():
    models = [*peers("images"), tiny_model("vit", seed=5, scale=3.0)]
    for model, names in zip(
        models, (["cat", "dog", "owl"], ["owl", "cat", "dog"], ["cat", "dog", "owl"]), strict=True
    ):
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: i for i, name in enumerate(names)}
    return models


def test_gradient_is_that_of_the_paper_with_classes_matched_by_name(tmp_path):
    """Against the loss of three peers written out by hand, one with its classes in another order, some unlabelled."""
    options = {"alpha": 0.3, "temperature": 3.0, "models": three_peers()}
    found, trainer = recorded_gradient("images", tmp_path, **options)
    models, batch = three_peers(), collate(samples("images"))
    labels = batch["labels"]
    logits = [model(pixel_values=batch["pixel_values"]).logits for model in models]
    logits[1] = logits[1][:, [1, 2, 0]]
    loss, log = 0, trainer.state.log_history[0]
    for number, own in enumerate(logits):
        soft = 0
        for other in (logits[i].detach() for i in range(3) if i != number):
            target = torch.softmax(other / 3, -1)
            soft = soft + 9 * (target * (target.log() - torch.log_softmax(own / 3, -1))).sum(-1).mean() / 2
        hard = torch.nn.functional.cross_entropy(own, labels, ignore_index=-100)
        loss = loss + 0.3 * soft + 0.7 * hard
        assert log[f"peer_{number}_kd_loss"] == pytest.approx(soft.item(), rel=1e-4)
        assert log[f"peer_{number}_ce_loss"] == pytest.approx(hard.item(), rel=1e-4)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for model in models for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert log["loss"] == pytest.approx(loss.item(), rel=1e-4)


def test_alpha_zero_trains_each_peer_alone(tmp_path):
    """Its gradient is clipped alone, too."""
    options = {"max_steps": 3, "max_grad_norm": 0.1, "label_smoothing_factor": 0.1}
    trainer = mutual_trainer("images", tmp_path / "both", alpha=0.0, **options)
    trainer.train()
    assert "peer_0_kd_loss" not in trainer.state.log_history[0]
    assert trainer.evaluate(samples("images"))["eval_peer_0_kd_loss"] > 0
    for number, model in enumerate(peers("images")):
        args = FineTuningConfig(
            str(tmp_path / f"{number}"), per_device_train_batch_size=8, learning_rate=1e-2, use_cpu=True,
            save_strategy="no", disable_tqdm=True, **options,
        )  # fmt: skip
        FineTuningTrainer(model, args, train_dataset=samples("images"), data_collator=collate).train()
        assert_equal_weights(trainer.peers[number].state_dict(), model.state_dict())


def test_alpha_one_needs_no_labels(tmp_path):
    rows = [{**row, "labels": -100} for row in samples("images")]
    trainer = mutual_trainer("images", tmp_path, alpha=1.0, train_dataset=rows)
    trainer.train()
    assert trainer.state.log_history[0]["peer_1_kd_loss"] > 0
    assert "peer_0_ce_loss" not in trainer.state.log_history[0]


def test_nothing_to_learn_from_is_one_sentence(tmp_path):
    rows = [{"pixel_values": row["pixel_values"]} for row in samples("images")]

    def stack(features):
        return {"pixel_values": torch.stack([feature["pixel_values"] for feature in features])}

    with pytest.raises(ValueError, match="nothing to learn from"):
        mutual_trainer("images", tmp_path, alpha=0.0, train_dataset=rows, data_collator=stack).train()


def test_activations_can_be_recomputed(tmp_path):
    expected, _ = recorded_gradient("texts", tmp_path / "kept")
    found, _ = recorded_gradient("texts", tmp_path / "recomputed", activation_checkpointing=True)
    assert_same_gradient(found, expected)


# ---- Evaluation ----


@pytest.mark.parametrize("task", ["images", "tokens", "language"])
def test_evaluation_is_exact_over_uneven_batches(tmp_path, task):
    rows = samples(task, 7)
    options = {"per_device_eval_batch_size": 3, "label_smoothing_factor": 0.1}  # which is for training alone
    trainer = mutual_trainer(task, tmp_path, eval_dataset=rows, **options)
    metrics = trainer.evaluate()
    batch = collate(rows)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = [model.eval()(**batch).logits for model in trainer.peers]
    if task == "language":
        logits, labels = [each[:, :-1] for each in logits], labels[:, 1:]
    seen = labels != -100
    logits.append(torch.stack([each.softmax(-1) for each in logits]).mean(0).log())
    losses, accuracies = [], []
    for name, each in zip(("peer_0", "peer_1", "ensemble"), logits, strict=True):
        losses.append(torch.nn.functional.cross_entropy(each[seen], labels[seen]).item())
        accuracies.append((each.argmax(-1) == labels)[seen].float().mean().item())
        assert metrics[f"eval_{name}_ce_loss"] == pytest.approx(losses[-1], rel=1e-4)
        assert metrics[f"eval_{name}_accuracy"] == pytest.approx(accuracies[-1])
    soft = [metrics[f"eval_peer_{number}_kd_loss"] for number in (0, 1)]
    if task == "images":  # unlabelled ones teach, too
        own, other = (each.log_softmax(-1) for each in logits[:2])
        assert soft[0] == pytest.approx((other.exp() * (other - own)).sum(-1).mean().item(), rel=1e-4)
    assert metrics["eval_loss"] == pytest.approx(0.5 * (sum(losses[:2]) + sum(soft)), rel=1e-4)
    if task == "language":
        best = 0 if losses[0] < losses[1] else 1
        assert metrics["eval_perplexity"] == pytest.approx(torch.tensor(losses[best]).exp().item(), rel=1e-4)
        assert metrics["eval_accuracy"] == metrics[f"eval_peer_{best}_accuracy"]
    else:
        assert metrics["eval_accuracy"] == pytest.approx(max(accuracies[:2]))


def test_frames_are_judged_by_their_loss(tmp_path):
    """One of the samples has no transcript."""
    trainer = mutual_trainer("frames", tmp_path, eval_dataset=samples("frames", 7), per_device_eval_batch_size=3)
    trainer.train()
    metrics, batch = trainer.evaluate(), collate(samples("frames", 7))
    labels, losses = batch.pop("labels"), []
    for number, model in enumerate(trainer.peers):
        with torch.no_grad():
            logits = model(**batch).logits
        frames = model._get_feat_extract_output_lengths(batch["attention_mask"].sum(-1))
        losses.append(ctc_loss(logits, labels, frames).sum().item() / 6)
        assert metrics[f"eval_peer_{number}_ce_loss"] == pytest.approx(losses[-1], rel=1e-4)
    assert trainer.best_peer == losses.index(min(losses))
    assert metrics["eval_ce_loss"] == pytest.approx(min(losses), rel=1e-4)


def test_compute_metrics_sees_the_logits_of_each_peer_in_one_order(tmp_path):
    seen = []

    def compute_metrics(prediction):
        seen.append(prediction)
        return {"hits": 1.0}

    models = three_peers()
    trainer = mutual_trainer(
        "images", tmp_path, models=models, eval_dataset=samples("images", 5), compute_metrics=compute_metrics
    )
    assert trainer.evaluate()["eval_hits"] == 1
    pixels = collate(samples("images", 5))["pixel_values"]
    with torch.no_grad():
        expected = [model.eval()(pixel_values=pixels).logits for model in models]
    expected[1] = expected[1][:, [1, 2, 0]]
    for found, logits in zip(seen[0].predictions, expected, strict=True):
        torch.testing.assert_close(torch.tensor(found), logits, rtol=1e-4, atol=1e-5)


# ---- Errors ----


def slower():
    model = peers("frames")[0]
    model.config.conv_stride = (4, 8)
    return model


def regression():
    model = tiny_model("vit")
    model.config.problem_type = "regression"
    return model


MODEL = tiny_model("vit")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([MODEL], "holds 1 model, but mutual learning takes at least two"),
        ([MODEL, MODEL], "Peer 1 is an earlier peer itself"),
        ([MODEL, torch.nn.Linear(2, 2)], "Peer 1 is a Linear"),
        ([MODEL, tiny_model("bert")], "Peer 1 is for text-classification and peer 0 for image-classification"),
        ([MODEL, tiny_model("vit", num_labels=4)], "Peer 1 can't be a teacher of peer 0. The teacher has 4 labels"),
        ([MODEL, regression()], "Peer 1's problem_type is 'regression'"),
        ([tiny_model("vit", num_labels=1), tiny_model("vit", num_labels=1)], "Peer 0's num_labels is 1"),
        ([peers("frames")[0], slower()], "Peer 1 makes 500 frames of a second of sound and peer 0 1000"),
    ],
)
def test_peers_that_cannot_learn_from_each_other_are_refused(tmp_path, models, message):
    with pytest.raises(ValueError, match=message):
        mutual_trainer("images", tmp_path, models=models)


def test_other_vocabularies_are_refused(tmp_path):
    config = CONFIGS["bert"]()
    config.vocab_size = 61
    with pytest.raises(ValueError, match="Peer 1 has a vocabulary of 61 tokens and peer 0 one of 60"):
        mutual_trainer("masked", tmp_path, models=[peers("masked")[0], BertForMaskedLM(config)])


def test_arguments_of_another_trainer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be a MutualDistillationConfig"):
        MutualDistillationTrainer(peers("images"), TrainingArguments(str(tmp_path), use_cpu=True))


def test_ranges_are_checked_and_the_papers_temperature_is_the_default():
    assert MutualDistillationConfig("unused", use_cpu=True).temperature == 1
    with pytest.raises(ValueError, match="`alpha` is 2"):
        MutualDistillationConfig("unused", use_cpu=True, alpha=2)
