"""Training of diffusion models: noise and averages that survive accumulation and resuming, and what is saved."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DiffusionPipeline,
    UNet2DModel,
)
from safetensors.torch import load_file

from hf_genkit import DiffusionTrainer
from hf_genkit.data import ArrayImageDataset
from hf_genkit.pipelines import (
    ClassConditionalPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
)
from hf_genkit.trainers import checkpointing
from hf_genkit.trainers.denoiser import Denoiser, null_class, num_classes
from hf_genkit.trainers.diffusion_inputs import encode_pictures, reduce

from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny_diffusion import autoencoder, diffusion_trainer, dit, text_parts, unet
from .tiny_generative import SIZE, pictures, vae


MODELS = {
    "epsilon": lambda: ({"model": unet()}, {"prediction_type": "epsilon"}),
    "v": lambda: ({"model": unet(num_class_embeds=5)}, {"prediction_type": "v", "weighting": "min_snr"}),
    "flow": lambda: ({"model": dit()}, {"prediction_type": "flow", "condition_dropout": 0.4}),
    "edm": lambda: ({"model": unet()}, {"prediction_type": "edm"}),
    "text": lambda: (text_parts(), {"prediction_type": "x0", "condition_dropout": 0.4}),
    "latent": lambda: (
        {"model": unet(sample_size=4, in_channels=2, out_channels=2), "vae": autoencoder()}, {"prediction_type": "v"},
    ),
    "super_resolution": lambda: ({"model": unet(in_channels=2)}, {"super_resolution_factor": 2}),
}  # fmt: skip


def trainer_of(name: str, folder, **options) -> DiffusionTrainer:
    parts, config = MODELS[name]()
    return diffusion_trainer(parts.pop("model"), folder, **parts, **{**config, **options})


def states(trainer) -> dict[str, torch.Tensor]:
    found = trainer.model.trained_state()
    return {f"{part} {name}": value.clone() for part, values in found.items() for name, value in values.items()}


# ---- Exactness ----


@pytest.mark.parametrize("name", MODELS)
def test_gradients_do_not_depend_on_accumulation(tmp_path, name):
    """Noise, timesteps or dropped labels drawn by micro-batch would change the run."""
    gradients = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        recorder = GradientRecorder()
        trainer = trainer_of(
            name, tmp_path / str(batch), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            callbacks=[recorder], max_steps=2, learning_rate=1e-3, max_grad_norm=0.0,
        )  # fmt: skip
        trainer.train()
        gradients.append(recorder.gradient)
    assert_same_gradient(gradients[1], gradients[0])
    assert_same_gradient(gradients[2], gradients[0])


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_ends_with_the_same_weights_and_averages(tmp_path, name):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = trainer_of(name, tmp_path / "whole", **options)
    whole.train()
    again = trainer_of(name, tmp_path / "again", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    expected, found = states(whole), states(again)
    assert set(expected) == set(found)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_evaluation_draws_the_same_noise_each_time_and_judges_the_averages(tmp_path):
    trainer = trainer_of("v", tmp_path, eval_dataset=pictures(10), per_device_eval_batch_size=4)
    first, again = trainer.evaluate(), trainer.evaluate()
    assert first["eval_loss"] == again["eval_loss"]
    assert first["eval_mse"] > first["eval_loss"] > 0
    with torch.no_grad():
        for parameter in trainer.model.raw.parameters():
            parameter.zero_()
    assert trainer.evaluate()["eval_loss"] == first["eval_loss"]


def uniform_times(tmp_path, **options) -> torch.Tensor:
    """The numbers behind the noise levels of the first optimizer step, of 8 samples in micro-batches of 4."""
    trainer = diffusion_trainer(
        unet(), tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=1, **options
    )
    seen, original = [], trainer.uniform_times

    def recording(count, device):
        seen.append(original(count, device))
        return seen[-1]

    trainer.uniform_times = recording
    trainer.train()
    return torch.cat(seen)


def test_timesteps_of_a_global_batch_are_spread_evenly(tmp_path):
    """One in each eighth; independent draws leave some empty."""
    assert sorted((uniform_times(tmp_path) * 8).long().tolist()) == list(range(8))
    independent = uniform_times(tmp_path / "independent", stratified_timesteps=False)
    assert sorted((independent * 8).long().tolist()) != list(range(8))


# ---- Averages ----


def test_averages_follow_parameters_and_buffers():
    """diffusers' EMAModel leaves buffers behind: a batch norm's statistics would be those of the first step."""

    class Normed(UNet2DModel):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = torch.nn.BatchNorm2d(1)

    model = Denoiser(Normed(**{**unet().config, "down_block_types": ("DownBlock2D",) * 2}))
    with torch.no_grad():
        for value in (*model.raw.parameters(), *(b for b in model.raw.buffers() if b.is_floating_point())):
            value.add_(1.0)
        model.raw["unet"].norm.num_batches_tracked.fill_(7)
    before = {name: value.clone() for name, value in model.ema.state_dict().items()}
    model.update_ema(0.75)
    for name, value in model.ema.state_dict().items():
        expected = before[name] + 0.25 if value.is_floating_point() else torch.tensor(7)
        assert torch.allclose(value, expected, atol=1e-5), name


def test_averages_begin_fast(tmp_path):
    trainer = diffusion_trainer(unet(), tmp_path, ema_decay=0.999)
    decays = []
    for step in (0, 100, 1000, 10_000, 10**6):
        trainer.state.global_step = step
        decays.append(trainer.ema_decay)
    assert decays == pytest.approx([0.0, 0.9686, 0.9944, 0.999, 0.999], abs=1e-4)


def test_the_pipeline_has_the_averages_and_is_a_copy(tmp_path):
    trainer = diffusion_trainer(unet(), tmp_path)
    trainer.train()
    pipeline, raw = trainer.pipeline(), trainer.pipeline(raw=True)
    key = "conv_in.weight"
    assert torch.equal(pipeline.unet.state_dict()[key], trainer.model.ema["unet"].state_dict()[key])
    assert torch.equal(raw.unet.state_dict()[key], trainer.model.raw["unet"].state_dict()[key])
    assert not torch.equal(pipeline.unet.state_dict()[key], raw.unet.state_dict()[key])
    pipeline.unet.to(torch.bfloat16)
    assert trainer.model.ema["unet"].dtype == torch.float32


def test_without_averages_the_weights_are_published(tmp_path):
    trainer = diffusion_trainer(unet(), tmp_path, ema_decay=0.0)
    trainer.train()
    assert trainer.model.ema is None
    weights = trainer.pipeline().unet.state_dict()
    assert torch.equal(weights["conv_in.weight"], trainer.model.raw["unet"].conv_in.weight)


# ---- Conditions ----


def test_labels_are_left_out_as_often_as_asked_and_alike_in_any_split(tmp_path):
    trainer = trainer_of("v", tmp_path, condition_dropout=0.25)
    labels = torch.zeros(4000, dtype=torch.long)
    found = trainer.conditions({"labels": labels}, 4000, 0.25)["class_labels"]
    assert set(found.tolist()) == {0, 4}
    assert (found == 4).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (trainer.conditions({"labels": labels}, 4000, 0.0)["class_labels"] == 0).all()


def test_unlabelled_images_teach_the_null_class(tmp_path):
    trainer = trainer_of("v", tmp_path)
    found = trainer.conditions({"labels": torch.tensor([1, -100])}, 2, 0.0)["class_labels"]
    assert found.tolist() == [1, 4]


def test_left_out_captions_become_the_empty_one(tmp_path):
    trainer = trainer_of("text", tmp_path)
    inputs = next(iter(trainer.get_train_dataloader()))
    found = trainer.conditions(inputs, 8, 1.0)
    empty = trainer.tokenizer("", padding="max_length", return_tensors="pt")
    assert torch.equal(found["input_ids"], empty["input_ids"].expand(8, -1))
    assert torch.equal(found["attention_mask"], empty["attention_mask"].expand(8, -1))


def test_dits_own_dropout_of_labels_is_off():
    """It draws from the global generator, so a run would depend on how it is split, and labels would go twice."""
    model = Denoiser(dit()).train()
    sample, timesteps = torch.randn(64, 1, SIZE, SIZE), torch.full((64,), 10)
    labels = torch.ones(64, dtype=torch.long)
    a, b = (model(sample, timesteps, class_labels=labels) for _ in range(2))
    assert torch.equal(a, b)
    assert (num_classes(dit()), null_class(dit())) == (4, 4)
    assert (num_classes(dit(num_embeds_ada_norm=1)), num_classes(unet()), null_class(unet())) == (0, 0, None)


def test_a_text_encoder_is_trained_along_or_left_alone(tmp_path):
    trained = trainer_of("text", tmp_path / "trained")
    before = {name: value.clone() for name, value in trained.model.raw["text_encoder"].state_dict().items()}
    trained.train()
    after = trained.model.raw["text_encoder"].state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(*(m["text_encoder"].get_input_embeddings().weight
                             for m in (trained.model.raw, trained.model.ema)))  # fmt: skip

    parts, options = MODELS["text"]()
    parts["text_encoder"].requires_grad_(False)
    frozen = diffusion_trainer(parts.pop("model"), tmp_path / "frozen", **parts, **options)
    frozen.train()
    for name, value in frozen.model.raw["text_encoder"].state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any("text_encoder" in name for name in frozen.model.trained_state()["raw"])
    shared = [m["text_encoder"].get_input_embeddings().weight
              for m in (frozen.model.raw, frozen.model.ema)]  # fmt: skip
    assert shared[0] is shared[1], "frozen weights are kept twice"


# ---- Latents ----


@pytest.mark.parametrize("kind", ["kl", "own"])
def test_the_scaling_of_latents_is_measured_and_saved(tmp_path, kind):
    """diffusers' default of 0.18215 is Stable Diffusion's: elsewhere latents would drown in noise or stand out of it."""
    if kind == "kl":
        model, encoder = unet(sample_size=4, in_channels=2, out_channels=2), autoencoder()
    else:
        model, encoder = unet(sample_size=2, in_channels=4, out_channels=4), vae(latent_dim=16)
    trainer = diffusion_trainer(model, tmp_path, vae=encoder, prediction_type="v")
    latents = trainer.encode(torch.rand(24, 1, SIZE, SIZE) * 0 + trainer._reference_pictures(list(range(24))))
    assert latents.std().item() == pytest.approx(1.0, abs=1e-3)
    trainer.train()
    trainer.save_model()
    loaded = UnconditionalPipeline.from_pretrained(tmp_path)
    assert loaded.vae.config.scaling_factor == pytest.approx(trainer.vae.config.scaling_factor)
    drawn = loaded(2, seed=0, num_inference_steps=3, output_type="pt").images
    assert drawn.shape == (2, 1, SIZE, SIZE)
    again = encode_pictures(loaded.vae, trainer._reference_pictures([0]), trainer._latent_shape)
    assert torch.allclose(again, latents[:1], atol=1e-5)


def test_a_given_scaling_is_kept(tmp_path):
    trainer = trainer_of("latent", tmp_path, latent_scaling=0.5)
    assert trainer.vae.config.scaling_factor == 0.5
    assert not trainer.sampler().config.clip_sample, "latents are no pixels in [-1, 1]"


# ---- What is saved ----


@pytest.mark.parametrize(
    ("name", "expected"),
    [("epsilon", DDPMPipeline), ("v", ClassConditionalPipeline), ("edm", UnconditionalPipeline),
     ("flow", ClassConditionalPipeline), ("text", TextToImagePipeline), ("latent", UnconditionalPipeline),
     ("super_resolution", SuperResolutionPipeline)],
)  # fmt: skip
def test_every_checkpoint_is_a_pipeline(tmp_path, name, expected):
    trainer = trainer_of(name, tmp_path, save_strategy="steps", save_steps=2, max_steps=2)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-2"
    remote = {} if expected is DDPMPipeline else {"trust_remote_code": True}
    loaded = DiffusionPipeline.from_pretrained(checkpoint, **remote)
    assert type(loaded).__name__ == expected.__name__
    weights = loaded.unet.state_dict()
    for key, value in trainer.model.ema["unet"].state_dict().items():
        assert torch.equal(weights[key], value), key
    kept = checkpointing.load_state(checkpoint, "training_weights")
    raw = trainer.model.raw["unet"].state_dict()
    for key, value in raw.items():
        assert torch.equal(kept["raw"][f"unet.{key}"], value), key
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_stock_diffusers_draws_what_the_trainer_drew(tmp_path):
    trainer = diffusion_trainer(unet(), tmp_path, num_inference_steps=5)
    trainer.train()
    trainer.save_model()
    stock = DiffusionPipeline.from_pretrained(tmp_path)
    own = UnconditionalPipeline.from_pretrained(tmp_path)
    for pipeline in (stock, own):  # of what is clipped a stock pipeline goes on with the noise of what was not
        pipeline.scheduler.register_to_config(clip_sample=False)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    a = stock(batch_size=2, num_inference_steps=5, generator=generators, output_type="np").images
    b = own(2, num_inference_steps=5, seed=[3, 4], output_type="np").images
    assert abs(a - b).max() < 1e-5
    assert isinstance(stock.scheduler, DDIMScheduler)


def test_channels_last_changes_nothing_but_the_layout(tmp_path):
    weights = []
    for channels_last in (False, True):
        trainer = diffusion_trainer(unet(), tmp_path / str(channels_last), channels_last=channels_last, max_steps=3)
        trainer.train()
        trainer.save_model()
        weights.append(load_file(tmp_path / str(channels_last) / "unet" / "diffusion_pytorch_model.safetensors"))
    for key, value in weights[0].items():
        assert torch.allclose(weights[1][key], value, atol=1e-3), key
        assert weights[1][key].is_contiguous()


def test_bf16_keeps_weights_and_loss_in_float32(tmp_path):
    trainer = diffusion_trainer(unet(), tmp_path, bf16=True, eval_dataset=pictures(8))
    trainer.train()
    assert {value.dtype for value in states(trainer).values()} == {torch.float32}
    assert trainer.evaluate()["eval_loss"] > 0


# ---- What the network is shown ----


def shown(trainer) -> list[torch.Tensor]:
    """What the network is given in the first training step: its input and its output, `[N, C, H, W]`."""
    seen = []
    hook = trainer.model.raw["unet"].register_forward_hook(lambda _, args, out: seen.extend([args[0], out.sample]))
    trainer.train()
    hook.remove()
    return seen[:2]


def test_edm_scales_its_input_as_its_sampler_does(tmp_path):
    """Without the scaling, training and drawing would disagree, and only pictures would tell."""
    one = pictures(1)
    same = ArrayImageDataset(one.pixels.repeat(8, axis=0), one.labels.repeat(8))
    trainer = diffusion_trainer(unet(), tmp_path, prediction_type="edm", max_steps=1, train_dataset=same)
    given, _ = shown(trainer)
    trainer.noise.start(0, 8)
    noise = trainer.noise.normal("noise", 8, (1, SIZE, SIZE), given.device)
    _, sigma, _ = trainer.levels(trainer.uniform_times(8, given.device))
    noisy = trainer._reference_pictures([0]) + sigma * noise
    assert torch.allclose(given, trainer.noise_scheduler.precondition_inputs(noisy, sigma), atol=1e-5)


def test_the_small_picture_is_enlarged_as_the_pipeline_enlarges_it(tmp_path):
    trainer = trainer_of("super_resolution", tmp_path, max_steps=1)
    given, _ = shown(trainer)
    small = reduce(trainer._reference_pictures(list(range(24))), 2)
    pipeline, seen = trainer.pipeline(), []
    pipeline.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 1:]))
    pipeline.set_progress_bar_config(disable=True)
    pipeline(small, num_inference_steps=1, output_type="pt")
    distances = torch.cdist(given[:, 1:].flatten(1), seen[0].flatten(1))
    assert distances.min(dim=1).values.max() < 1e-4


def test_channels_last_and_bf16_reach_the_network(tmp_path):
    given, _ = shown(
        diffusion_trainer(unet(block_out_channels=(16, 16), in_channels=1), tmp_path / "a", channels_last=True)
    )
    assert given.is_contiguous(memory_format=torch.channels_last)
    _, output = shown(diffusion_trainer(unet(), tmp_path / "b", bf16=True))
    assert output.dtype == torch.bfloat16
    _, output = shown(diffusion_trainer(unet(), tmp_path / "c"))
    assert output.dtype == torch.float32


def test_checkpointed_activations_change_no_gradient(tmp_path):
    gradients = []
    for saves_memory in (False, True):
        recorder = GradientRecorder()
        diffusion_trainer(
            unet(),
            tmp_path / str(saves_memory),
            activation_checkpointing=saves_memory,
            callbacks=[recorder],
            max_steps=1,
        ).train()
        gradients.append(recorder.gradient)
    assert_same_gradient(gradients[1], gradients[0])


def test_a_model_without_prompts_draws_the_empty_caption(tmp_path):
    parts = text_parts()
    del parts["prompts"]
    diffusion_trainer(parts.pop("model"), tmp_path, **parts).train()
