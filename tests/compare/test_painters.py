"""Models as functions from noise to pictures: each must draw what its own pipeline draws."""

import pytest
import torch

from hf_genkit.compare.painters import DiffusionPainter, GANPainter, VAEPainter, check_alike, load_painter
from hf_genkit.pipelines import UnconditionalPipeline, make_sampler

from . import tiny


def test_a_diffusion_model_draws_what_its_pipeline_draws_from_the_same_noise():
    own = tiny.pipeline()
    own.scheduler = make_sampler(own.scheduler, "ddim")
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    expected = own(1, seed=5, num_inference_steps=3, output_type="pt").images * 2 - 1
    drawn = DiffusionPainter("x", tiny.pipeline()).paint(noise, steps=3)
    assert torch.allclose(drawn, expected, atol=1e-5)


@pytest.mark.parametrize("number", range(3))
def test_the_same_noise_gives_the_same_pictures_and_other_noise_others(number):
    painter = tiny.painters()[number]
    with torch.no_grad():
        first, again, other = (painter.paint(painter.noise(2, seed), steps=2) for seed in (0, 0, 1))
    assert first.shape == (2, *painter.shape)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_vae_draws_from_the_prior_that_was_fitted_on_its_latents():
    model = tiny.vae()
    model.set_mixture_prior(torch.ones(1), torch.full((1, 3), 7.0), 1e-3 * torch.eye(3)[None])
    noise = VAEPainter("x", model).noise(5, seed=0)
    assert torch.allclose(noise, torch.full((5, 3), 7.0), atol=0.1)


def test_a_gan_draws_with_the_moving_average_of_its_generator():
    model = tiny.gan()
    torch.nn.init.ones_(next(model.generator.parameters()))
    painter = GANPainter("x", model)
    noise = painter.noise(2, seed=0)
    assert torch.equal(painter.paint(noise), model.generate(latents=noise))
    assert not torch.equal(painter.paint(noise), model.generate(latents=noise, use_ema=False))


def test_classes_take_turns():
    painter = DiffusionPainter("x", tiny.pipeline(classes=3))
    assert painter.labels(torch.arange(5)).tolist() == [0, 1, 2, 0, 1]
    assert tiny.painters()[2].labels(torch.arange(5)) is None


def test_the_way_between_noises_stays_on_the_sphere():
    painter = tiny.painters()[2]
    a, b = painter.noise(2, 0).split(1)
    path = painter.between(a, b, torch.linspace(0, 1, 5))
    assert path.shape == (1, 5, 1, 8, 8)
    assert torch.allclose(path[:, 0], a, atol=1e-5)
    assert torch.allclose(path[:, -1], b, atol=1e-5)
    assert path[:, 2].norm() > 0.9 * min(a.norm(), b.norm())  # a straight line would cut to about 0.7


def test_moments_begin_with_noise_and_end_with_the_picture():
    painter = tiny.painters()[2]
    noise = painter.noise(2, 0)
    shown = painter.moments(noise, None, steps=4, count=3)
    assert shown.shape == (2, 3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(shown[:, -1], painter.paint(noise, steps=4))


@pytest.mark.parametrize(
    ("kind", "make"), [(VAEPainter, tiny.vae), (GANPainter, tiny.gan), (DiffusionPainter, tiny.pipeline)]
)
def test_any_family_loads_by_name(tmp_path, kind, make):
    make().save_pretrained(tmp_path / "model")
    painter = load_painter(str(tmp_path / "model"), "cpu")
    assert isinstance(painter, kind)
    assert painter.name == "model"
    assert painter.shape == (1, 8, 8)


def test_a_model_that_draws_from_pictures_is_refused(tmp_path):
    from diffusers import UNet2DModel

    from hf_genkit.pipelines import SuperResolutionPipeline

    unet = UNet2DModel(**{**tiny.UNET, "in_channels": 2})
    SuperResolutionPipeline(unet, tiny.pipeline().scheduler).save_pretrained(tmp_path / "sr")
    with pytest.raises(ValueError, match="is a SuperResolutionPipeline, but models are compared that draw from noise"):
        load_painter(str(tmp_path / "sr"), "cpu")


def test_models_of_another_size_are_refused():
    with pytest.raises(
        ValueError, match=r"'VAE' draws pictures of 1 channels and 8 x 8 pixels, but the real ones have 1 and 28"
    ):
        check_alike(tiny.painters(), (1, 28, 28))
    check_alike(tiny.painters(), (1, 8, 8))


def test_a_stock_pipeline_of_diffusers_is_taken(tmp_path):
    from diffusers import DDPMPipeline

    own = tiny.pipeline()
    DDPMPipeline(own.unet, own.scheduler).save_pretrained(tmp_path / "stock")
    assert isinstance(load_painter(str(tmp_path / "stock"), "cpu").model, UnconditionalPipeline)
