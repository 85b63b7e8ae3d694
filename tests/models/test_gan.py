"""GAN models: what a trainer, a loader and a person who draws pictures rely on."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from hf_genkit.losses.gan_regularizers import gradient_penalty, r1_penalty, r2_penalty
from hf_genkit.models.gan import GANConfig, GANGeneratorConfig, GANModel


ARCHITECTURES = ["mlp", "dcgan", "resnet", "r3gan"]


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    options = {"image_size": 8, "latent_dim": 4, "architecture": "dcgan", "generator_channels": 8, **options}
    return GANModel(GANConfig(**options))


def pictures(count=3, channels=1, size=8):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(7)) * 2 - 1


def latents(count=3):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(8))


def touched(module: nn.Module) -> bool:
    return any(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


# ---- Configuration ----


@pytest.mark.parametrize("size", [8, 10, 28, 32, 48, 64, 96, 128])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_start_from_four_to_seven_pixels(architecture, size):
    config = GANConfig(image_size=size, architecture=architecture)
    assert 4 <= config.base_size <= 7
    assert config.base_size * 2**config.num_halvings == size


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_draws_and_scores_pictures_of_each_size(architecture, size):
    model = tiny(architecture=architecture, image_size=size, num_channels=3)
    output = model(pictures(2, 3, size), latents=latents(2))
    assert output.fake_pixels.shape == (2, 3, size, size)
    assert output.real_logits.shape == output.fake_logits.shape == (2,)


def test_the_mlp_takes_any_size():
    assert tiny(architecture="mlp", image_size=9).generate(2).shape == (2, 1, 9, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 30}, "`image_size` is 30, .* dcgan .* closest is 28"),
        ({"image_size": 4}, "`image_size` is 4, .* closest is 8"),
        ({"image_size": 0}, "`image_size` is 0"),
        ({"image_size": 9, "architecture": "resnet"}, "`image_size` is 9"),
        ({"latent_dim": 0}, "`latent_dim` is 0"),
        ({"latent_dim": 2.5}, "latent_dim"),
        ({"num_channels": -1}, "`num_channels` is -1"),
        ({"num_labels": -1}, "`num_labels` is -1"),
        ({"architecture": "dcgna"}, "'dcgna', .* mlp, dcgan, resnet, r3gan .*did you mean 'dcgan'"),
        ({"discriminator_norm": "spectrl"}, "'spectrl', .* for the dcgan architecture .*did you mean 'spectral'"),
        ({"architecture": "r3gan", "discriminator_norm": "spectral"}, "must be one of none for the r3gan"),
        ({"architecture": "r3gan", "generator_channels": 12}, "`generator_channels` is 12, .* multiple of 8"),
        ({"discriminator_channels": 0}, "`discriminator_channels` is 0"),
    ],
)
def test_bad_configurations_are_refused_in_one_sentence(options, message):
    with pytest.raises(Exception, match=message):
        GANConfig(**options)


@pytest.mark.parametrize("num_labels", [0, 1, 2, 10])
def test_the_number_of_labels_survives_saving(tmp_path, num_labels):
    config = GANConfig(image_size=8, num_labels=num_labels)
    assert config.num_labels == len(config.id2label) == num_labels
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.num_labels == num_labels
    assert loaded.to_diff_dict() == config.to_diff_dict()


def test_label_names_give_their_number_and_survive_saving(tmp_path):
    GANConfig(image_size=8, id2label={0: "shirt", 1: "shoe"}).save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.num_labels == 2
    assert loaded.id2label == {0: "shirt", 1: "shoe"}
    assert loaded.label2id == {"shirt": 0, "shoe": 1}


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    tiny().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'genkit_gan', but GANGeneratorConfig needs 'genkit_gan_generator'"):
        GANGeneratorConfig.from_pretrained(tmp_path)


# ---- The two phases ----


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_phase_trains_its_own_network_alone(architecture):
    model = tiny(architecture=architecture)
    output = model(pictures(), phase="discriminator")
    (output.fake_logits - output.real_logits).sum().backward()
    assert touched(model.discriminator)
    assert not touched(model.generator)
    model.zero_grad()
    model.discriminator.requires_grad_(False)
    output = model(pictures(), phase="generator")
    assert not output.real_logits.requires_grad
    output.fake_logits.sum().backward()
    assert touched(model.generator)
    assert not touched(model.discriminator)
    assert not touched(model.ema_generator)


@pytest.mark.parametrize("norm", ["none", "spectral"])
@pytest.mark.parametrize("num_labels", [0, 3])
def test_real_and_generated_pictures_scored_as_one_batch_score_as_if_alone(norm, num_labels):
    model = tiny(discriminator_norm=norm, num_labels=num_labels).eval()
    labels = torch.tensor([2, 0, 1])
    output = model(pictures(), labels, latents())
    torch.testing.assert_close(output.real_logits, model.discriminator(pictures(), labels))
    torch.testing.assert_close(output.fake_logits, model.discriminator(output.fake_pixels, labels))
    apart = model(pictures(), labels, latents(), differentiable_inputs=True)
    torch.testing.assert_close(apart.real_logits, output.real_logits)
    torch.testing.assert_close(apart.fake_logits, output.fake_logits)


def test_batch_statistics_do_not_mix_real_with_generated_pictures():
    model = tiny(discriminator_norm="batch", architecture="mlp")
    output = model(pictures(), latents=latents())
    torch.testing.assert_close(output.real_logits, model.discriminator(pictures()))


def test_spectral_norm_meets_all_batches_of_a_step_with_the_same_weights():
    model = tiny(discriminator_norm="spectral")
    same = {"real": pictures(), "fake": pictures(), "mixed": pictures()}
    output = model(
        pictures(),
        latents=latents(),
        mix=torch.rand(3),
        differentiable_inputs=True,
        augment=lambda pixels, which: pixels * 0 + same[which],
    )
    assert torch.equal(output.real_logits, output.fake_logits)
    assert torch.equal(output.real_logits, output.mixed_logits)


def test_mixed_pictures_lie_where_the_draws_say():
    mix = torch.tensor([0.0, 0.25, 1.0])
    output = tiny()(pictures(), latents=latents(), mix=mix)
    expected = pictures() + mix[:, None, None, None] * (output.fake_pixels - pictures())
    torch.testing.assert_close(output.mixed_pixels, expected)


def test_pictures_that_are_differentiated_are_leaves_that_a_distributed_wrapper_returns_as_they_are():
    output = tiny()(pictures(), mix=torch.rand(3), differentiable_inputs=True)
    for pixels in (output.real_pixels, output.fake_pixels, output.mixed_pixels):
        assert pixels.is_leaf
        assert pixels.requires_grad


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_penalties_train_the_discriminator_through_the_augmentation(architecture):
    model = tiny(architecture=architecture)
    output = model(
        pictures(),
        latents=latents(),
        mix=torch.rand(3),
        differentiable_inputs=True,
        augment=lambda pixels, which: 3 * pixels,
    )
    penalty = r1_penalty(output.real_logits, output.real_pixels) + r2_penalty(output.fake_logits, output.fake_pixels)
    (penalty + gradient_penalty(output.mixed_logits, output.mixed_pixels)).sum().backward()
    assert touched(model.discriminator)
    assert not touched(model.generator)
    # The gradient is that of the pictures before augmentation: three times that of those after.
    augmented = (3 * pictures()).requires_grad_()
    model.eval()
    after = r1_penalty(model.discriminator(augmented), augmented)
    output = model(pictures(), latents=latents(), differentiable_inputs=True, augment=lambda pixels, which: 3 * pixels)
    torch.testing.assert_close(r1_penalty(output.real_logits, output.real_pixels), 9 * after)


def test_scores_that_are_penalised_leave_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert tiny()(pictures()).real_logits.dtype == torch.bfloat16
        output = tiny()(pictures(), mix=torch.rand(3), differentiable_inputs=True)
    assert {output.real_logits.dtype, output.fake_logits.dtype, output.mixed_logits.dtype} == {torch.float32}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_change_pictures_and_scores(architecture):
    model = tiny(architecture=architecture, num_labels=3).eval()
    first, second = (model(pictures(), torch.full((3,), label), latents()) for label in (0, 2))
    assert not torch.allclose(first.fake_pixels, second.fake_pixels)
    assert not torch.allclose(first.real_logits, second.real_logits)


def test_an_unconditional_model_ignores_the_labels_of_a_data_set():
    model = tiny().eval()
    with_labels = model(pictures(), torch.tensor([0, 1, 9]), latents())
    assert torch.equal(with_labels.real_logits, model(pictures(), latents=latents()).real_logits)


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({}, {"pixel_values": pictures(size=16)}, r"\(3, 1, 16, 16\), but the model takes \[B, 1, 8, 8\]"),
        ({}, {"pixel_values": pictures(channels=3)}, r"takes \[B, 1, 8, 8\]"),
        ({}, {"phase": "discriminator"}, "needs `pixel_values`"),
        ({}, {"phase": "generator"}, "needs `latents`"),
        ({}, {"pixel_values": pictures(), "phase": "genrator"}, "'genrator', .*did you mean 'generator'"),
        ({}, {"latents": torch.zeros(2, 5), "phase": "generator"}, r"\(2, 5\), but the model takes \[B, 4\]"),
        ({"num_labels": 3}, {"pixel_values": pictures()}, "3 classes, so it needs `labels`"),
    ],
)
def test_bad_inputs_are_refused_in_one_sentence(options, inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)(**inputs)


# ---- Moving average ----


def test_a_new_models_average_is_its_generator_and_never_trained():
    model = tiny()
    for name, value in model.generator.state_dict().items():
        assert torch.equal(model.ema_generator.state_dict()[name], value)
    assert not any(parameter.requires_grad for parameter in model.ema_generator.parameters())
    assert all(parameter.requires_grad for parameter in model.discriminator.parameters())


def test_the_average_follows_parameters_and_buffers():
    model = tiny(generator_norm="batch")
    before = {name: value.clone() for name, value in model.ema_generator.state_dict().items()}
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.add_(1)
    model(pictures(), phase="generator")  # moves the batch norms' statistics
    model.update_ema(0.75)
    current = model.generator.state_dict()
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(not torch.equal(before[name], current[name]) for name in statistics)
    for name, value in model.ema_generator.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * current[name])
        else:
            assert torch.equal(value, current[name])


# ---- Initial weights ----


def test_dcgan_starts_as_its_paper_says():
    model = tiny(generator_channels=32, discriminator_norm="none")
    assert model.discriminator.network.layers[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.generator.network.layers[0].weight.eq(1).all()


def test_r3gan_blocks_start_as_the_identity():
    block = tiny(architecture="r3gan").generator.network.layers[0]
    hidden = torch.randn(2, 16, 4, 4)
    assert torch.equal(block(hidden), hidden)
    assert not torch.equal(block.expand.weight, torch.zeros(()))


@pytest.mark.parametrize("architecture", ["mlp", "dcgan", "resnet"])
def test_spectral_norm_starts_near_the_largest_singular_value(architecture):
    model = tiny(architecture=architecture, discriminator_norm="spectral", generator_channels=16).eval()
    normalised = [module for module in model.discriminator.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    for module in normalised:
        # It is estimated from below by a few power iterations.
        assert 0.99 <= torch.linalg.matrix_norm(module.weight.flatten(1), ord=2).item() <= 1.25


def test_r3gan_upsampling_is_bilinear():
    from hf_genkit.models.gan.r3gan_gan import BilinearUpsample

    hidden = torch.randn(2, 3, 5, 5)
    expected = nn.functional.interpolate(hidden, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(BilinearUpsample()(hidden), expected)


def test_auto_classes_know_both_models():
    assert isinstance(AutoModel.from_config(GANConfig(image_size=8)), GANModel)
    assert AutoConfig.for_model("genkit_gan_generator").model_type == "genkit_gan_generator"


def test_a_misspelt_field_is_refused():
    """transformers takes any keyword in silence."""
    with pytest.raises(ValueError, match="GANConfig has no field 'latent_dims'; did you mean 'latent_dim'"):
        GANConfig(latent_dims=7)
    with pytest.raises(ValueError, match="`latent_dim` is True"):
        GANConfig(latent_dim=True)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [(torch.full((2, 1, 8, 8), 200.0), "reach 200"), (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "torch.uint8")],
)
def test_pixels_out_of_range_are_refused(pixels, message):
    model = GANModel(GANConfig(image_size=8, architecture="mlp", generator_channels=8))
    with pytest.raises(ValueError, match=message):
        model(pixels, phase="discriminator")
