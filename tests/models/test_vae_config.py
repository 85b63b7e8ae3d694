"""VAEConfig: what it refuses, and that it comes back from a file as it was."""

import re

import pytest

from hf_genkit.models.vae import VAEConfig, VAEModel


def test_round_trip_keeps_every_field(tmp_path):
    fields = {
        "image_size": 32, "num_channels": 3, "latent_dim": 5, "architecture": "mlp", "hidden_sizes": [7, 6], "gated": True,
        "likelihood": "gaussian", "sigma": "fixed", "sigma_value": 0.5, "sigma_min": 0.01, "objective": "iwae", "beta": 2.0,
        "num_importance_samples": 4, "mmd_weight": 3.0, "dataset_size": 100, "anomaly_kind": "elbo",
        "anomaly_threshold": 1.5, "mixture_components": 2, "second_stage": {"latent_dim": 5, "hidden_sizes": [8]},
    }  # fmt: skip
    VAEConfig(**fields).save_pretrained(tmp_path)
    loaded = VAEConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in fields} == fields
    assert fields.items() <= loaded.to_diff_dict().items()


def test_defaults_of_one_config_are_not_shared_with_another():
    first, second = VAEConfig(), VAEConfig()
    first.hidden_sizes.append(1)
    assert second.hidden_sizes == [32, 64]


@pytest.mark.parametrize(
    ("image_size", "stages"),
    [(8, [32]), (28, [32, 64]), (32, [32, 64, 128]), (64, [32, 64, 128, 256]), (128, [32, 64, 128, 256, 256])],
)
def test_a_convolutional_network_halves_to_four_pixels_or_an_odd_size(image_size, stages):
    assert VAEConfig(image_size=image_size).hidden_sizes == stages


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"latent_dim": 0}, "`latent_dim` is 0, but it must be an integer of 1 or more."),
        ({"latent_dim": 2.5}, "`latent_dim` is 2.5, but it must be an integer of 1 or more."),
        ({"num_channels": True}, "`num_channels` is True, but"),
        ({"image_size": 27}, "`image_size` is 27, but a 'conv' network takes even sizes of 8 or more"),
        ({"image_size": 28, "hidden_sizes": [8, 8, 8]}, "with 3 stages takes multiples of 8"),
        ({"hidden_sizes": []}, "`hidden_sizes` is [], but it must be a list of one or more integers above 0."),
        ({"hidden_sizes": [8, 0]}, "`hidden_sizes` is [8, 0], but"),
        ({"architecture": "cnv"}, "Did you mean 'conv'?"),
        ({"likelihood": "gausian"}, "Did you mean 'gaussian'?"),
        ({"objective": "beta-tc"}, "Did you mean 'beta_tc'?"),
        ({"sigma": "optimum"}, "Did you mean 'optimal'?"),
        ({"anomaly_kind": "likelyhood"}, "Did you mean 'likelihood'?"),
        ({"latent_dims": 3}, "VAEConfig has no field 'latent_dims'; did you mean 'latent_dim'?"),
        ({"beta": -1.0}, "`beta` is -1.0, but it must be a number of 0 or more."),
        ({"beta": float("nan")}, "`beta` is nan, but it must be a number of 0 or more."),
        ({"beta": "1"}, "`beta` is '1', but it must be a number of 0 or more."),
        ({"sigma_value": 0}, "`sigma_value` is 0, but it must be a number above 0."),
        ({"gated": True}, "only architecture 'mlp' has gated layers"),
        ({"gated": "yes"}, "`gated` is 'yes', but it must be True or False."),
        ({"bounded": False}, "likelihood 'bernoulli' is for pictures in [-1, 1]"),
        ({"num_importance_samples": 5}, "objective 'elbo' takes one sample; use 'iwae'"),
        ({"free_bits": 0.1, "objective": "iwae"}, "objective 'iwae' has none; use 'elbo'"),
        ({"free_bits": 0.1, "capacity": 5.0}, "set one of them"),
        ({"anomaly_threshold": "high"}, "`anomaly_threshold` is 'high', but it must be a number."),
        ({"mixture_components": 0}, "`mixture_components` is 0, but"),
        (
            {"second_stage": {"num_channels": 3}},
            "`second_stage` has num_channels=3, but a VAE of these latents has 16.",
        ),
        ({"second_stage": {"latent_dim": 0}}, "`latent_dim` is 0"),
        ({"second_stage": {"second_stage": {}}}, "there can only be two"),
    ],
)
def test_a_wrong_field_is_one_clear_sentence(fields, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        VAEConfig(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("image_size", [8, 28, 32, 64])
@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("architecture", ["conv", "mlp"])
def test_pictures_come_back_in_their_size(image_size, num_channels, architecture):
    config = VAEConfig(image_size=image_size, num_channels=num_channels, architecture=architecture, latent_dim=3)
    assert VAEModel(config).sample(2).shape == (2, num_channels, image_size, image_size)
