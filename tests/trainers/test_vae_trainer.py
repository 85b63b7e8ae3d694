"""VAETrainer: exact under accumulation and resume, honest logs, pictures, likelihoods and priors."""

import math
import re

import pytest
import torch
from PIL import Image
from transformers import AutoModel

from hf_genkit import VAEModel, VAETrainer, VAETrainingConfig
from hf_genkit.evaluation import FeatureExtractor, PictureJudge
from hf_genkit.hub import check_model_card

from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny import tiny_model
from .tiny_generative import gan, pictures, trainer_for, vae, vq_vae


def train(model, folder, **options):
    trainer = trainer_for(model, folder, **options)
    trainer.train()
    return trainer


def weights(trainer):
    return torch.cat([value.flatten().double() for value in trainer.model.state_dict().values()])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "mlp", "gated": True, "hidden_sizes": [8, 8]},
        {"likelihood": "gaussian", "sigma": "optimal"},
        {"objective": "iwae", "num_importance_samples": 3},
        {"free_bits": 0.1},
    ],
)
def test_accumulation_does_not_change_the_gradient(tmp_path, options):
    """Noise drawn for a batch instead of a sample would change with the size of the batch."""
    found = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        recorder = GradientRecorder()
        train(
            vae(**options), tmp_path / str(batch), callbacks=[recorder], max_steps=1, max_grad_norm=0.0,
            per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, binarize="dynamic",
        )  # fmt: skip
        found.append(recorder.gradient)
    for gradient in found[1:]:
        assert_same_gradient(gradient, found[0])


def test_resuming_gives_the_same_weights_to_the_bit(tmp_path):
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "kl_warmup_steps": 5}
    whole = train(vae(), tmp_path / "run", **options)
    expected = weights(whole)
    resumed = trainer_for(vae(), tmp_path / "run", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert torch.equal(weights(resumed), expected)


def test_another_trainer_with_another_seed_does_not_change_the_run(tmp_path):
    """The sampler reads the global generator's initial seed: what trained before decided over the order of the data."""
    runs = []
    for other in (1, 2):
        trainer = trainer_for(vae(), tmp_path / str(other), max_steps=4, per_device_train_batch_size=4)
        train(vae(), tmp_path / f"other-{other}", max_steps=1, seed=other)
        trainer.train()
        runs.append(weights(trainer))
    assert torch.equal(*runs)


def test_the_log_has_every_term_and_they_add_up(tmp_path):
    trainer = train(vae(beta=2.0), tmp_path, max_steps=2)
    for entry in trainer.state.log_history[:2]:
        total = entry["reconstruction_loss"] + 2.0 * entry["kl_loss"]
        assert entry["loss"] == pytest.approx(total, rel=1e-4)


def test_the_kl_term_is_warmed_up_in_training_and_full_in_evaluation(tmp_path):
    trainer = trainer_for(vae(beta=2.0), tmp_path, max_steps=8, kl_warmup_steps=4, eval_dataset=pictures(8))
    seen = []
    for step in (0, 1, 3, 7):
        trainer.state.global_step = step
        seen.append(trainer.beta)
    assert seen == [0.5, 1.0, 2.0, 2.0]
    trainer.state.global_step = 0
    metrics = trainer.evaluate()
    total = metrics["eval_reconstruction_loss"] + 2.0 * metrics["eval_kl_loss"]
    assert metrics["eval_loss"] == pytest.approx(total, rel=1e-5)
    share = trainer_for(vae(), tmp_path / "share", max_steps=8, kl_warmup_steps=0.5)
    share.state.max_steps = 8
    assert share.beta == pytest.approx(0.25)


@pytest.mark.parametrize("batch", [3, 8])
def test_evaluation_is_the_mean_over_images_whatever_the_batch(tmp_path, batch):
    """Ten images in batches of 8 and of 3: a mean of batch means, or noise by batch, would differ."""
    options = {"eval_dataset": pictures(10, seed=1), "binarize": "dynamic"}
    expected = trainer_for(vae(), tmp_path / "one", per_device_eval_batch_size=10, **options).evaluate()
    found = trainer_for(vae(), tmp_path / "many", per_device_eval_batch_size=batch, **options).evaluate()
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)
    assert found["eval_kl_loss"] == pytest.approx(expected["eval_kl_loss"], rel=1e-5)


