"""What the three families are told: like sizes, the user's options over the defaults, and the same for all where it must be."""

import pytest

from hf_genkit.arguments import ComparisonArguments
from hf_genkit.compare.families import FAMILIES, build, cycle_of, model_options, trained_parameters, training_config
from hf_genkit.data import ImageData, load_data
from hf_genkit.trainers.generative_config import GenerativeConfig


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return ImageData(load_data("digits"))


def config_of(key: str, tmp_path, **options):
    args = ComparisonArguments(**options)
    common = GenerativeConfig(str(tmp_path), use_cpu=True, per_device_train_batch_size=7, bf16=True)
    return args, training_config(FAMILIES[key], args, common, output_dir=str(tmp_path), seed=3, max_steps=5)


@pytest.mark.parametrize("wanted", [60_000, 400_000])
def test_networks_of_all_families_are_of_like_size(digits, tmp_path, wanted):
    for key, family in FAMILIES.items():
        args, config = config_of(key, tmp_path, parameters=wanted)
        options = model_options(family, args, digits, config, 8)
        count = trained_parameters(build(family, options, digits, config, 8)["model"])
        assert 0.7 * wanted < count < 1.4 * wanted, key


def test_a_width_that_the_user_sets_is_kept(digits, tmp_path):
    args, config = config_of("gan", tmp_path, gan={"model_config": {"generator_channels": 12}})
    assert model_options(FAMILIES["gan"], args, digits, config, 8)["generator_channels"] == 12


def test_the_moving_average_is_not_counted_as_trained(digits, tmp_path):
    _, config = config_of("gan", tmp_path)
    model = build(FAMILIES["gan"], {"architecture": "mlp"}, digits, config, 8)["model"]
    own = [*model.generator.parameters(), *model.discriminator.parameters()]
    assert trained_parameters(model) == sum(parameter.numel() for parameter in own)


@pytest.mark.parametrize("key", FAMILIES)
def test_batch_precision_and_seed_are_the_same_for_all(tmp_path, key):
    _, config = config_of(key, tmp_path)
    assert (config.per_device_train_batch_size, config.bf16, config.seed, config.max_steps) == (7, True, 3, 5)
    assert cycle_of(config) == (2 if key == "gan" else 1)


def test_options_of_a_family_win_over_its_defaults(tmp_path):
    _, config = config_of("gan", tmp_path, gan='{"n_critic": 4, "loss_type": "wgan_gp"}')
    assert (config.n_critic, config.loss_type, cycle_of(config)) == (4, "wgan_gp", 5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"vae": {"learning_rat": 1}}, r"option of vae.*did you mean 'learning_rate'"),
        ({"vae": {"max_steps": 5}}, "`vae` sets max_steps, but the comparison decides that"),
        ({"vae": {"per_device_train_batch_size": 5}}, "`vae` sets per_device_train_batch_size"),
    ],
)
def test_options_that_are_unknown_or_would_be_unfair_are_refused(tmp_path, options, expected):
    with pytest.raises(ValueError, match=expected):
        config_of("vae", tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"budget": "soon"}, "`budget` is 'soon'"),
        ({"seeds": [1, 1]}, "`seeds` is"),
        ({"families": ["vae", "gan", "flow"]}, "`families` is 'flow'"),
        ({"num_judged_pictures": 5}, "`num_judged_pictures` is 5"),
        ({"sampling_steps": [0, 5]}, "`sampling_steps` is"),
        ({"feature_extractor": "none"}, "needs features"),
        ({"models": ["a", "a"]}, "names one model twice"),
        ({"task": "image-classification", "models": ["a"]}, "must name two models or more"),
        ({"task": "image-classifications"}, "did you mean 'image-classification'"),
        ({"clock": "sun"}, "`clock` is 'sun'"),
        ({"gan": "{"}, "`gan` is '{', but it must be a JSON object"),
    ],
)
def test_bad_arguments_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        ComparisonArguments(**options)
