"""The pipeline for a task, found without running code that came with the model."""

import json

import pytest
from diffusers import DDIMScheduler, DDPMPipeline, LDMPipeline, UNet2DModel, VQModel

from hf_genkit.evaluation.drawing import draw, load_generative_model
from hf_genkit.pipelines import (
    ClassConditionalPipeline,
    ImageToImagePipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    UnconditionalPipeline,
    load_pipeline,
)

from .test_samplers import TINY


@pytest.fixture
def saved(tmp_path):
    """Saves a pipeline; returns its folder as a string."""

    def save(kind, **options):
        folder = tmp_path / kind.__name__
        kind(UNet2DModel(**{**TINY, **options}), DDIMScheduler()).save_pretrained(folder)
        return str(folder)

    return save


def test_a_model_gets_the_pipeline_of_the_task(saved):
    by_class = saved(ClassConditionalPipeline, num_class_embeds=4)
    assert type(load_pipeline(by_class)) is ClassConditionalPipeline
    assert type(load_pipeline(by_class, "inpainting")) is InpaintingPipeline
    assert type(load_pipeline(by_class, "image-to-image")) is ImageToImagePipeline
    stock = saved(DDPMPipeline)
    assert type(load_pipeline(stock)) is UnconditionalPipeline
    enlarges = saved(SuperResolutionPipeline, in_channels=2)
    assert type(load_pipeline(enlarges, "image-to-image")) is SuperResolutionPipeline


def test_tasks_that_can_not_be_done_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="enlarges pictures and can't be used for inpainting"):
        load_pipeline(saved(SuperResolutionPipeline, in_channels=2), "inpainting")
    with pytest.raises(ValueError, match="`task` is 'mending', but it must be one of inpainting, image-to-image"):
        load_pipeline(saved(DDPMPipeline), "mending")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "NobodysPipeline"}))
    with pytest.raises(ValueError, match="is a NobodysPipeline, which neither hf_genkit nor diffusers has"):
        load_pipeline(str(tmp_path))
    with pytest.raises(ValueError, match="is a NobodysPipeline: inpainting is for models of"):
        load_pipeline(str(tmp_path), "inpainting")


def test_another_pipeline_of_diffusers_is_drawn_from_as_it_is(tmp_path):
    vae = VQModel(
        in_channels=1, out_channels=1, block_out_channels=(4, 8), norm_num_groups=2, latent_channels=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    LDMPipeline(vae, UNet2DModel(**{**TINY, "in_channels": 2, "out_channels": 2}), DDIMScheduler()).save_pretrained(
        tmp_path
    )
    model = load_generative_model(str(tmp_path))
    assert type(model) is LDMPipeline
    assert draw(model, 3, num_inference_steps=2).shape == (3, 1, 16, 16)
    with pytest.raises(ValueError, match="A LDMPipeline takes no prompt"):
        draw(model, 1, prompts=["a cat"])


def test_conditions_that_a_model_does_not_take_are_refused(saved):
    plain = load_generative_model(saved(DDPMPipeline))
    with pytest.raises(ValueError, match="draws without a condition, but class_labels is given"):
        draw(plain, 1, class_labels=["3"], num_inference_steps=2)
    by_class = load_generative_model(saved(ClassConditionalPipeline, num_class_embeds=4))
    with pytest.raises(ValueError, match="draws by class, but `prompts` is given"):
        draw(by_class, 1, prompts=["a cat"], num_inference_steps=2)
    with pytest.raises(ValueError, match="needs an image to start from"):
        draw(load_generative_model(saved(SuperResolutionPipeline, in_channels=2)), 1)
