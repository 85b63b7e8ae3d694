import gradio
import numpy as np
import pytest
import torch

from hf_genkit.demo import build_demo
from hf_genkit.demo.vae import telling_latents

from ..trainers.tiny_generative import vae
from .tiny_demos import function, grey, labels, save_vae, save_vq_vae


def test_latents_that_change_nothing_are_no_sliders():
    model = vae(latent_dim=5).eval()
    first = model.decoder
    layer = next(module for module in first.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        layer.weight[:, [0, 2, 4]] = 0
        layer.weight[:, 3] *= 10
    assert telling_latents(model, 2) == [3, 1]


def test_a_page_has_eight_sliders_at_most(tmp_path):
    demo = build_demo(str(save_vae(tmp_path, latent_dim=12)))
    assert sum(label.startswith("Latent ") for label in labels(demo)) == 8


def test_a_slider_changes_the_drawn_picture_and_its_own_value_does_not(tmp_path):
    demo = build_demo(str(save_vae(tmp_path)))
    picture, *values = function(demo, "draw")(4)
    decode = function(demo, "decode")
    assert np.abs(np.asarray(decode(4, *values), int) - np.asarray(picture, int)).max() <= 2  # values are rounded
    assert not np.array_equal(np.asarray(decode(4, -values[0], *values[1:])), np.asarray(picture))


def test_latents_come_from_the_prior_that_was_fitted(tmp_path):
    model = vae()
    model.set_mixture_prior(torch.ones(1), torch.full((1, 3), 7.0), 0.01 * torch.eye(3)[None])
    model.save_pretrained(tmp_path)
    _, *values = function(build_demo(str(tmp_path)), "draw")(0)
    assert all(6.5 < value < 7.5 for value in values)


def test_the_verdict_needs_the_models_threshold(tmp_path):
    model = vae()
    model.save_pretrained(tmp_path / "without")
    model.config.anomaly_kind, model.config.anomaly_threshold = "reconstruction", 1e-6
    model.save_pretrained(tmp_path / "with")
    _, without = function(build_demo(str(tmp_path / "without")), "reconstruct")(grey(30))
    _, verdict = function(build_demo(str(tmp_path / "with")), "reconstruct")(grey(30))
    assert "no threshold" in without
    assert "above the threshold of 1e-06: **an anomaly**" in verdict


def test_a_vq_vae_without_a_prior_shows_what_it_does_to_pictures(tmp_path):
    demo = build_demo(str(save_vq_vae(tmp_path)))
    assert "First seed" not in labels(demo)
    found = labels(demo)
    assert found.index("First picture") < found.index("From the first to the second")
    strip = function(demo, "between_pictures")(grey(0), grey(255, 30), 4)
    assert strip.width > 3 * strip.height
    with pytest.raises(gradio.Error, match="There is no second picture"):
        function(demo, "between_pictures")(grey(0), None, 4)
    assert "Mean squared error" in function(demo, "reconstruct")(grey(9))[1]
