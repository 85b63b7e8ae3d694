"""Grids, strips and reconstructions: every picture where it belongs, in the right grey."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genkit.evaluation.pictures import (
    BACKGROUND,
    draw_grid,
    save_grid,
    save_reconstructions,
    save_strips,
    to_uint8,
)


def plain(levels, size=4, channels=1):
    """One picture of each grey level."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, channels, size, size)


def middles(image, rows, columns, cell):
    """Grey level in the middle of each cell of a grid without texts."""
    middle = 2 + cell // 2
    pixels = np.asarray(image)[middle :: cell + 2, middle :: cell + 2, 0]
    return pixels[:rows, :columns].tolist()


def test_floats_become_the_nearest_level_and_overshoot_is_cut():
    values = torch.tensor([-1.3, -1.0, 0.0, 1 / 255, 1.0, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 128, 128, 255, 255]
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels)
    assert torch.equal(to_uint8((levels.double() / 127.5 - 1).numpy()), levels)
    assert to_uint8(levels) is levels


def test_half_precision_and_graphs_are_taken():
    pixels = torch.tensor([-1.0, 1.0], dtype=torch.bfloat16, requires_grad=True)
    assert to_uint8(pixels).tolist() == [0, 255]


def test_a_mapped_file_is_read_without_a_warning(tmp_path, recwarn):
    np.save(tmp_path / "pixels.npy", np.zeros((2, 1, 4, 4), dtype=np.uint8))
    assert to_uint8(np.load(tmp_path / "pixels.npy", mmap_mode="r")).shape == (2, 1, 4, 4)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.tensor([0.0, 255.0]), "reach from 0 to 255: give grey levels as uint8"),
        (torch.tensor([0.0, float("nan")]), "not finite"),
        (torch.tensor([1, 2]), "got torch.int64"),
    ],
)
def test_other_scales_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        to_uint8(pixels)


def test_pictures_stand_in_rows():
    image = draw_grid(plain([0, 50, 100, 150, 200]), columns=2, scale=5)
    assert image.size == (2 * 22 + 2, 3 * 22 + 2)
    assert middles(image, 3, 2, cell=20) == [[0, 50], [100, 150], [200, BACKGROUND[0]]]


def test_small_pictures_are_enlarged_by_whole_pixels():
    for size, cell in ((8, 80), (28, 84), (32, 64), (64, 64), (256, 256)):
        assert draw_grid(plain([0], size)).width == cell + 4
    checks = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).view(1, 1, 2, 2)
    cells = np.asarray(draw_grid(checks, scale=7, padding=0))[..., 0]
    assert (cells == np.kron([[0, 255], [255, 0]], np.ones((7, 7)))).all()


def test_colours_keep_their_channels():
    red = torch.tensor([255, 0, 10], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert draw_grid(red).getpixel((40, 40)) == (255, 0, 10)


def test_texts_make_room_and_leave_pictures_alone():
    pixels = plain([0, 50, 100, 150], size=80)
    bare = draw_grid(pixels, columns=2)
    above_columns = draw_grid(pixels, columns=2, titles=["a", "b"])
    above_each = draw_grid(pixels, columns=2, titles=["a", "b", "c", "a title far too long for one picture"])
    labelled = draw_grid(pixels, columns=2, row_labels=["first", "second"])
    assert bare.height < above_columns.height < above_each.height
    assert labelled.width > bare.width
    assert labelled.height == bare.height
    for image in (bare, above_columns, above_each, labelled):
        values, counts = np.unique(np.asarray(image)[..., 0], return_counts=True)
        count = dict(zip(values.tolist(), counts.tolist(), strict=True))
        assert min(count[level] for level in (50, 100, 150)) >= 80 * 80


def test_strips_show_one_sequence_a_row(tmp_path):
    steps = plain([0, 50, 100, 150, 200, 250]).view(2, 3, 1, 4, 4)
    path = save_strips(steps, tmp_path / "new" / "strip.png", scale=5)
    assert middles(Image.open(path), 2, 3, cell=20) == [[0, 50, 100], [150, 200, 250]]


def test_reconstructions_stand_below_their_originals(tmp_path):
    originals, copies = plain([0, 20, 40, 60, 80]), plain([10, 30, 50, 70, 90])
    path = save_reconstructions(originals, copies, tmp_path / "r.png", columns=3, scale=5, row_labels=("", ""))
    left = Image.open(path).width - (3 * 22 + 2)
    image = Image.open(path).crop((left, 0, left + 68, 400))
    upper = middles(image, 2, 3, cell=20)
    lower = middles(image.crop((0, 46, 68, 400)), 2, 2, cell=20)
    assert upper == [[0, 20, 40], [10, 30, 50]]
    assert lower == [[60, 80], [70, 90]]


def test_no_unfinished_file_is_left(tmp_path, monkeypatch):
    save_grid(plain([7]), tmp_path / "grid.png")

    def fail(self, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_grid(plain([9]), tmp_path / "grid.png")
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
    assert Image.open(tmp_path / "grid.png").getpixel((40, 40)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (torch.zeros(2, 2, 4, 4), {}, r"\[N, 1 or 3, H, W\], got \[2, 2, 4, 4\]"),
        (torch.zeros(0, 1, 4, 4), {}, r"got \[0, 1, 4, 4\]"),
        (torch.zeros(4, 1, 4, 4), {"columns": 0}, "at least 1"),
        (torch.zeros(4, 1, 4, 4), {"titles": ["a"]}, "2 columns or of the 4 pictures, got 1"),
        (torch.zeros(4, 1, 4, 4), {"row_labels": ["a"]}, "each of the 2 rows, got 1"),
    ],
)
def test_bad_input_is_named(pixels, options, message):
    with pytest.raises(ValueError, match=message):
        draw_grid(pixels, **options)


def test_pairs_must_match(tmp_path):
    with pytest.raises(ValueError, match="one shape"):
        save_reconstructions(torch.zeros(2, 1, 4, 4), torch.zeros(3, 1, 4, 4), tmp_path / "r.png")
    with pytest.raises(ValueError, match=r"\[rows, steps, C, H, W\]"):
        save_strips(torch.zeros(2, 1, 4, 4), tmp_path / "s.png")
    with pytest.raises(ValueError, match="2 pairs, got 1"):
        save_reconstructions(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), tmp_path / "r.png", titles=["a"])
