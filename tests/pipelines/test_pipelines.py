"""What the pipelines take, draw and refuse, and how they travel."""

import json
import os
import subprocess
import sys

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from hf_genkit.models.vae import VAEConfig, VAEModel
from hf_genkit.pipelines import (
    ClassConditionalPipeline,
    ImageToImagePipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
)

from .test_samplers import TINY


NAMES = {0: "cat", 1: "dog", 2: "owl"}
FAST = {"seed": 0, "num_inference_steps": 2, "output_type": "pt"}


def unet(**changes):
    torch.manual_seed(0)
    return UNet2DModel(**{**TINY, **changes})


def quiet(kind, *components, scheduler=None, **named):
    made = kind(*components, scheduler or DDIMScheduler(), **named)
    made.set_progress_bar_config(disable=True)
    return made


def by_class(kind=ClassConditionalPipeline, **named):
    return quiet(kind, unet(num_class_embeds=4), id2label=NAMES, **named)


def dit():
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=1, num_layers=1, sample_size=8, num_embeds_ada_norm=3
    )
    for parameter in model.parameters():  # the last layers start at 0, where nothing is told apart
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def text_unet(width=8):
    torch.manual_seed(0)
    changes = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": width}
    changes |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 4}
    return UNet2DConditionModel(**{**TINY, **changes})


def tokenizer(longest=4):
    tokens = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "red": 2, "blue": 3, "<unk>": 4}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    marks = {"pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": longest}
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **marks)


def text_encoder():
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=5, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=4, initializer_range=0.5,
    )  # fmt: skip
    return CLIPTextModel(config)


def from_text(kind=TextToImagePipeline):
    return quiet(kind, text_unet(), text_encoder=text_encoder(), tokenizer=tokenizer())


def autoencoder():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(1, 1, block_out_channels=(8, 8), latent_channels=2, norm_num_groups=4, **blocks)


def own_vae(**changes):
    torch.manual_seed(0)
    config = {"image_size": 16, "latent_dim": 64, "architecture": "mlp", "hidden_sizes": [8], "scaling_factor": 0.5}
    return VAEModel(VAEConfig(**config | changes)).eval()


def latent(kind, **named):
    return quiet(kind, unet(in_channels=2, out_channels=2), vae=autoencoder(), **named)


def pictures(count, size=8):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def grey(image):
    return Image.fromarray(((image[0] + 1) * 127.5).round().byte().numpy(), mode="L")


# ---- Conditions ----


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_is_the_papers_formula_and_free_at_one(scale):
    made = by_class()
    x, t, sizes = pictures(2), torch.tensor(500), []
    with torch.no_grad():
        told, plain = (made.unet(x, t, torch.tensor(labels)).sample for labels in ([0, 2], [3, 3]))
        made.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
        output = made._predict(x, t, scale, made._condition(2, [0, 2], None, scale))
    assert sizes == [2 if scale == 1 else 4]
    assert torch.allclose(output, plain + scale * (told - plain), atol=1e-5)


def test_text_guidance_is_against_the_empty_text():
    made, inputs = from_text(), []
    made.unet.register_forward_pre_hook(
        lambda module, args, kwargs: inputs.append(
            (kwargs["encoder_hidden_states"], kwargs["encoder_attention_mask"])
        ),
        with_kwargs=True,
    )
    red = made("red", guidance_scale=3.0, **FAST).images
    hidden, mask = inputs[0]
    ids = torch.tensor([[1, 0, 0, 0], [1, 2, 0, 0]])
    assert mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    with torch.no_grad():
        expected = made.text_encoder(ids, attention_mask=mask).last_hidden_state
    assert torch.equal(hidden, expected)
    assert not torch.allclose(red, made("blue", guidance_scale=3.0, **FAST).images)
    both = made(["blue", "red"], guidance_scale=3.0, **{**FAST, "seed": [0, 0]}).images
    assert torch.allclose(both[1:], red, atol=1e-5)
    empty = made("", guidance_scale=1.0, **FAST).images
    assert torch.allclose(UnconditionalPipeline.from_pipe(made)(**FAST).images, empty, atol=1e-6)


def test_classes_are_indices_or_names_and_none_is_the_null_class():
    made, seen = by_class(), []
    made.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["class_labels"].tolist()), with_kwargs=True
    )
    named = made(["owl", 0], guidance_scale=1.0, **FAST).images
    assert torch.equal(named, made([2, "cat"], guidance_scale=1.0, **FAST).images)
    assert set(map(tuple, seen)) == {(2, 0)}
    seen.clear()
    made("dog", guidance_scale=2.0, **FAST)
    assert set(map(tuple, seen)) == {(3, 1)}
    seen.clear()
    free = UnconditionalPipeline.from_pipe(made)
    free(2, **FAST)
    assert set(map(tuple, seen)) == {(3, 3)}


