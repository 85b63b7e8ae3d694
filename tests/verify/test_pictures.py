"""Models that make pictures: what their cards claim of likelihoods and of features is measured again, extractor included."""

import re

import pytest
import torch
from huggingface_hub import HfApi
from transformers import ConvNextConfig, ConvNextForImageClassification

from hf_genkit.data import image_processor_for, load_data
from hf_genkit.hub import read_claims
from hf_genkit.verify import verify_card

from .conftest import train


FEW = (
    "--max_train_samples",
    64,
    "--max_steps",
    4,
    "--eval_strategy",
    "no",
    "--save_strategy",
    "no",
    "--num_judged_pictures",
    24,
)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    """An untrained classifier in a folder."""
    folder = tmp_path_factory.mktemp("models") / "looker"
    torch.manual_seed(0)
    options = {
        "num_channels": 1,
        "image_size": 8,
        "patch_size": 2,
        "num_stages": 2,
        "depths": [1, 1],
        "hidden_sizes": [4, 8],
    }
    ConvNextForImageClassification(ConvNextConfig(**options, num_labels=10)).save_pretrained(folder)
    image_processor_for(1, 8).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vae(extractor, tmp_path_factory):
    out = tmp_path_factory.mktemp("vae") / "out"
    more = ("--binarize", "dynamic", "--latent_prior", "mixture", "--mixture_components", 2, "--seed", 5)
    config = '{"latent_dim": 2, "hidden_sizes": [8]}'
    return train("train_vae", out, *FEW, *more, "--model_config", config, "--feature_extractor", extractor)


def test_likelihoods_and_features_of_a_vae_are_measured_again(push, check, vae, hub, extractor):
    repo = push(vae, "vae")
    assert {"judge/config.json", "judge/model.safetensors", "judge/preprocessor_config.json"} <= set(hub.files(repo))
    assert str(extractor.parent) not in (vae / "README.md").read_text()
    status, shown = check(repo, "--tolerance", "1e-4")
    assert status == 0, shown
    assert re.search(r"Loss .*\nNegative log-likelihood .*\nFD \(looker\) .*\nKID .*\nPrecision .*\nRecall ", shown)
    assert shown.count(" agrees\n") == 8
    HfApi().delete_folder("judge", repo_id=repo)
    status, shown = check(repo)
    assert status == 2
    assert re.search(r"Loss .* agrees\nNegative log-likelihood .* agrees\n\n", shown), (
        "what has no judge is checked still"
    )
    assert "Every figure that was checked agrees." in shown
    assert re.search(r"It can't be checked: FD \(looker\), KID \(looker\), .*: .*judge", shown)


OTHERWISE = {
    "loss": ("binarize: dynamic", "binarize: none"),
    "nll": ("likelihood_samples: 10", "likelihood_samples: 3"),
    "fd_looker": ("seed: 5", "seed: 6"),
    "kid_looker": ("num_judged_pictures: 24", "num_judged_pictures: 12"),
    "density_looker": ("latent_prior: mixture", "latent_prior: normal"),
}


def test_each_argument_of_a_figure_counts(vae, tmp_path):
    """A figure of other arguments is another one: none is written in vain."""
    card = (vae / "README.md").read_text()
    for metric, (argument, other) in OTHERWISE.items():
        before, name, after = card.partition(f"type: {metric}\n")
        assert argument in after.partition("- type:")[0]
        card = before + name + after.replace(argument, other, 1)
    found = {check.metric: check for check in verify_card(str(with_card(vae, tmp_path, card)), use_cpu=True).checks}
    for metric in OTHERWISE:
        assert abs(found[metric].claimed - found[metric].measured) > 1e-3 * abs(found[metric].claimed), metric
    assert found["recall_looker"].agrees


def with_card(model, folder, card: str):
    """The same model under another card."""
    for path in model.iterdir():
        if path.name != "README.md":
            (folder / path.name).symlink_to(path)
    (folder / "README.md").write_text(card)
    return folder


def test_features_of_a_model_that_stays_at_home_are_asked_for(vae, check, extractor, tmp_path):
    card = (vae / "README.md").read_text()
    home = tmp_path / "vae"
    home.mkdir()
    folder = with_card(vae, home, card.replace("        extractor_folder: judge\n", ""))
    status, sentence = check(folder)
    assert status == 2
    assert "judged with features of 'looker', which is not on the Hub: give it with --feature_extractor" in sentence
    assert check(folder, "--feature_extractor", extractor)[0] == 0
    other = tmp_path / "other"
    model = ConvNextForImageClassification.from_pretrained(extractor)
    model.convnext.layernorm.weight.data += 1
    model.save_pretrained(other)
    image_processor_for(1, 8).save_pretrained(other)
    status, sentence = check(folder, "--feature_extractor", other)
    assert status == 2
    assert "is not 'looker', whose features judged the pictures" in sentence