def test_dynamic_binarization_draws_anew_in_training_and_the_same_in_evaluation(tmp_path):
    trainer = trainer_for(vae(), tmp_path, binarize="dynamic")
    inputs = {"pixel_values": torch.full((4, 1, 8, 8), 64, dtype=torch.uint8)}
    drawn = []
    for step in (0, 1, -1, -1):
        trainer.noise.start(step, 4)
        drawn.append(trainer.pixel_values(inputs))
    assert set(drawn[0].unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[3])
    assert torch.stack(drawn).add(1).div(2).mean().item() == pytest.approx(64 / 255, abs=0.05)
    sharp = trainer_for(vae(), tmp_path, binarize="threshold")
    assert (sharp.pixel_values(inputs) == -1).all()


def test_the_likelihood_of_a_data_set_is_the_models(tmp_path):
    trainer = trainer_for(vae(), tmp_path, per_device_eval_batch_size=4)
    found = trainer.log_likelihood(pictures(10), num_samples=5000)
    pixels = trainer.pixel_values({"pixel_values": torch.from_numpy(pictures(10).pixels)})
    expected = trainer.model.log_likelihood(pixels, 5000, generator=torch.Generator().manual_seed(0))
    assert found["nll"] == pytest.approx(-expected.mean().item(), rel=0.01)
    assert found["nll_standard_error"] == pytest.approx((expected.std() / math.sqrt(10)).item(), rel=0.3)
    assert trainer.log_likelihood(pictures(10), num_samples=5000) == found


@pytest.mark.parametrize("prior", ["mixture", "two_stage"])
def test_a_fitted_prior_samples_like_the_data_and_is_saved_with_the_model(tmp_path, monkeypatch, prior):
    """Latents far from the standard normal: its samples miss them, a fitted prior's do not."""
    monkeypatch.setattr("hf_genkit.trainers.latent_priors.SECOND_STAGE_STEPS", 300)
    trainer = trainer_for(vae(), tmp_path, latent_prior=prior, mixture_components=2)
    far = 4 + 0.1 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(trainer, "encode", lambda dataset: (far, torch.full_like(far, -6.0)))
    trainer.fit_prior(pictures())
    trainer.save_model(str(tmp_path / "saved"))
    model = AutoModel.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        expected = model.decode(far).mean(0)
    for prior_name, limit in (("normal", None), (prior, 0.15)):
        samples = model.sample(200, generator=torch.Generator().manual_seed(0), prior=prior_name)
        distance = (samples.mean(0) - expected).abs().mean().item()
        if limit is None:
            baseline = distance
        else:
            assert distance < 0.35 * baseline


def test_encoding_keeps_the_order_of_the_images(tmp_path):
    trainer = trainer_for(vae(), tmp_path, per_device_eval_batch_size=4)
    means, log_variances = trainer.encode(pictures(10))
    pixels = trainer.pixel_values({"pixel_values": torch.from_numpy(pictures(10).pixels)})
    expected = trainer.model.encode(pixels)
    assert torch.allclose(means, expected[0], atol=1e-6)
    assert torch.allclose(log_variances, expected[1], atol=1e-6)


def test_pictures_are_drawn_at_evaluations_and_judged(tmp_path):
    classifier = FeatureExtractor(tiny_model("vit"), name="tiny", size=8)
    judge = PictureJudge(classifier, pictures(40, seed=2), cache_dir=tmp_path / "features", metrics=["fd"])
    trainer = trainer_for(
        vae(), tmp_path / "run", judge=judge, eval_dataset=pictures(8), eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, num_judged_pictures=12, metric_for_best_model="fd_tiny_8",
        load_best_model_at_end=True,
    )  # fmt: skip
    trainer.train()
    scores = [log["eval_fd_tiny_8"] for log in trainer.state.log_history if "eval_fd_tiny_8" in log]
    assert len(scores) == 2
    assert trainer.state.best_metric == min(scores)
    names = {path.name for path in (tmp_path / "run" / "pictures").iterdir()}
    grids = ("samples", "reconstructions", "interpolation")
    assert names == {"curves.png", *(f"step-00000{step}-{name}.png" for step in (2, 4) for name in grids)}
    with Image.open(tmp_path / "run" / "pictures" / "step-000004-samples.png") as picture:
        assert picture.width == picture.height
    trainer.create_model_card()
    card = (tmp_path / "run" / "README.md").read_text()
    check_model_card(card)
    assert "FD (tiny at 8 px)" in card
    assert "sample(16)" in card


