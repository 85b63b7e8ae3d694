"""Saving and loading GANs: to the bit, for every architecture, with and without this package."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel

from hf_genkit.models.gan import GANConfig, GANGeneratorModel, GANModel
from hf_genkit.models.gan.configuration_gan import DISCRIMINATOR_NORMS, GENERATOR_NORMS


VARIANTS = [
    (architecture, generator_norm, discriminator_norm, num_labels)
    for architecture in GENERATOR_NORMS
    for generator_norm in GENERATOR_NORMS[architecture]
    for discriminator_norm in DISCRIMINATOR_NORMS[architecture]
    for num_labels in (0, 2)
]

WITHOUT_THE_PACKAGE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_genkit":
            raise ImportError("hf_genkit is blocked")
sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoModel
def draw(model):
    return model.generate(4, generator=torch.Generator().manual_seed(3))
for folder in sys.argv[1:]:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    images = draw(model)
    torch.save({"images": images, "name": type(model).__name__}, folder + "/result.pt")
    model.save_pretrained(folder + "/again")
    assert torch.equal(draw(AutoModel.from_pretrained(folder + "/again", trust_remote_code=True)), images)
    # A new model of the same kind, whose weights this code alone has to start.
    fresh = AutoModel.from_config(model.config, trust_remote_code=True)
    assert fresh.generator.network.layers[-1].weight.std() < 0.04
    assert all(value.isfinite().all() for value in fresh.state_dict().values())
"""


def tiny(**options):
    torch.manual_seed(0)
    options = {"image_size": 8, "latent_dim": 4, "generator_channels": 8, **options}
    return GANModel(GANConfig(**options))


def trained(**options):
    """A model whose averages, statistics and power iterations have left their initial values."""
    model = tiny(**options).train()
    labels = torch.tensor([0, 1, 0]) if model.config.num_labels else None
    model(torch.rand(3, 1, 8, 8), labels)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.update_ema(0.5)
    model.augmentation_probability.fill_(0.25)
    return model


def assert_same_state(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(("architecture", "generator_norm", "discriminator_norm", "num_labels"), VARIANTS)
def test_a_loaded_model_is_the_saved_one_to_the_bit(
    tmp_path, architecture, generator_norm, discriminator_norm, num_labels
):
    model = trained(
        architecture=architecture,
        generator_norm=generator_norm,
        discriminator_norm=discriminator_norm,
        num_labels=num_labels,
    )
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, GANModel)
    assert_same_state(loaded, model)
    assert loaded.augmentation_probability == 0.25
    assert not any(parameter.requires_grad for parameter in loaded.ema_generator.parameters())
    assert all(parameter.requires_grad for parameter in loaded.discriminator.parameters())


def test_a_loaded_model_trains_on_as_the_saved_one(tmp_path):
    model = trained(discriminator_norm="spectral")
    model.save_pretrained(tmp_path)
    loaded = GANModel.from_pretrained(tmp_path).train()
    pixels, latents = torch.rand(3, 1, 8, 8), torch.randn(3, 4)
    for _ in range(2):
        outputs = [candidate(pixels, latents=latents) for candidate in (model, loaded)]
        # Weights in a memory-mapped file are aligned otherwise, which can round otherwise.
        torch.testing.assert_close(outputs[0].real_logits, outputs[1].real_logits)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())


def test_loading_leaves_the_global_random_state_alone(tmp_path):
    tiny(discriminator_norm="spectral").save_pretrained(tmp_path)
    state = torch.get_rng_state()
    GANModel.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_a_checkpoint_lacks_get_initial_values(tmp_path):
    tiny(discriminator_norm="none").save_pretrained(tmp_path)
    config = GANConfig.from_pretrained(tmp_path, discriminator_norm="spectral")
    model = GANModel.from_pretrained(tmp_path, config=config).train()
    weight = model.discriminator.network.layers[0].parametrizations.weight
    assert weight.original.std().item() == pytest.approx(0.02, rel=0.3)
    for vector in weight[0].buffers():
        assert vector.norm().item() == pytest.approx(1.0)
    assert model(torch.rand(3, 1, 8, 8)).real_logits.isfinite().all()


def test_initialising_a_layer_with_spectral_norm_leaves_what_was_loaded():
    model = trained(discriminator_norm="spectral").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model._init_weights(model.discriminator.network.layers[0])
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("use_ema", [True, False])
def test_the_exported_generator_draws_what_the_model_draws(tmp_path, use_ema):
    model = trained(num_labels=2)
    exported = model.export_generator(use_ema)
    exported.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, GANGeneratorModel)
    assert_same_state(loaded, exported)
    assert loaded.config.id2label == model.config.id2label
    latents = torch.randn(3, 4)
    expected = model.generate(latents=latents, use_ema=use_ema)
    assert torch.equal(loaded.generate(latents=latents), expected)
    assert torch.equal(loaded(latents, torch.tensor([0, 1, 0])).pixel_values, expected)
    a, b = torch.randn(2, 4)
    steps = {"steps": 3, "labels": 1}
    assert torch.equal(loaded.interpolate(a, b, **steps), model.interpolate(a, b, use_ema=use_ema, **steps))


def test_an_exported_generator_holds_no_discriminator_and_shares_no_memory():
    model = trained()
    exported = model.export_generator()
    assert all(name.startswith("generator.") for name in exported.state_dict())
    before = model.ema_generator.state_dict()["network.project.weight"].clone()
    with torch.no_grad():
        exported.generator.network.project.weight.zero_()
    assert torch.equal(model.ema_generator.state_dict()["network.project.weight"], before)


def test_a_shared_model_works_where_this_package_is_missing(tmp_path):
    model = trained(architecture="dcgan", discriminator_norm="spectral", num_labels=2)
    shared = {str(tmp_path / "model"): model, str(tmp_path / "generator"): model.export_generator()}
    for folder, part in shared.items():
        part.save_pretrained(folder)
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, *shared],
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    for folder, part in shared.items():
        saved = torch.load(f"{folder}/result.pt")
        assert saved["name"] == type(part).__name__
        assert torch.equal(saved["images"], part.generate(4, generator=torch.Generator().manual_seed(3)))