def test_a_dit_in_training_mode_drops_no_label():
    made = quiet(ClassConditionalPipeline, dit().train())
    images = [made([0, 1, 2] * 4, guidance_scale=1.0, **{**FAST, "seed": 12 * [0]}).images for _ in range(2)]
    assert torch.equal(*images)
    assert not torch.allclose(images[0][0], images[0][1], atol=1e-3)
    null = UnconditionalPipeline.from_pipe(made)(**FAST).images
    assert all((null - image).abs().max() > 1e-3 for image in images[0][:3])


# ---- Pictures in and out ----


def test_pictures_come_out_as_asked():
    made = quiet(UnconditionalPipeline, unet())
    tensor = made(2, **FAST).images
    images = made(2, **{**FAST, "output_type": "pil"}).images
    assert [(image.mode, image.size) for image in images] == [("L", (8, 8))] * 2
    assert made(2, **{**FAST, "output_type": "np"}).images.shape == (2, 8, 8, 1)
    assert made(2, return_dict=False, **FAST)[0].shape == tensor.shape == (2, 1, 8, 8)
    assert 0 <= tensor.min() <= tensor.max() <= 1
    colour = quiet(UnconditionalPipeline, unet(in_channels=3, out_channels=3))
    assert colour(**{**FAST, "output_type": "pil"}).images[0].mode == "RGB"