def test_a_metric_that_the_judge_does_not_give_is_refused_before_training(tmp_path):
    judge = PictureJudge(
        FeatureExtractor(tiny_model("vit"), name="tiny", size=8),
        pictures(40, seed=2),
        cache_dir=tmp_path,
        metrics=["fd"],
    )
    trainer = trainer_for(vae(), tmp_path / "run", judge=judge, metric_for_best_model="fd_tiny")
    with pytest.raises(ValueError, match=r"`metric_for_best_model` is 'fd_tiny'.*did you mean 'fd_tiny_8'"):
        trainer.train()


def test_pictures_do_not_change_the_run(tmp_path):
    options = {"eval_dataset": pictures(8), "eval_strategy": "steps", "eval_steps": 1, "max_steps": 3}
    drawn = train(vae(), tmp_path / "drawn", **options)
    plain = train(vae(), tmp_path / "plain", max_steps=3)
    assert torch.equal(weights(drawn), weights(plain))


def test_a_vq_vae_trains_logs_resumes_and_has_a_card(tmp_path, monkeypatch):
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "eval_dataset": pictures(8)}
    trainer = train(vq_vae(), tmp_path, **options)
    assert {"reconstruction_loss", "commitment_loss", "perplexity"} <= set(trainer.state.log_history[0])
    metrics = trainer.evaluate()
    assert metrics["eval_perplexity"] >= 1
    expected = weights(trainer)
    assert "samples" not in trainer.draw_pictures(tmp_path)
    trainer.save_model()
    trainer.create_model_card()
    (snippet,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    assert "model.encode" in snippet
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    resumed = trainer_for(vq_vae(), tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert torch.equal(weights(resumed), expected)


def test_training_lowers_the_loss_and_the_checkpoint_loads(tmp_path):
    trainer = train(vae(), tmp_path, max_steps=60, save_strategy="steps", save_steps=60)
    logs = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert logs[-1] < 0.8 * logs[0]
    model = AutoModel.from_pretrained(tmp_path / "checkpoint-60")
    assert isinstance(model, VAEModel)
    assert model.sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"binarize": "dynmic"}, r"`binarize` is 'dynmic'.*did you mean 'dynamic'"),
        ({"kl_warmup_steps": -1}, r"`kl_warmup_steps` is -1"),
        ({"num_judged_pictures": 2}, r"`num_judged_pictures` is 2"),
        ({"latent_prior": "flow"}, r"`latent_prior` is 'flow'"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        VAETrainingConfig(str(tmp_path), **options)


def test_priors_that_can_not_be_fitted_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"`mixture_components` is 25, but there are only 24 training images"):
        trainer_for(vae(), tmp_path, latent_prior="mixture", mixture_components=25).train()
    with pytest.raises(ValueError, match=r"`latent_prior` is 'mixture', but a VQVAEModel has no such latents"):
        trainer_for(vq_vae(), tmp_path, latent_prior="mixture").train()


@pytest.mark.parametrize("count", [1, 4])
def test_a_small_evaluation_set_is_enough_to_draw(tmp_path, count):
    options = {"eval_dataset": pictures(count), "eval_strategy": "steps", "eval_steps": 1, "num_sample_pictures": 36}
    train(vae(), tmp_path / "vae", max_steps=1, **options)
    train(gan(), tmp_path / "gan", max_steps=2, **options)
    assert (tmp_path / "vae" / "pictures" / "step-000001-interpolation.png").is_file()


@pytest.mark.parametrize("model", [gan(), tiny_model("vit")], ids=["gan", "vit"])
def test_another_kind_of_model_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"`model` is a .*, but it must be a VAEModel or a VQVAEModel"):
        VAETrainer(model, VAETrainingConfig(str(tmp_path), use_cpu=True))