def test_an_extractor_of_the_hub_is_named_with_its_commit(push, hub, check, extractor, tmp_path):
    judge = push(extractor, "judge-of-digits")
    config = '{"architecture": "mlp", "latent_dim": 4, "generator_channels": 8}'
    more = (
        "--model_config",
        config,
        "--feature_extractor",
        judge,
        "--feature_size",
        12,
        "--loss_type",
        "non_saturating",
    )
    out = train("train_gan", tmp_path / "out", *FEW, *more, "--r1_gamma", 0, "--r2_gamma", 0)
    args = read_claims((out / "README.md").read_text())[0].result.args
    assert (args["extractor"], args["extractor_size"]) == (judge, 12)
    assert args["extractor_revision"] == hub.commits(judge)[0].id
    assert not (out / "judge").exists()
    repo = push(out, "gan")
    HfApi().delete_file("config.json", repo_id=judge)  # a later commit changes nothing
    status, shown = check(repo, "--tolerance", "1e-4")
    assert status == 0, shown
    assert "FD (judge-of-digits at 12 px)" in shown


def test_a_diffusion_model_by_class_and_its_few_step_student(push, check, extractor, tmp_path):
    judge = ("--feature_extractor", extractor)
    config = '{"block_out_channels": [8], "layers_per_block": 1, "conditional": true, "norm_num_groups": 4}'
    teacher = train("train_ddpm", tmp_path / "ddpm", *FEW, *judge, "--model_config", config, "--weighting", "min_snr",
                    "--guidance_scale", 2, "--sampler", "ddpm")  # fmt: skip
    status, shown = check(push(teacher, "ddpm"), "--tolerance", "1e-4")
    assert status == 0, shown
    assert shown.count(" agrees\n") == 7
    student = train(
        "distill_ddpm", tmp_path / "few", *FEW, *judge, "--teacher_config", "null", "--teacher_model_name_or_path", teacher,
        "--method", "consistency", "--compared_steps", 1, "--max_steps", 4,
    )  # fmt: skip
    status, shown = check(push(student, "few"), "--tolerance", "1e-4")
    assert status == 0, shown
    assert shown.count(" agrees\n") == 6
    assert "Not checked: Loss: it compares the student with networks of its training, which are not published" in shown


CAPTIONED = {
    "--model_config": '{"block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4}',
    "--text_encoder_config": '{"hidden_size": 16, "num_hidden_layers": 1}',
    "--guidance_scale": 2,
}


@pytest.fixture(scope="module")
def captioned(extractor, tmp_path_factory):
    """A model that draws by captions made of class names."""
    words = [word for pair in CAPTIONED.items() for word in pair]
    out = tmp_path_factory.mktemp("captions") / "out"
    return train(
        "train_ddpm", out, *FEW, "--feature_extractor", extractor, *words, "--caption_template", "the digit {label}"
    )


def test_pictures_drawn_by_captions_are_measured_row_by_row(push, check, edit_card, captioned):
    repo = push(captioned, "captions")
    status, shown = check(repo, "--tolerance", "1e-4")
    assert status == 0, shown
    assert shown.count(" agrees\n") == 7
    edit_card(repo, r"(type: kid_looker\n      value:) [\d.]+", r"\1 0.001")
    status, shown = check(repo)
    assert status == 1
    assert shown.rstrip().endswith("Not as claimed: KID (looker).")


def test_other_captions_give_other_figures(check, captioned, edited):
    other = edited(captioned, "caption_template: the digit {label}", "caption_template: '{label}'")
    status, shown = check(other, "--tolerance", "1e-5")
    assert status == 1
    assert "Not as claimed: Loss" in shown


def test_captions_of_a_column(check, tmp_path):
    data = load_data("digits", max_train_samples=64, max_eval_samples=50)
    data = data.map(lambda row: {"said": f"a {row['label']}"}).remove_columns("label")
    data.save_to_disk(str(tmp_path / "said"))
    words = [word for pair in CAPTIONED.items() for word in pair]
    words += ["--dataset_name", tmp_path / "said", "--caption_column", "said", "--feature_extractor", "none"]
    out = train("train_ddpm", tmp_path / "out", *FEW, *words)
    status, shown = check(out, "--dataset_name", tmp_path / "said", "--tolerance", "1e-5")
    assert status == 0, shown
    assert re.search(r"Loss .* agrees\n\n", shown)


def test_an_adapter_of_a_pipeline_is_measured_on_its_base_at_the_recorded_revision(
    push, check, hub, captioned, tmp_path
):
    base = push(captioned, "base")
    revision = hub.commits(base)[0].id
    words = ("--model_config", "null", "--model_name_or_path", base, "--model_revision", revision, "--lora_rank", 2)
    more = ("--caption_template", "the digit {label}", "--learning_rate", "0.1", "--feature_extractor", "none")
    adapter = push(train("train_ddpm", tmp_path / "out", *FEW, *words, *more), "adapter")
    HfApi().delete_file("unet/config.json", repo_id=base)  # a later commit changes nothing
    status, shown = check(adapter, "--tolerance", "1e-5")
    assert status == 0, shown
    assert re.search(r"Loss .* agrees\n\n", shown)
