import numpy as np
import pytest
import torch
from PIL import Image

from hf_genkit.data import image_processor_for
from hf_genkit.demo.pictures import in_rows, read_picture, shown


def test_a_picture_that_was_enlarged_on_the_page_comes_back_exactly():
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    large = shown(pixels.float() / 127.5 - 1)
    assert large.size == (384, 384)
    assert torch.equal(((read_picture(large, 3, (8, 8)) + 1) * 127.5).round().byte(), pixels)


def test_a_photo_is_cropped_to_the_models_proportions():
    photo = Image.new("RGB", (90, 30), "black")
    photo.paste((255, 255, 255), (30, 0, 60, 30))
    assert read_picture(photo, 1, (8, 8)).min() > 0.7


def test_transparency_is_laid_over_white():
    assert read_picture(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), 1, (8, 8)).min() == 1


def test_no_picture_is_a_sentence():
    with pytest.raises(ValueError, match="There is no first picture"):
        read_picture(None, 1, (8, 8), "first picture")


def test_a_row_is_never_wider_than_a_phone_can_show():
    assert in_rows(torch.zeros(30, 1, 8, 8), [str(index) for index in range(10)]).width < 600
    assert np.asarray(in_rows(torch.zeros(1, 1, 8, 8))).shape == (384, 384, 3)


@pytest.mark.parametrize("size", [(640, 640), (637, 637)])
def test_a_large_photo_is_shrunk_as_in_training(size):
    """Picking single pixels of fine stripes, or their plain mean where the sides divide, is another picture."""
    stripes = np.indices(size)[1] // 3 % 5 * 60
    photo = Image.fromarray(stripes.astype(np.uint8))
    expected = image_processor_for(1, 32)(photo, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(read_picture(photo, 1, (32, 32)), expected, atol=1e-5, rtol=0)


def test_a_picture_smaller_than_the_models_is_enlarged_smoothly():
    small = Image.fromarray(np.uint8([[0, 255], [255, 0]]))
    assert len(read_picture(small, 1, (8, 8)).unique()) > 2


def test_a_grid_has_no_hole_where_there_is_a_way():
    assert [in_rows(torch.zeros(count, 1, 8, 8)).width // 116 for count in (4, 8, 10, 7, 11)] == [2, 4, 5, 7, 4]
