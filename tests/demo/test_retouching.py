import gradio
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hf_genkit.demo import build_demo
from hf_genkit.demo.retouching import read_editor

from .tiny_demos import function, grey, save_ddpm


def painted(box: tuple[int, int, int, int], size: tuple[int, int] = (384, 384)) -> dict:
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(layer).rectangle(box, fill="red")
    return {"background": grey(128, 8).resize(size), "layers": [layer], "composite": None}


def test_every_pixel_that_the_brush_touches_is_painted():
    read = read_editor(painted((50, 100, 97, 100)), torch.Size([1, 8, 8]))
    expected = torch.zeros(8, 8)
    expected[2, 1:3] = 1
    assert torch.equal(read.mask[0, 0], expected)


def test_a_wide_picture_and_what_is_painted_on_it_are_cropped_alike():
    read = read_editor(painted((0, 0, 100, 100), (300, 100)), torch.Size([1, 8, 8]))
    assert read.mask.sum() <= 8  # the left third is cut off
    assert read_editor(painted((100, 0, 199, 99), (300, 100)), torch.Size([1, 8, 8])).mask.all()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "There is no picture"),
        ({"background": None, "layers": [], "composite": None}, "There is no picture"),
        ({"background": grey(1), "layers": [Image.new("RGBA", (8, 8))], "composite": None}, "Nothing is painted"),
    ],
)
def test_what_is_missing_is_told(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_editor(value, torch.Size([1, 8, 8]))


def test_what_is_not_painted_stays(tmp_path):
    repaint = function(build_demo(str(save_ddpm(tmp_path))), "repaint")
    value = painted((0, 0, 383, 191))
    picture = np.asarray(repaint(value, -1, 0, 2, "its own", 1.0))[-112:, :, 0]
    seen, *results = np.split(picture[:, 4:], range(116, 580, 116), axis=1)
    for result in results:
        assert np.array_equal(result[60:100, :112], seen[60:100, :112])
        assert not np.array_equal(result[10:50, :112], seen[10:50, :112])


def test_a_scheduler_whose_steps_cannot_be_taken_twice_is_refused(tmp_path):
    repaint = function(build_demo(str(save_ddpm(tmp_path))), "repaint")
    with pytest.raises(gradio.Error, match="takes steps twice, which DPMSolverMultistepScheduler can't"):
        repaint(painted((0, 0, 9, 9)), 0, 0, 2, "dpm++", 1.0)


def test_an_uploaded_photo_becomes_what_the_model_reads_of_it_once(tmp_path):
    take = function(build_demo(str(save_ddpm(tmp_path))), "take_uploaded")
    photo = Image.new("RGBA", (90, 30), "black")
    photo.paste((255, 255, 255), (28, 0, 62, 30))
    taken = take({"background": photo, "layers": [], "composite": None})
    assert taken["background"].size == (384, 384)
    assert np.asarray(taken["background"]).min() > 200  # the middle alone
    again = {"background": taken["background"].convert("RGBA"), "layers": [], "composite": None}
    assert take(again) == gradio.skip()
    clear = take({"background": Image.new("RGBA", (30, 30), (0, 0, 0, 0)), "layers": [], "composite": None})
    assert np.asarray(clear["background"]).min() == 255, "what is transparent is white, as on a page"


def test_more_strength_leaves_less_of_a_picture(tmp_path):
    change = function(build_demo(str(save_ddpm(tmp_path))), "change")
    kept = [np.asarray(change(grey(255), strength, 0, 0, 10, "its own", 1.0), float) for strength in (0.1, 1.0)]
    assert kept[0].mean() > kept[1].mean() + 10
