import gradio
import numpy as np
import pytest
import torch

from hf_genkit.demo import build_demo
from hf_genkit.demo.diffusion import denoising_strip
from hf_genkit.pipelines import TextToImagePipeline

from ..trainers.tiny_diffusion import text_parts
from .tiny_demos import function, grey, labels, save_ddpm, save_enlarger, save_stock_ddpm


def test_settings_are_those_that_the_model_has(tmp_path):
    by_class = labels(build_demo(str(save_ddpm(tmp_path / "class"))))
    stock = labels(build_demo(str(save_stock_ddpm(tmp_path / "stock"))))
    enlarger = labels(build_demo(str(save_enlarger(tmp_path / "enlarger"))))
    assert {"Class", "Seed", "Steps", "Scheduler", "Guidance"} <= set(by_class)
    assert {"Seed", "Steps", "Scheduler"} <= set(stock)
    assert not {"Class", "Guidance", "Prompt"} & set(stock)
    assert "Factor" in enlarger
    assert "Strength" not in enlarger


def test_each_setting_changes_the_pictures_and_the_same_ones_do_not(tmp_path):
    draw = function(build_demo(str(save_ddpm(tmp_path))), "draw")
    settings = {"count": 2, "chosen": -1, "seed": 0, "steps": 3, "scheduler": "its own", "guidance": 2.0}
    pictures = np.asarray(draw(*settings.values())[0])
    assert np.array_equal(pictures, np.asarray(draw(*settings.values())[0]))
    changes = {"chosen": 2, "seed": 1, "steps": 5, "scheduler": "ddpm", "guidance": 6.0}
    for name, value in changes.items():
        changed = np.asarray(draw(*{**settings, name: value}.values())[0])
        if name == "chosen":  # without the names of the classes
            changed, pictures = changed[-100:], pictures[-100:]
        assert not np.array_equal(pictures[-100:], changed[-100:]), name


def test_the_pipeline_keeps_its_own_scheduler(tmp_path):
    """Each call has a pipeline of its own: a chosen scheduler must not stay for the next person."""
    draw = function(build_demo(str(save_ddpm(tmp_path))), "draw")
    before = np.asarray(draw(1, 0, 0, 3, "its own", 1.0)[0])
    draw(1, 0, 0, 3, "dpm++", 1.0)
    assert np.array_equal(before, np.asarray(draw(1, 0, 0, 3, "its own", 1.0)[0]))


def test_a_prompt_is_needed_where_texts_are_read(tmp_path):
    from diffusers import DDIMScheduler

    parts = text_parts()
    TextToImagePipeline(
        parts["model"], DDIMScheduler(), text_encoder=parts["text_encoder"], tokenizer=parts["tokenizer"]
    ).save_pretrained(tmp_path)
    draw = function(build_demo(str(tmp_path)), "draw")
    with pytest.raises(gradio.Error, match="The prompt is empty"):
        draw(1, " ", 0, 2, "its own", 2.0)
    left, right = (np.asarray(draw(1, f"a bar on the {side}", 0, 2, "its own", 5.0)[0]) for side in ("left", "right"))
    assert not np.array_equal(left, right)


def test_the_strip_goes_from_noise_to_the_picture():
    states = [torch.full((1, 1, 2, 2), float(level)) for level in range(20)]
    strip = denoising_strip(states, torch.full((1, 2, 2), -0.5))
    assert strip.shape == (8, 1, 2, 2)
    assert strip[0].max() == 0
    assert strip[-1].max() == -0.5
    wide = torch.tensor([[[[-80.0, 80.0], [-80.0, 80.0]]]])
    assert denoising_strip([wide, wide], torch.zeros(1, 2, 2))[0].abs().max() < 1


def test_a_model_that_enlarges_shows_both_ways_beside_the_given_picture(tmp_path):
    enlarge = function(build_demo(str(save_enlarger(tmp_path))), "enlarge")
    assert enlarge(grey(90, 32), 2, 0, 2, "its own").width > 400
    with pytest.raises(gradio.Error, match="There is no picture"):
        enlarge(None, 2, 0, 2, "its own")
