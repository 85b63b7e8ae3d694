import gradio
import numpy as np
import pytest
import torch
from PIL import Image

from hf_genkit.demo import build_demo
from hf_genkit.demo import diffusion as diffusion_module
from hf_genkit.demo import retouching as retouching_module
from hf_genkit.demo.diffusion import denoising_strip
from hf_genkit.hub import CardFacts, DatasetFacts, Result, write_model_card
from hf_genkit.pipelines import ClassConditionalPipeline, TextToImagePipeline
from hf_genkit.trainers.diffusion_inputs import enlarge, reduce

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


def save_reader(folder):
    from diffusers import DDIMScheduler

    parts = text_parts()
    TextToImagePipeline(
        parts["model"], DDIMScheduler(), text_encoder=parts["text_encoder"], tokenizer=parts["tokenizer"]
    ).save_pretrained(folder)
    return folder


def write_card(folder, data_args: dict, args: dict) -> None:
    dataset = DatasetFacts("bars", args=data_args)
    results = [Result("loss", 0.5, args=args)]
    facts = CardFacts("model", "image-classification", "AutoModelForImageClassification", dataset, results)
    write_model_card(folder, facts)


def box(demo, label: str):
    """What can be set on a page, by its label."""
    (found,) = [each for each in demo.blocks.values() if getattr(each, "label", None) == label]
    return found


def test_a_prompt_is_needed_where_texts_are_read(tmp_path):
    draw = function(build_demo(str(save_reader(tmp_path))), "draw")
    with pytest.raises(gradio.Error, match="The prompt is empty"):
        draw(1, " ", 0, 2, "its own", 2.0)
    left, right = (np.asarray(draw(1, f"a bar on the {side}", 0, 2, "its own", 5.0)[0]) for side in ("left", "right"))
    assert not np.array_equal(left, right)


def test_prompts_can_be_chosen_and_are_like_the_captions_in_training(tmp_path):
    write_card(save_reader(tmp_path), {"caption_template": "a bar on the {label}"}, {"seed": 0})
    grey(9).save(tmp_path / "picture.png")
    examples = ["a bar on the left", str(tmp_path / "picture.png"), "a bar on the right"]
    demo = build_demo(str(tmp_path), examples=examples)
    assert box(demo, "Prompt").value == "a bar on the left"
    assert "a bar on the {label}" in box(demo, "Prompt").info
    offered = [
        [row[0] for row in each.raw_samples] for each in demo.blocks.values() if isinstance(each, gradio.Dataset)
    ]
    assert examples[::2] in offered
    with pytest.raises(ValueError, match=r"The example 'pictrue.PNG' is no file"):
        build_demo(str(tmp_path), examples=["a bar. On the left", "pictrue.PNG"])
    assert sum(len(each) == 1 for each in offered) == 2  # the picture, to repaint and to change
    assert not box(build_demo(str(save_reader(tmp_path / "silent"))), "Prompt").info


def test_a_model_of_few_steps_is_not_offered_hundreds(tmp_path):
    from diffusers import DDIMScheduler

    most = []
    for steps in (1, 4, 50):
        network = ClassConditionalPipeline.from_pretrained(save_ddpm(tmp_path / "network")).unet
        defaults = {"num_inference_steps": steps}
        folder = tmp_path / str(steps)
        ClassConditionalPipeline(network, DDIMScheduler(), defaults=defaults).save_pretrained(folder)
        slider = box(build_demo(str(folder)), "Steps")
        assert slider.value == steps
        most.append(slider.maximum)
    assert most == [10, 20, 250]


def test_the_strip_goes_from_noise_to_the_picture():
    states = [torch.full((1, 1, 2, 2), float(level)) for level in range(20)]
    strip = denoising_strip(states, torch.full((1, 2, 2), -0.5))
    assert strip.shape == (8, 1, 2, 2)
    assert strip[0].max() == 0
    assert strip[-1].max() == -0.5
    wide = torch.tensor([[[[-80.0, 80.0], [-80.0, 80.0]]]])
    assert denoising_strip([wide, wide], torch.zeros(1, 2, 2))[0].abs().max() < 1


def test_a_strip_begins_with_the_noise_even_if_there_is_one_step(tmp_path, monkeypatch):
    strips = []
    monkeypatch.setattr(
        diffusion_module, "denoising_strip", lambda *both: strips.append(both) or denoising_strip(*both)
    )
    function(build_demo(str(save_ddpm(tmp_path))), "draw")(1, 0, 7, 1, "its own", 1.0)
    ((states, picture),) = strips
    noise = torch.randn(states[0].shape, generator=torch.Generator().manual_seed(7))
    assert torch.equal(states[0], noise)
    assert len(denoising_strip(states, picture)) == 2


def test_progress_tells_the_steps_that_there_are_and_never_goes_back(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(gradio.Progress, "__call__", lambda _, step, unit: told.append(step))
    demo = build_demo(str(save_ddpm(tmp_path)))
    settings = [0, 0, 6, "its own", 1.0]
    picture = {"background": grey(9), "layers": [grey(0).convert("RGBA")], "composite": None}
    for name, inputs in (("draw", [1]), ("repaint", [picture])):
        told.clear()
        function(demo, name)(*inputs, *settings)
        assert {total for _, total in told} == {6}
        steps = [step for step, _ in told]
        assert steps == sorted(steps)
        assert steps[-1] == 6


def test_a_model_that_enlarges_shows_both_ways_beside_the_given_picture(tmp_path):
    enlarged = function(build_demo(str(save_enlarger(tmp_path))), "enlarge")
    assert enlarged(grey(90, 32), 2, 0, 2, "its own").width > 400
    with pytest.raises(gradio.Error, match="There is no picture"):
        enlarged(None, 2, 0, 2, "its own")


def test_what_is_enlarged_was_made_small_as_in_training(tmp_path, monkeypatch):
    grids = []
    monkeypatch.setattr(retouching_module, "shown", lambda pictures, **_: grids.append(pictures))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8))
    function(build_demo(str(save_enlarger(tmp_path))), "enlarge")(noise, 2, 0, 2, "its own")
    ((_, bicubic, _, picture),) = grids
    torch.testing.assert_close(bicubic, enlarge(reduce(picture[None], 2), (8, 8))[0])


def test_the_factor_is_the_one_that_the_card_says(tmp_path):
    assert box(build_demo(str(save_enlarger(tmp_path))), "Factor").value == 2
    write_card(tmp_path, {"dataset_name": "digits"}, {"super_resolution_factor": 4})
    factor = box(build_demo(str(tmp_path)), "Factor")
    assert factor.value == 4
    assert "trained on 4" in factor.info
    (tmp_path / "README.md").write_text("---\nmodel-index: [1]\n---\nof someone else\n")
    assert box(build_demo(str(tmp_path)), "Factor").value == 2
