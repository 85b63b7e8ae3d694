"""What a diffusion trainer refuses, in one sentence, before anything is trained or written."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from hf_genkit import DiffusionConfig
from hf_genkit.data import ArrayImageDataset
from hf_genkit.trainers.noise_levels import make_noise_scheduler

from .tiny import tiny_model
from .tiny_diffusion import diffusion_trainer, text_parts, unet
from .tiny_generative import pictures, vae


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_type": "noise"}, r"`prediction_type` is 'noise'"),
        ({"weighting": "min-snr"}, r"`weighting` is 'min-snr'.*did you mean 'min_snr'"),
        ({"condition_dropout": 1.5}, r"`condition_dropout` is 1.5"),
        ({"ema_decay": 1.0}, r"`ema_decay` is 1.0"),
        ({"num_inference_steps": 0}, r"`num_inference_steps` is 0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionConfig(str(tmp_path), **options)


def test_diffusers_names_of_predictions_are_understood(tmp_path):
    names = {"sample": "x0", "v_prediction": "v", "flow_prediction": "flow", "epsilon": "epsilon"}
    for given, meant in names.items():
        assert DiffusionConfig(str(tmp_path), prediction_type=given).prediction_type == meant


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (unet, {"noise_scheduler": DDPMScheduler(), "prediction_type": "v"}, "`prediction_type` is 'v', but the scheduler"),
        (unet, {"num_inference_steps": 60, "num_train_timesteps": 50}, "`num_inference_steps` is 60.* 50 steps only"),
        (unet, {"sampler": "euler"}, "'euler'.*ddpm, ddim"),
        (unet, {"super_resolution_factor": 2}, "must take 2, those of the small picture among them, but it takes 1"),
        (lambda: unet(out_channels=2), {}, "must take 2, but it takes 1"),
        (unet, {"id2label": {0: "a"}}, "There are 1 class names, but the network has 0 classes"),
        (lambda: text_parts()["model"], {}, "reads captions: give it a text encoder"),
        (unet, {"text_encoder": text_parts()["text_encoder"]}, "there is no tokenizer"),
        (lambda: tiny_model("vit"), {}, "`model` is a ViTForImageClassification, but it must be one of UNet2DModel"),
    ],
)  # fmt: skip
def test_components_that_do_not_match_are_refused(tmp_path, model, options, message):
    with pytest.raises(ValueError, match=message):
        diffusion_trainer(model(), tmp_path, **options)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: unet(sample_size=16), {}, r"16x16 pixels \(sample_size\), but the training data's have 1 and 8x8"),
        (lambda: unet(in_channels=3, out_channels=3), {}, "images of 3 channels"),
        (lambda: unet(num_class_embeds=3), {}, "takes the labels 0 to 1, but there is a label 3 in the training data"),
        (
            lambda: unet(
                block_out_channels=(8,) * 5, down_block_types=("DownBlock2D",) * 5, up_block_types=("UpBlock2D",) * 5
            ),
            {},
            "halve the picture 4 times, but a side of 8 pixels can be halved 3 times only",
        ),
        (lambda: unet(in_channels=2), {"super_resolution_factor": 3}, "3, but it doesn't divide images of 8 pixels"),
    ],
)
def test_images_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, model, options, message):
    trainer = diffusion_trainer(model(), tmp_path / "out", **options)
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert not (tmp_path / "out" / "run.json").exists()


def test_captions_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="reads captions, but the training data have no `input_ids`"):
        diffusion_trainer(**{**text_parts(), "folder": tmp_path, "train_dataset": pictures()}).train()


def test_a_data_set_without_any_label_is_no_class_conditional_one(tmp_path):
    plain = pictures()
    unlabelled = ArrayImageDataset(plain.pixels, plain.labels * 0 - 100)
    with pytest.raises(ValueError, match="no image has a label in the training data"):
        diffusion_trainer(unet(num_class_embeds=5), tmp_path, train_dataset=unlabelled).train()


def test_another_models_checkpoint_is_refused(tmp_path):
    diffusion_trainer(unet(), tmp_path / "a", save_strategy="steps", save_steps=2, max_steps=2).train()
    other = diffusion_trainer(unet(num_class_embeds=5), tmp_path / "b", max_steps=4)
    with pytest.raises(ValueError, match="weights of another model"):
        other.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))


def test_the_folder_of_another_run_is_refused_and_kept(tmp_path):
    diffusion_trainer(unet(), tmp_path, prediction_type="v").train()
    before = json.loads((tmp_path / "run.json").read_text())
    with pytest.raises(ValueError, match="holds another run \\(prediction_type v there, x0 here"):
        diffusion_trainer(unet(), tmp_path, prediction_type="x0").train()
    assert json.loads(Path(tmp_path, "run.json").read_text()) == before


def test_a_given_scheduler_is_used(tmp_path):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    trainer = diffusion_trainer(unet(), tmp_path, noise_scheduler=scheduler)
    assert trainer.prediction_type == "flow"
    assert trainer.levels.shift == 2.0
    zero = make_noise_scheduler("v", zero_terminal_snr=True)
    assert diffusion_trainer(unet(), tmp_path, noise_scheduler=zero).sampler().alphas_cumprod[-1] < 1e-6


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (unet, {"noise_scheduler": EDMEulerScheduler(prediction_type="v_prediction")}, "is 'v_prediction', but EDM's"),
        (unet, {"noise_scheduler": DDPMScheduler(rescale_betas_zero_snr=True)}, "zero terminal SNR and predicts 'epsilon'"),
        (
            unet,
            {"noise_scheduler": DDPMScheduler(), "noise_schedule": "cosine"},
            "`noise_schedule` is cosine, but the model comes with a scheduler that decides it",
        ),
        (unet, {"num_inference_steps": 61}, "rounds a time to -1 for 61 steps"),
        (lambda: unet().to(torch.bfloat16), {}, "weights are torch.bfloat16, but float32 weights are trained"),
        (lambda: unet(sample_size=None), {}, "`sample_size` of the UNet2DModel is None"),
        (
            lambda: unet(in_channels=2, num_class_embeds=5),
            {"super_resolution_factor": 2},
            "a model that draws by class can't enlarge pictures",
        ),
        (lambda: unet(num_class_embeds=3), {"id2label": {1: "a", 4: "b"}}, "the network has 2 classes, from 0 on"),
        (lambda: unet(sample_size=4), {"vae": vae(latent_dim=3)}, "The VAE has 3 latents, but the network draws 1 maps of 4x4"),
    ],
)  # fmt: skip
def test_what_would_train_garbage_is_refused(tmp_path, model, options, message):
    with pytest.raises(ValueError, match=message):
        diffusion_trainer(model(), tmp_path, **options)


class Streamed(torch.utils.data.IterableDataset):
    """Pictures without a length."""

    def __iter__(self):
        return iter([pictures()[index] for index in range(24)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_dataset": []}, "There are no evaluation data"),
        ({"eval_dataset": {"other": [{"pixel_values": torch.zeros(1, 8, 8)}]}}, "but the other data have no `labels`"),
        ({"eval_dataset": [{"pixel_values": torch.zeros(1, 16, 16), "labels": 0}]}, "the evaluation data's have 1 and 16x16"),
        ({"train_dataset": [{"pixel_values": torch.zeros(1, 16, 8), "labels": 0}] * 8}, "training data's have 1 and 16x8"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit_are_refused_before_training(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        diffusion_trainer(unet(num_class_embeds=5), tmp_path, **options).train()


def test_captions_of_another_length_are_refused(tmp_path):
    parts = text_parts()
    dataset = parts["train_dataset"]
    dataset.extras = {name: values[:, :3] for name, values in dataset.extras.items()}
    with pytest.raises(ValueError, match="`input_ids` of the training data has 3 tokens, but captions are padded to"):
        diffusion_trainer(parts.pop("model"), tmp_path, **parts).train()


def test_streams_are_trained_on_evaluated_and_drawn(tmp_path):
    trainer = diffusion_trainer(
        unet(), tmp_path, train_dataset=Streamed(), eval_dataset=Streamed(), eval_strategy="steps", eval_steps=2
    )
    trainer.train()
    trainer.create_model_card()
    assert (tmp_path / "noising.png").is_file()
