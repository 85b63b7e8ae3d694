import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    BitImageProcessorPil,
    ConvNextImageProcessorPil,
    EfficientNetImageProcessorPil,
    MobileViTImageProcessorPil,
    ViTImageProcessorPil,
)

from hf_genkit.data import PixelPreparer, image_processor_for, prepare_pixels
from hf_genkit.data.pixels import resize_in_float


RNG = np.random.default_rng(0)


def colour(height, width, n=3):
    """Blotches: neighbouring pixels are alike, as in photographs."""
    coarse = RNG.integers(0, 256, (n, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse])


def as_batch(images):
    images = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def by_processor(images, processor):
    return processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]


def levels_apart(prepared, expected, processor):
    """The difference in grey levels: its mean and its maximum."""
    assert prepared.shape == expected.shape
    assert prepared.dtype == torch.float32
    difference = (
        (prepared - expected).abs() * torch.tensor(processor.image_std).view(-1, 1, 1) / processor.rescale_factor
    )
    return difference.mean().item(), difference.max().item()


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": 28, "width": 28}},
        {"do_resize": False},
        {"do_resize": False, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.5, 0.2]},
        {"do_resize": False, "do_normalize": False},
        {"do_resize": False, "do_rescale": False, "image_mean": [10.0, 20.0, 30.0], "image_std": [9.0, 5.0, 2.0]},
    ],
)
def test_without_resizing_the_batch_equals_the_processors_images(options):
    images = colour(28, 28)
    processor = ViTImageProcessorPil(**options)
    torch.testing.assert_close(
        prepare_pixels(as_batch(images), processor), by_processor(images, processor).float(), atol=2e-6, rtol=2e-6
    )


def test_grey_images_for_a_grey_processor():
    images = colour(28, 28)[..., 0]
    processor = image_processor_for(1, 28, mean=0.3, std=0.2)
    torch.testing.assert_close(
        prepare_pixels(as_batch(images), processor), by_processor(images, processor), atol=2e-6, rtol=2e-6
    )


@pytest.mark.parametrize("side", [28, 40])
def test_grey_images_for_a_colour_processor_are_repeated_as_it_does_itself(side):
    images = colour(28, 28)[..., 0]
    processor = ViTImageProcessorPil(
        size={"height": side, "width": side},
        do_convert_rgb=True,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.9, 0.5, 0.2],
    )
    assert prepare_pixels(as_batch(images), processor).shape == (3, 3, side, side)
    _, maximum = levels_apart(prepare_pixels(as_batch(images), processor), by_processor(images, processor), processor)
    assert maximum < (0.01 if side == 28 else 2.01)


def test_grey_images_are_repeated_where_nothing_is_normalised():
    images = colour(28, 28)[..., 0]
    processor = ViTImageProcessorPil(do_resize=False, do_normalize=False, do_convert_rgb=True)
    torch.testing.assert_close(
        prepare_pixels(as_batch(images), processor), by_processor(images, processor).float(), atol=2e-6, rtol=2e-6
    )


def test_colour_images_for_a_grey_processor_become_pillows_luma():
    images = RNG.integers(0, 256, (4, 28, 28, 3), dtype=np.uint8)
    processor = image_processor_for(1, 28)
    luma = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    torch.testing.assert_close(
        prepare_pixels(as_batch(images), processor), by_processor(luma, processor), atol=2e-6, rtol=2e-6
    )


@pytest.mark.parametrize("shape", [(28, 28), (60, 90), (90, 60), (300, 280)])
@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessorPil(size={"height": 48, "width": 32}),
        ViTImageProcessorPil(size={"height": 48, "width": 32}, resample=3),
        BitImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}),
        BitImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 57, "width": 48}),
        ConvNextImageProcessorPil(size={"shortest_edge": 64}),
        ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    ],
    ids=["vit", "vit-bicubic", "bit", "bit-padded", "convnext-cropped", "convnext-warped"],
)
def test_resizing_and_cropping_follow_the_processor(processor, shape):
    images = colour(*shape)
    preparer = PixelPreparer(processor)
    assert preparer.agrees
    mean, maximum = levels_apart(preparer(as_batch(images)), by_processor(images, processor), processor)
    assert mean < 0.25
    assert maximum < 6


@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("size", [(20, 70), (48, 32), (60, 90), (60, 40)])
def test_resizing_without_uint8_interpolation_matches_pillow(resample, size):
    images = RNG.integers(0, 256, (2, 60, 90, 3), dtype=np.uint8)
    expected = [np.asarray(Image.fromarray(image).resize((size[1], size[0]), resample)) for image in images]
    resized = resize_in_float(as_batch(images), *size, resample)
    assert (resized - as_batch(np.stack(expected))).abs().max() <= 1


@pytest.mark.parametrize(
    "processor",
    [
        EfficientNetImageProcessorPil(size={"height": 32, "width": 32}),
        MobileViTImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24}),
        ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=Image.Resampling.LANCZOS),
    ],
    ids=["own rescaling", "blue first", "other filter"],
)
def test_a_processor_with_steps_of_its_own_is_called_itself(processor):
    images = colour(40, 36)
    assert not PixelPreparer(processor).agrees
    assert torch.equal(prepare_pixels(as_batch(images), processor), by_processor(images, processor))


def test_the_same_result_inside_autocast():
    images = as_batch(colour(60, 90))
    preparer = PixelPreparer(ViTImageProcessorPil(size={"height": 48, "width": 32}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = preparer(images)
    assert torch.equal(inside, preparer(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_saved_processor_loads_as_auto_and_takes_grey_images(channels, tmp_path):
    processor = image_processor_for(channels, (8, 10), mean=0.25, std=0.5)
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    values = loaded(Image.new("L", (30, 30), 255), return_tensors="pt")["pixel_values"]
    assert values.shape == (1, channels, 8, 10)
    torch.testing.assert_close(values, torch.full_like(values, (1 - 0.25) / 0.5))


@pytest.mark.gpu
def test_the_result_on_a_gpu_is_the_cpus():
    images = as_batch(colour(60, 90))
    for processor in (
        ViTImageProcessorPil(size={"height": 48, "width": 32}),
        BitImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}),
        image_processor_for(1, 28),
        EfficientNetImageProcessorPil(size={"height": 32, "width": 32}),
    ):
        on_gpu = prepare_pixels(images.cuda(), processor)
        assert on_gpu.is_cuda
        _, maximum = levels_apart(on_gpu.cpu(), prepare_pixels(images, processor), processor)
        assert maximum < 2.01
