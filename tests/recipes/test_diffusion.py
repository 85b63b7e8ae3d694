"""train_ddpm.py in all its uses and sample.py with all it can load, as people run them, with the smallest models."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from diffusers import AutoencoderKL, DDPMPipeline, DiffusionPipeline
from PIL import Image

from hf_genkit.hub import check_model_card
from hf_genkit.pipelines import ClassConditionalPipeline, SuperResolutionPipeline, TextToImagePipeline

from .launching import REPOSITORY


def run(recipe: str, *words: object) -> None:
    """A recipe in this process."""
    script = REPOSITORY / "recipes" / f"{recipe}.py"
    sys.argv = [str(script), *map(str, words)]
    runpy.run_path(str(script), run_name="__main__")


@pytest.fixture(autouse=True)
def _arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", [])


def train(recipe: str, out: Path, *words: object) -> Path:
    debug = REPOSITORY / "recipes" / recipe / "debug.yaml"
    run(recipe, "--config", debug, "--output_dir", out, "--max_steps", 4, "--feature_extractor", "none", *words)
    return out


@pytest.fixture(scope="module")
def by_class(tmp_path_factory):
    return train("train_ddpm", tmp_path_factory.mktemp("class") / "digits-ddpm")


NETWORK = '{"block_out_channels": [8, 16], "layers_per_block": 1}'


def snippet_of(folder: Path) -> str:
    card = (folder / "README.md").read_text()
    check_model_card(card)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return snippet


# ---- Training ----


def test_an_unconditional_model_is_drawn_by_stock_diffusers(tmp_path, monkeypatch):
    out = train("train_ddpm", tmp_path / "plain", "--model_config", NETWORK)
    assert type(DiffusionPipeline.from_pretrained(out)) is DDPMPipeline
    snippet = snippet_of(out)
    assert "trust_remote_code" not in snippet
    assert "hf_genkit" not in snippet
    monkeypatch.chdir(out)
    exec(snippet, {})
    assert Image.open("picture.png").size == (8, 8)


def test_captions_made_of_class_names(tmp_path, monkeypatch):
    words = ["--model_config", NETWORK, "--text_encoder_config", '{"hidden_size": 16, "num_hidden_layers": 1}']
    out = train("train_ddpm", tmp_path / "text", *words, "--caption_template", "the digit {label}")
    pipeline = TextToImagePipeline.from_pretrained(out)
    assert {"digit", "7"} <= set(pipeline.tokenizer.get_vocab())
    assert "text-to-image" in (out / "README.md").read_text()
    monkeypatch.chdir(out)
    exec(snippet_of(out), {})
    run(
        "sample",
        "--model_name_or_path",
        out,
        "--prompts",
        "the digit 7",
        "--num_images",
        2,
        "--output_dir",
        tmp_path / "s",
    )
    assert Image.open(tmp_path / "s" / "00001.png").size == (8, 8)


def test_enlarging_tells_its_psnr_beside_bicubic(tmp_path, monkeypatch):
    out = train("train_ddpm", tmp_path / "sr", "--model_config", NETWORK, "--super_resolution_factor", 2)
    metrics = json.loads((out / "results.json").read_text())["metrics"]
    assert metrics["psnr_bicubic"] > 10
    assert metrics["psnr"] > 0
    assert (out / "super_resolution.png").is_file()
    assert "the very ones they were reduced from" in (out / "README.md").read_text()
    monkeypatch.chdir(out)
    exec(snippet_of(out), {})
    assert Image.open("picture.png").size == (8, 8)
    assert isinstance(SuperResolutionPipeline.from_pretrained(out), SuperResolutionPipeline)
    small = tmp_path / "small.png"
    Image.new("L", (4, 4), 99).save(small)
    run(
        "sample", "--model_name_or_path", out, "--init_image", small, "--num_images", 1, "--output_dir", tmp_path / "s"
    )
    assert Image.open(tmp_path / "s" / "00000.png").size == (8, 8)


@pytest.mark.parametrize("kind", ["own", "kl"])
def test_latents_of_either_autoencoder(tmp_path, monkeypatch, kind):
    encoder = tmp_path / "encoder"
    if kind == "own":
        train(
            "train_vae",
            encoder,
            "--model_config",
            '{"latent_dim": 16, "hidden_sizes": [8]}',
            "--likelihood_samples",
            0,
        )
    else:
        AutoencoderKL(
            in_channels=1, out_channels=1, block_out_channels=(4, 8), layers_per_block=1, latent_channels=2,
            norm_num_groups=2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ).save_pretrained(encoder)  # fmt: skip
    out = train(
        "train_ddpm",
        tmp_path / "latent",
        "--vae_name_or_path",
        encoder,
        "--model_config",
        '{"block_out_channels": [8]}',
    )
    shown = json.loads((out / "vae" / "config.json").read_text())
    assert shown["scaling_factor"] not in (1.0, 0.18215)
    monkeypatch.chdir(out)
    exec(snippet_of(out), {})
    assert Image.open("picture.png").size == (8, 8)


def test_a_dit_is_trained_too(tmp_path):
    config = '{"_class_name": "DiTTransformer2DModel", "num_layers": 1, "num_attention_heads": 2, "conditional": true}'
    out = train("train_ddpm", tmp_path / "dit", "--model_config", config, "--prediction_type", "flow")
    assert ClassConditionalPipeline.from_pretrained(out)("3", num_inference_steps=2).images[0].size == (8, 8)


def test_an_adapter_is_trained_on_a_pipeline_and_drawn_with(by_class, tmp_path):
    words = ["--model_config", "null", "--model_name_or_path", by_class, "--lora_rank", 2, "--prediction_type", "v"]
    out = train("train_ddpm", tmp_path / "adapter", *words)
    assert (out / "adapter_model.safetensors").is_file()
    assert not (out / "unet").exists()
    check_model_card((out / "README.md").read_text())
    run(
        "sample", "--model_name_or_path", by_class, "--adapter", out, "--num_images", 3, "--num_inference_steps", 2,
        "--output_dir", tmp_path / "s",
    )  # fmt: skip
    assert len(list((tmp_path / "s").glob("0*.png"))) == 3


def test_a_pipeline_is_trained_further(by_class, tmp_path):
    words = ["--model_config", "null", "--model_name_or_path", by_class, "--prediction_type", "v"]
    out = train("train_ddpm", tmp_path / "further", *words, "--learning_rate", 0)
    files = [folder / "unet" / "diffusion_pytorch_model.safetensors" for folder in (by_class, out)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_result_is_pushed_in_one_commit_and_sampled_from_the_hub(hub, tmp_path, monkeypatch):
    words = ["--push_to_hub", "--hub_model_id", "digits-ddpm", "--hub_token", hub.write_token, "--save_strategy", "no"]
    train("train_ddpm", tmp_path / "out", *words)
    files = hub.files("tester/digits-ddpm")
    assert {"README.md", "model_index.json", "samples.png", "noising.png", "denoising.png", "scheduler/scheduler_config.json",
            "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "pipeline_image_diffusion.py"} <= set(files)  # fmt: skip
    assert not [name for name in files if "training_weights" in name or "optimizer" in name]
    assert len(hub.commits("tester/digits-ddpm")) == 2, "the Hub's own initial commit, and ours"
    check_model_card(files["README.md"].decode())
    loaded = DiffusionPipeline.from_pretrained("tester/digits-ddpm", trust_remote_code=True)
    assert loaded(["3"], num_inference_steps=2, seed=0).images[0].size == (8, 8)
    run(
        "sample",
        "--model_name_or_path",
        "tester/digits-ddpm",
        "--num_inference_steps",
        2,
        "--output_dir",
        tmp_path / "s",
    )
    assert Image.open(tmp_path / "s" / "grid.png").size[0] > 100


# ---- Sampling ----


def sample(by_class, out, *words) -> np.ndarray:
    """The pictures that were drawn, by their file names."""
    run("sample", "--model_name_or_path", by_class, "--output_dir", out, "--num_inference_steps", 3, *words)
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in sorted(out.glob("0*.png"))]).astype(int)


def test_a_picture_belongs_to_its_seed_whatever_the_batch(by_class, tmp_path):
    together = sample(by_class, tmp_path / "a", "--class_labels", "3", "--num_images", 5)
    apart = sample(by_class, tmp_path / "b", "--class_labels", "3", "--num_images", 4, "--seed", 1, "--batch_size", 2)
    assert abs(together[1:] - apart).max() <= 1
    assert abs(together[0] - together[1]).max() > 20


def test_speed_options_and_samplers_draw_much_the_same(by_class, tmp_path):
    plain = sample(by_class, tmp_path / "a", "--num_images", 4)
    fast = sample(by_class, tmp_path / "b", "--num_images", 4, "--dtype", "bfloat16", "--channels_last", "true")
    assert abs(plain - fast).mean() < 4
    for sampler in ("ddpm", "dpm++", "unipc"):
        assert sample(by_class, tmp_path / sampler, "--num_images", 2, "--sampler", sampler).shape == (2, 8, 8)


def test_mending_keeps_what_is_not_masked_and_changing_keeps_a_part(by_class, tmp_path):
    image, mask = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4, np.zeros((8, 8), dtype=np.uint8)
    mask[4:] = 255
    for name, pixels in (("image", image), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    words = ["--init_image", tmp_path / "image.png", "--num_images", 2]
    mended = sample(by_class, tmp_path / "mended", *words, "--mask_image", tmp_path / "mask.png")
    assert abs(mended[:, :4] - image[:4]).max() <= 1
    assert abs(mended[0, 4:] - mended[1, 4:]).max() > 10
    changed = sample(by_class, tmp_path / "changed", *words, "--strength", 0.34)
    assert changed.shape == (2, 8, 8)


def test_vaes_and_gans_are_drawn_from_by_seed(tmp_path):
    vae = train("train_vae", tmp_path / "vae", "--likelihood_samples", 0)
    gan = train("train_gan", tmp_path / "gan", "--model_config", '{"architecture": "mlp", "conditional": true}')
    for model in (vae, gan):
        together = sample(model, tmp_path / f"{model.name}-a", "--num_images", 4)
        apart = sample(model, tmp_path / f"{model.name}-b", "--num_images", 2, "--seed", 2)
        if model is vae:
            assert abs(together[2:] - apart).max() <= 1
    labelled = sample(gan, tmp_path / "labelled", "--class_labels", 2, 3, "--num_images", 4)
    assert labelled.shape == (4, 8, 8)


# ---- What they refuse ----


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model_config", '{"block_out_channels": [8, 8, 8, 8, 8]}'], "can be halved 3 times only"),
        (["--model_config", '{"layer_per_block": 1}'], "(did you mean 'layers_per_block'?)"),
        (["--model_config", '{"in_channels": 3}'], "`model_config` sets in_channels to 3, but the data have 1"),
        (["--model_config", '{"_class_name": "UNet3D"}'], "`_class_name` is 'UNet3D'"),
        (["--image_size", "9"], "a side of 9 pixels can be halved 0 times only"),
        (["--prediction_type", "noise"], "`prediction_type` is 'noise'"),
        (["--zero_terminal_snr", "true", "--prediction_type", "epsilon"], "`zero_terminal_snr` is true"),
        (["--num_inference_steps", "2000"], "`num_inference_steps` is 2000, but the schedule has 1000 steps only"),
        (["--sampler", "eular"], "'eular'"),
        (["--super_resolution_factor", "3", "--model_config", "null"], "it doesn't divide images of 8 pixels"),
        (["--lora_rank", "4"], "there is no `model_name_or_path` to adapt"),
        (["--text_encoder_config", "{}"], "a model draws by one of them"),
        (["--caption_template", "a picture"], "must contain {label}"),
        (["--vae_name_or_path", "./nowhere"], "nowhere"),
        (["--streaming", "true"], "`streaming` is true"),
        (["--push_to_hub"], "needs an access token"),
    ],
)
def test_bad_input_of_training(refusal, tmp_path, words, expected):
    assert expected in refusal("train_ddpm", "--output_dir", tmp_path / "out", *words)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--class_labels", "12"], "A class label is 12, but it must be from 0 to 9 or one of"),
        (["--class_labels", "eight"], "A class label is 'eight'"),
        (["--prompts", "a digit"], "there is no text encoder"),
        (["--num_inference_steps", "5000"], "`num_inference_steps` is 5000, but it must be from 1 to 1000"),
        (["--sampler", "euler"], "ddpm, ddim, dpm++, unipc"),
        (["--mask_image", "mask.png"], "there is no `init_image` that it masks"),
        (["--init_image", "nowhere.png"], "`init_image` is 'nowhere.png', but there is no such file"),
        (["--dtype", "float8"], "`dtype` is 'float8'"),
        (["--model_name_or_path", "./nowhere"], "'./nowhere' is no diffusion pipeline, VAE or GAN"),
    ],
)
def test_bad_input_of_sampling(by_class, refusal, tmp_path, words, expected):
    model = [] if "--model_name_or_path" in words else ["--model_name_or_path", by_class]
    assert expected in refusal("sample", *model, "--output_dir", tmp_path, *words)


def test_a_mask_of_another_size(by_class, refusal, tmp_path):
    for name, side in (("image", 8), ("mask", 6)):
        Image.new("L", (side, side), 255).save(tmp_path / f"{name}.png")
    words = ["--init_image", tmp_path / "image.png", "--mask_image", tmp_path / "mask.png"]
    assert "`mask_image` has the shape" in refusal("sample", "--model_name_or_path", by_class, *words)
