import numpy as np
import pytest

from hf_genkit.demo import build_demo

from .tiny_demos import NAMES, function, labels, save_gan


@pytest.fixture
def demo(tmp_path):
    return build_demo(str(save_gan(tmp_path)))


def test_a_seed_gives_the_same_picture_again_and_whatever_the_count(demo):
    draw = function(demo, "draw")
    one, many = np.asarray(draw(3, 1, 1.0, 2)), np.asarray(draw(2, 2, 1.0, 2))
    assert np.array_equal(one, np.asarray(draw(3, 1, 1.0, 2)))
    smaller = many.shape[0] - 8  # without its margins
    second = many[4 : 4 + smaller, -4 - smaller : -4]
    assert np.array_equal(second[::14, ::14], one[::48, ::48])


def test_truncation_and_class_change_the_picture(demo):
    draw = function(demo, "draw")
    plain = np.asarray(draw(0, 1, 1.0, 0))
    assert not np.array_equal(plain, np.asarray(draw(0, 1, 0.1, 0)))
    assert not np.array_equal(plain, np.asarray(draw(0, 1, 1.0, 1)))


def test_the_way_has_as_many_pictures_as_asked_for(demo):
    wide, narrow = (function(demo, "interpolate")(0, 1, steps, "linear", 0) for steps in (8, 4))
    assert wide.width == 2 * narrow.width - 4


def test_only_a_model_with_classes_asks_for_one(demo, tmp_path):
    from ..trainers.tiny_generative import gan

    gan().save_pretrained(tmp_path / "plain")
    assert "Class" in labels(demo)
    assert "Class" not in labels(build_demo(str(tmp_path / "plain")))
    box = next(each for each in demo.blocks.values() if getattr(each, "label", None) == "Class")
    assert [name for name, _ in box.choices] == ["each in turn", *NAMES.values()]