@pytest.mark.parametrize("build", [lambda kind: quiet(kind, unet()), by_class, from_text, latent])
def test_inpainting_keeps_the_known_pixels_of_any_model(build):
    made, calls = build(InpaintingPipeline), []
    size = made.image_shape[1]
    image = torch.round((pictures(2, size) + 1) * 127.5) / 127.5 - 1
    mask = torch.zeros(1, 1, size, size)
    mask[..., : size // 2] = 1
    made.unet.register_forward_pre_hook(lambda module, args: calls.append(1))
    options = {**FAST, "num_inference_steps": 4, "jump_length": 2, "num_images_per_image": 2}
    condition = {"class_labels": "dog"} if made.num_classes else {"prompt": "red"} if made.text_encoder else {}
    images = made(image, mask, **condition, **options).images
    assert len(calls) == 4 + 3 * 2 * 1
    known = image.repeat_interleave(2, 0) / 2 + 0.5
    assert torch.equal(images[..., size // 2 :], known[..., size // 2 :])
    assert not torch.allclose(images[0], images[1], atol=1e-2)
    drawn = grey(torch.ones(1, size, size) * (mask[0] * 2 - 1))
    options |= {"output_type": "pil", "num_images_per_image": 1}
    for out, given in zip(made([grey(i) for i in image], drawn, **options).images, image, strict=True):
        right = (size // 2, 0, size, size)
        assert out.crop(right).tobytes() == grey(given).crop(right).tobytes()


def test_a_cell_with_any_masked_pixel_is_repainted():
    made, image = latent(InpaintingPipeline), pictures(1, 16)
    made.scheduler = DDPMScheduler()
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5, 5] = 1
    options = {**FAST, "num_inference_steps": 3, "num_resamples": 1}
    assert not torch.allclose(made(image, mask, **options).images, image / 2 + 0.5)
    assert torch.equal(made(image, 0 * mask, **options).images, image / 2 + 0.5)


@pytest.mark.parametrize("vae", [autoencoder, own_vae])
def test_latents_are_scaled_on_the_way_in_and_out(vae):
    model, own = vae(), vae is own_vae
    channels = 1 if own else 2
    made = quiet(ImageToImagePipeline, unet(in_channels=channels, out_channels=channels), vae=model)
    image = pictures(2, 16)
    with torch.no_grad():
        mean = model.encode(image)[0] if own else model.encode(image).latent_dist.mean
        decoded = model.decode(mean) if own else model.decode(mean).sample
        latents = made._encode(image)
        assert torch.allclose(latents.flatten(), mean.flatten() * model.config.scaling_factor)
        assert torch.allclose(made._decode(latents), decoded, atol=1e-5)
    assert made(image, **FAST).images.shape == (2, 1, 16, 16)


def test_super_resolution_puts_the_small_picture_after_the_noisy_one():
    made, seen = quiet(SuperResolutionPipeline, unet(in_channels=2)), []
    made.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    small = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    made(small, **FAST)
    low = torch.nn.functional.interpolate(small, size=(8, 8), mode="bicubic").clamp(-1, 1)
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], torch.cat([noise, low], dim=1))
    assert torch.equal(seen[1][:, 1:], low)
    assert made(grey(small[0]), **{**FAST, "output_type": "pil"}).images[0].size == (8, 8)


# ---- What is refused ----


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: quiet(UnconditionalPipeline, unet(), scheduler="ddim"), "`scheduler` is a str, not one of diffusers"),
        (lambda: quiet(UnconditionalPipeline, unet(sample_size=None)), "`sample_size` of the UNet2DModel is None"),
        (lambda: quiet(UnconditionalPipeline, unet(in_channels=2)), "takes 2 channels, but a Unc.* gives 1"),
        (lambda: quiet(SuperResolutionPipeline, unet()), "takes 1 channels, but a SuperResolutionPipeline gives 2"),
        (lambda: quiet(TextToImagePipeline, text_unet()), "no text encoder, but a UNet2DConditionModel needs one"),
        (
            lambda: quiet(TextToImagePipeline, unet(), text_encoder=text_encoder(), tokenizer=tokenizer()),
            "a text encoder, but a UNet2DModel takes none",
        ),
        (lambda: quiet(TextToImagePipeline, text_unet(), tokenizer=tokenizer()), "go together, but one of th"),
        (
            lambda: quiet(TextToImagePipeline, text_unet(4), text_encoder=text_encoder(), tokenizer=tokenizer()),
            "`cross_attention_dim` is 4, but the text encoder's width is 8",
        ),
        (
            lambda: quiet(
                TextToImagePipeline, text_unet(), text_encoder=text_encoder(), tokenizer=tokenizer(10**9)
            ),
            "every prompt is padded to it",
        ),
        (lambda: quiet(UnconditionalPipeline, unet(), vae=autoencoder()), "`latent_channels` .* is 2, .* draws 1"),
        (lambda: quiet(UnconditionalPipeline, unet(), vae=own_vae(latent_dim=9)), "`latent_dim` .* is 9, .* draws 64"),
        (lambda: quiet(ClassConditionalPipeline, unet(), id2label=NAMES), "names 3 of the network's 0 classes"),
    ],
)  # fmt: skip
def test_components_that_do_not_fit_are_refused_when_put_together(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_a_vae_without_its_scale_is_refused():
    vae = own_vae()
    del vae.config.scaling_factor
    with pytest.raises(ValueError, match="config of the VAEModel has no `scaling_factor`"):
        quiet(UnconditionalPipeline, unet(), vae=vae)


ONE, MASK = pictures(1), torch.zeros(1, 1, 8, 8)


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (UnconditionalPipeline, {"num_images": 0}, "number of pictures is 0, but"),
        (UnconditionalPipeline, {"batch_size": 0}, "batch size is 0, but"),
        (UnconditionalPipeline, {"num_inference_steps": 0}, "`num_inference_steps` is 0, but it must be from 1"),
        (UnconditionalPipeline, {"num_inference_steps": 1001}, "is 1001, but it must be from 1 to 1000"),
        (UnconditionalPipeline, {"output_type": "latent"}, "`output_type` is 'latent', but not"),
        (UnconditionalPipeline, {"seed": [1, 2]}, "2 seeds or generators, but 1 pictures"),
        (UnconditionalPipeline, {"seed": 1, "generator": torch.Generator()}, "both given"),
        (ClassConditionalPipeline, {}, r"class label is None, .* from 0 to 2 or one of \['cat', 'dog', 'owl'\]"),
        (ClassConditionalPipeline, {"class_labels": "cow"}, r"class label is 'cow', .*\['cat', 'dog', 'owl'\]"),
        (ClassConditionalPipeline, {"class_labels": [0, 3]}, "class label is 3, but it must be from 0 to 2"),
        (ClassConditionalPipeline, {"class_labels": 0, "guidance_scale": -1.0}, r"`guidance_scale` is -1\.0, but"),
        (ImageToImagePipeline, {"image": ONE, "strength": 0}, "`strength` is 0, but it must be above 0"),
        (ImageToImagePipeline, {"image": pictures(1, 4)}, r"`image` has the shape \(1, 1, 4, 4\)"),
        (ImageToImagePipeline, {"image": ONE * 9}, r"values up to .*, but \[-1, 1\] is needed"),
        (ImageToImagePipeline, {"image": ONE, "prompt": "red"}, r"`prompt` is \['red'\], but there is no text"),
        (ImageToImagePipeline, {"image": ONE, "class_labels": [0, 1]}, r"\[0, 1\] are given for 1 pictures"),
        (InpaintingPipeline, {"image": ONE, "mask_image": MASK[..., :4]}, r"`mask_image` has the shape \(1, 1, 8"),
        (InpaintingPipeline, {"image": ONE, "mask_image": MASK, "jump_length": 0}, "`jump_length` is 0, but"),
        (InpaintingPipeline, {"image": ONE, "mask_image": MASK, "num_resamples": 0}, "`num_resamples` is 0, but"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_in_one_sentence(kind, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        by_class(kind)(**arguments)


def test_other_pictures_classes_and_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="is 3x3, but its sides must divide 8x8"):
        quiet(SuperResolutionPipeline, unet(in_channels=2))(pictures(1, 3))
    with pytest.raises(ValueError, match="left out, as the model has no classes"):
        quiet(ClassConditionalPipeline, unet())(0)
    with pytest.raises(ValueError, match="no grid of a picture"):
        quiet(InpaintingPipeline, unet(), vae=own_vae())(pictures(1, 16), torch.zeros(1, 1, 16, 16))


# ---- Saving and loading ----


def test_every_pipeline_loads_what_another_or_a_stock_one_saved(tmp_path):
    DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(tmp_path / "stock")
    assert UnconditionalPipeline.from_pretrained(tmp_path / "stock").num_classes == 0
    from_text().save_pretrained(tmp_path / "text")
    assert InpaintingPipeline.from_pretrained(tmp_path / "text").tokenizer.model_max_length == 4
    made = by_class(scheduler=DDIMScheduler(clip_sample=False))
    made.save_pretrained(tmp_path / "own")
    index = json.loads((tmp_path / "own" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_image_diffusion", "ClassConditionalPipeline"]
    again = ImageToImagePipeline.from_pretrained(tmp_path / "own")
    assert type(again) is ImageToImagePipeline
    assert again.config.id2label == NAMES
    assert torch.equal(ClassConditionalPipeline.from_pipe(again)("owl", **FAST).images, made("owl", **FAST).images)
    with pytest.raises(ValueError, match="safetensors alone"):
        made.save_pretrained(tmp_path / "pickle", safe_serialization=False)


WITHOUT_PACKAGE = """
import sys
sys.modules["hf_genkit"] = None  # an import of it fails
from diffusers import DiffusionPipeline
from transformers import AutoModel
for repo in sys.argv[1:]:
    options = {"trust_remote_code": True}
    made = DiffusionPipeline.from_pretrained(repo, **options)
    try:
        made(2, num_inference_steps=2, output_type="pt")
    except ValueError as error:
        assert f"pass vae=AutoModel.from_pretrained('{repo}', subfolder='vae', trust_remote_code=True)" in str(error)
        vae = AutoModel.from_pretrained(repo, subfolder="vae", **options)
        made = DiffusionPipeline.from_pretrained(repo, vae=vae, **options)
    images = made(2, seed=0, num_inference_steps=2, output_type="pt").images
    print(type(made).__module__.split(".")[0], type(made).__name__, *images.shape, f"{images.sum():.3f}")
"""


def test_local_and_hub_round_trip_with_and_without_the_package(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.write_token)
    made = quiet(UnconditionalPipeline, unet(), vae=own_vae())
    made.save_pretrained(tmp_path / "local")
    made.push_to_hub("latent")
    quiet(UnconditionalPipeline, latent(UnconditionalPipeline).unet, vae=autoencoder()).push_to_hub("stock-vae")
    files = hub.files("tester/latent")
    assert {"model_index.json", "pipeline_image_diffusion.py", "vae/model.safetensors"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    expected = made(2, **FAST).images
    for place in (tmp_path / "local", "tester/latent"):
        assert torch.equal(
            ImageToImagePipeline.from_pretrained(place).vae.decoder.head.weight, made.vae.decoder.head.weight
        )
        assert torch.equal(UnconditionalPipeline.from_pretrained(place)(2, **FAST).images, expected)

    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path / "local"), "tester/latent", "tester/stock-vae"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"diffusers_modules UnconditionalPipeline 2 1 16 16 {expected.sum():.3f}"] * 2
    assert lines[2].startswith("diffusers_modules UnconditionalPipeline 2 1 16 16")
