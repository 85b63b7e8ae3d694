"""A VAE on disk: weights bitwise, fitted priors too, with the package and, as remote code, without it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, Trainer, TrainingArguments

from hf_genkit.models.gan import GANConfig, GANModel
from hf_genkit.models.vae import VAEConfig, VAEModel
from hf_genkit.models.vae.configuration_vae import LIKELIHOODS
from hf_genkit.models.vq_vae import VQVAEModel


def tiny(**fields):
    torch.manual_seed(0)
    return VAEModel(VAEConfig(**{"image_size": 8, "latent_dim": 3, "hidden_sizes": [8]} | fields)).eval()


def with_fitted_priors(**fields):
    model = tiny(anomaly_kind="elbo", anomaly_threshold=50.0, **fields)
    second = {"image_size": 1, "num_channels": 3, "architecture": "mlp", "likelihood": "gaussian", "bounded": False}
    model.set_second_stage(VAEModel(VAEConfig(latent_dim=3, hidden_sizes=[5], **second)))
    scale_trils = torch.eye(3) + torch.rand(2, 3, 3).tril()
    model.set_mixture_prior(torch.tensor([0.3, 0.7]), torch.randn(2, 3), scale_trils)
    return model


def pictures(channels=1):
    return torch.rand(4, channels, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def assert_same_state(first, second):
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("fields", [{}, {"architecture": "mlp"}, {"architecture": "mlp", "gated": True}])
def test_weights_come_back_bitwise(likelihood, fields, tmp_path):
    model = tiny(likelihood=likelihood, num_channels=3, **fields)
    for parameter in model.parameters():
        parameter.data.add_(torch.rand_like(parameter))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is VAEModel
    assert type(AutoConfig.from_pretrained(tmp_path)) is VAEConfig
    assert_same_state(model, loaded)
    noise = torch.zeros(4, 3)
    assert torch.equal(model(pictures(3), noise=noise).loss, loaded(pictures(3), noise=noise).loss)


def test_fitted_priors_and_thresholds_come_back(tmp_path):
    model = with_fitted_priors()
    model.save_pretrained(tmp_path)
    loaded = VAEModel.from_pretrained(tmp_path)
    assert_same_state(model, loaded)
    assert "mixture_means" in loaded.state_dict()
    for prior in ("normal", "mixture", "two_stage"):
        drawn = [m.sample(3, torch.Generator().manual_seed(2), prior=prior) for m in (model, loaded)]
        assert torch.equal(*drawn)
    assert torch.equal(model.is_anomaly(pictures()), loaded.is_anomaly(pictures()))
    # A model that was fitted before can be fitted again.
    loaded.set_mixture_prior(torch.ones(1), torch.zeros(1, 3), torch.eye(3)[None])
    loaded.save_pretrained(tmp_path)
    assert_same_state(loaded, VAEModel.from_pretrained(tmp_path))


def test_a_fixed_sigma_is_no_parameter_after_loading(tmp_path):
    tiny(likelihood="gaussian", sigma="fixed", sigma_value=0.3).save_pretrained(tmp_path)
    loaded = VAEModel.from_pretrained(tmp_path)
    assert "likelihood.log_scale" not in dict(loaded.named_parameters())
    assert loaded.likelihood.log_sigma().exp().item() == pytest.approx(0.3)


def test_a_mixture_that_was_not_fitted_is_the_standard_normal():
    model = tiny(mixture_components=2)
    torch.testing.assert_close(model.mixture_log_weights.exp(), torch.full((2,), 0.5))
    assert torch.equal(model.mixture_scale_trils, torch.eye(3).expand(2, 3, 3))


def test_a_fresh_model_starts_at_the_configured_sigma_and_a_sensible_scale():
    model = VAEModel(VAEConfig(image_size=64, likelihood="gaussian", sigma_value=0.2))
    assert model.likelihood.log_sigma().exp().item() == pytest.approx(0.2, rel=0.01)
    noise = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(3)).clamp(-1, 1)
    mean, log_variance = model.encode(noise)
    hidden = model.decoder.layers(torch.randn(64, 16))
    for value in (mean, log_variance, hidden, model.decoder.head(hidden)):
        assert 0.1 < value.std().item() < 3


REMOTE = """
import json, sys
import torch
from transformers import AutoModel
assert not any(name.split(".")[0] == "hf_genkit" for name in sys.modules)
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
pictures = torch.load(sys.argv[2])
values = {
    "loss": model(pictures, noise=torch.zeros(len(pictures), 3)).loss.tolist(),
    "mixture": model.sample(2, torch.Generator().manual_seed(2), prior="mixture").flatten().tolist(),
    "two_stage": model.sample(2, torch.Generator().manual_seed(2), prior="two_stage").flatten().tolist(),
    "anomaly": model.is_anomaly(pictures).tolist(),
    "class": type(model).__module__,
}
model.save_pretrained(sys.argv[3])
AutoModel.from_pretrained(sys.argv[3], trust_remote_code=True)
print(json.dumps(values))
"""


def test_it_loads_as_remote_code_where_the_package_is_missing(tmp_path):
    model = with_fitted_priors()
    model.save_pretrained(tmp_path / "model")
    torch.save(pictures(), tmp_path / "pictures.pt")
    # A module of this name that fails stands in the way of the installed package.
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "hf_genkit.py").write_text("raise ImportError('hf_genkit is not installed')")
    finished = subprocess.run(
        [sys.executable, "-c", REMOTE, tmp_path / "model", tmp_path / "pictures.pt", tmp_path / "again"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "blocked"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    values = json.loads(finished.stdout.splitlines()[-1])
    assert values["class"].startswith("transformers_modules")
    assert values["loss"] == model(pictures(), noise=torch.zeros(4, 3)).loss.tolist()
    for prior in ("mixture", "two_stage"):
        assert values[prior] == model.sample(2, torch.Generator().manual_seed(2), prior=prior).flatten().tolist()
    assert values["anomaly"] == model.is_anomaly(pictures()).tolist()


@pytest.mark.parametrize("accumulation", [1, 4])
def test_plain_trainer_trains_and_evaluates_it(accumulation, tmp_path):
    model = tiny()
    examples = [{"pixel_values": x} for x in (pictures().repeat(16, 1, 1, 1).sign())]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=16 // accumulation,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=15,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        logging_steps=4,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=examples, eval_dataset=examples)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.8 * before
    # The logged loss is in nats per picture, whatever the accumulation.
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[0] == pytest.approx(before, rel=0.4)


@pytest.mark.parametrize("architecture", ["conv", "mlp"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_few_steps_lower_the_loss(architecture, likelihood):
    model = tiny(architecture=architecture, likelihood=likelihood, hidden_sizes=[32])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = model(pictures().sign(), generator=torch.Generator().manual_seed(4)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2 * abs(losses[0])


def test_half_weights_work(tmp_path):
    model = with_fitted_priors(likelihood="gaussian")
    model.save_pretrained(tmp_path)
    half = VAEModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(pictures(), noise=torch.zeros(4, 3)).loss.dtype == torch.float32
    for prior in ("normal", "mixture", "two_stage"):
        assert torch.isfinite(half.sample(3, prior=prior)).all()
    torch.testing.assert_close(half.reconstruct(pictures()), model.reconstruct(pictures()), atol=0.05, rtol=0.05)
    exact, rough = (m.log_likelihood(pictures(), 20, torch.Generator().manual_seed(5)) for m in (model, half))
    torch.testing.assert_close(rough, exact, atol=1.0, rtol=0.01)


@pytest.mark.parametrize("model_class", [VAEModel, VQVAEModel])
def test_a_checkpoint_of_another_model_type_is_refused(tmp_path, model_class):
    """transformers itself would load it, with a warning, and start from random weights."""
    torch.manual_seed(0)
    GANModel(GANConfig(image_size=8, architecture="mlp", generator_channels=8)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"type 'genkit_gan', but V.*Config needs 'genkit_v"):
        model_class.from_pretrained(tmp_path)
