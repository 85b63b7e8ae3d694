"""Few-step students: what their loss is, stages that survive accumulation and resuming, and what draws them."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)

from hf_genkit.pipelines import (
    ClassConditionalPipeline,
    SuperResolutionPipeline,
    TextToImagePipeline,
    UnconditionalPipeline,
    load_pipeline,
    make_sampler,
)
from hf_genkit.trainers.diffusion_distillation_config import DiffusionDistillationConfig
from hf_genkit.trainers.diffusion_distillation_trainer import DiffusionDistillationTrainer
from hf_genkit.trainers.diffusion_inputs import set_scaling_factor

from .test_diffusion_trainer import states
from .test_exactness import GradientRecorder, assert_same_gradient
from .tiny_diffusion import autoencoder, few_step_trainer, text_parts, unet
from .tiny_generative import SIZE


V = {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}


def latent_teacher() -> UnconditionalPipeline:
    encoder = autoencoder()
    set_scaling_factor(encoder, 0.7)
    return UnconditionalPipeline(unet(sample_size=4, in_channels=2, out_channels=2), DDPMScheduler(**V), vae=encoder)


def text_teacher() -> tuple[TextToImagePipeline, dict]:
    parts = text_parts()
    own = {name: parts.pop(name) for name in ("prompts", "train_dataset")}
    network = parts.pop("model")
    return TextToImagePipeline(network, DDIMScheduler(prediction_type="sample"), **parts), own


def classes(scheduler) -> ClassConditionalPipeline:
    return ClassConditionalPipeline(unet(num_class_embeds=5), scheduler)


ZERO = {**V, "beta_schedule": "linear", "rescale_betas_zero_snr": True}
TEACHERS = {
    "epsilon": lambda: (DDPMPipeline(unet(), DDPMScheduler()), {}),
    "v": lambda: (DDPMPipeline(unet(), DDPMScheduler(**V)), {}),
    "guided": lambda: (classes(DDIMScheduler(**ZERO)), {"teacher_guidance_scale": 2.0, "condition_dropout": 0.3}),
    "flow": lambda: (classes(FlowMatchEulerDiscreteScheduler(shift=2.0)), {}),
    "text": text_teacher,
    "latent": lambda: (latent_teacher(), {}),
    "consistency": lambda: (DDPMPipeline(unet(), DDPMScheduler(**V)), {"method": "consistency"}),
    "consistency, guided": lambda: (
        classes(DDIMScheduler(**ZERO)), {"method": "consistency", "teacher_guidance_scale": 2.0},
    ),
}  # fmt: skip


def trainer_of(name: str, folder, **options) -> DiffusionDistillationTrainer:
    teacher, own = TEACHERS[name]()
    return few_step_trainer(teacher, folder, **{"teacher_steps": 8, "student_steps": 2, **own, **options})


def helper_states(trainer) -> dict[str, torch.Tensor]:
    return {
        f"{name} {key}": value
        for name, helper in trainer.helpers.items()
        for key, value in helper.state_dict().items()
    }


# ---- Exactness ----


@pytest.mark.parametrize("name", TEACHERS)
def test_gradients_do_not_depend_on_accumulation(tmp_path, name):
    gradients = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        recorder = GradientRecorder()
        trainer = trainer_of(
            name, tmp_path / str(batch), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
            callbacks=[recorder], max_steps=2, learning_rate=1e-4, max_grad_norm=0.0,
        )  # fmt: skip
        trainer.train()
        gradients.append(recorder.gradient)
    assert_same_gradient(gradients[1], gradients[0])
    assert_same_gradient(gradients[2], gradients[0])


@pytest.mark.parametrize("stop", [2, 3, 4])
@pytest.mark.parametrize("name", ["guided", "consistency"])
def test_a_run_that_was_killed_ends_with_the_same_weights(tmp_path, name, stop):
    """Within a stage, and at its end: there the student is not yet the teacher."""
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 6, "lr_scheduler_type": "cosine"}
    whole = trainer_of(name, tmp_path / "whole", **options)
    whole.train()
    again = trainer_of(name, tmp_path / "again", **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
    expected, found = (states(trainer) | helper_states(trainer) for trainer in (whole, again))
    assert set(expected) == set(found)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert again.stage == whole.stage


def test_stages_of_another_length_are_not_gone_on_with(tmp_path):
    trainer_of("v", tmp_path, save_strategy="steps", save_steps=2, max_steps=4).train()
    longer = trainer_of("v", tmp_path, max_steps=8)
    with pytest.raises(ValueError, match=r"holds another run \(max_steps 4 there, 8 here"):
        longer.train()
    with pytest.raises(ValueError, match="`max_steps` is 8, but the checkpoint's stages share 4"):
        longer.train(resume_from_checkpoint=True)


# ---- Stages ----


def test_the_student_of_a_stage_is_the_teacher_of_the_next_one(tmp_path):
    trainer = trainer_of("v", tmp_path, max_steps=4)
    given = {key: value.clone() for key, value in trainer.helpers["teacher"].raw["unet"].state_dict().items()}
    trainer.train()
    teacher = trainer.helpers["teacher"].raw["unet"].state_dict()
    saved = load_pipeline(str(tmp_path / "stages" / "4-steps")).unet.state_dict()
    key = "conv_in.weight"
    assert torch.equal(teacher[key], saved[key])
    assert not torch.equal(teacher[key], given[key])
    assert not torch.equal(teacher[key], trainer.model.averaged["unet"].state_dict()[key])
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["4-steps"]
    assert trainer.args.num_inference_steps == 2


def test_the_rate_and_the_averages_begin_anew_in_each_stage(tmp_path):
    trainer = trainer_of("v", tmp_path, max_steps=6, learning_rate=1e-3, lr_scheduler_type="linear")
    trainer.train()
    rates = [log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log]
    assert rates == pytest.approx([1e-3, 1e-3 * 2 / 3, 1e-3 / 3] * 2)
    trainer.state.global_step = 4
    assert trainer.ema_decay == pytest.approx(1 - 2**-0.75)


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, [(32, 16), (16, 8), (8, 4)]),
        ({"teacher_steps": 64, "student_steps": 1, "stage_factor": 4}, [(64, 16), (16, 4), (4, 1)]),
        ({"teacher_steps": 8, "student_steps": 4, "stage_factor": 8}, [(8, 4)]),
        ({"method": "consistency", "teacher_steps": 50}, [(50, 4)]),
    ],
)
def test_stages_lead_from_the_teachers_steps_to_the_students(tmp_path, options, stages):
    args = DiffusionDistillationConfig(str(tmp_path), max_steps=10, **options)
    assert args.stages == stages
    firsts = [next(step for step in range(10) if args.stage_of(step) == stage) for stage in range(len(stages))]
    assert firsts == [args.stage_start(stage) for stage in range(len(stages))]


# ---- The loss ----


@pytest.mark.parametrize("name", ["epsilon", "v", "guided", "flow", "text"])
def test_a_progressive_student_is_asked_for_what_its_teachers_sampler_draws(tmp_path, name):
    """Two steps of a scheduler of diffusers and one that the student's answer must equal: other levels would show."""
    trainer = trainer_of(name, tmp_path, teacher_steps=8, student_steps=4, condition_dropout=0.0)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    asked = {}

    def student(noisy, times, **conditions):
        asked.update(noisy=noisy, times=times)
        return torch.zeros_like(noisy)

    trainer.noise.start(0, 8)
    clean, noise = trainer.encode(trainer.pixel_values(inputs)), torch.randn(8, 1, SIZE, SIZE)
    trainer._indices = lambda steps, clean: torch.full((8,), 3)
    conditions = trainer.conditions(inputs, 8, 0.0)
    _, _, plain = trainer._progressive(student, clean, noise, conditions, inputs)

    pipeline = trainer._live_pipeline(raw=True)
    pipeline.scheduler = trainer.sampler()
    pipeline.set_timesteps(8)
    scheduler, x = pipeline.scheduler, asked["noisy"]
    labels, prompts = None, None
    if name == "text":
        prompts = [trainer.tokenizer.decode(row, skip_special_tokens=True) for row in inputs["input_ids"]]
    elif trainer.classes:
        labels = inputs["labels"].tolist()
    scale = trainer.args.teacher_guidance_scale
    with torch.no_grad():
        for place in (2, 3):
            if name == "flow":
                scheduler._step_index = place
            t = scheduler.timesteps[place]
            output = pipeline._predict(x, t, scale, pipeline._condition(8, labels, prompts, scale))
            x = scheduler.step(output, t, x).prev_sample
    alpha, sigma, times = trainer.levels.at(torch.full((8,), 3), 4)
    assert torch.equal(times, asked["times"])
    next_alpha, next_sigma, _ = trainer.levels.at(torch.full((8,), 2), 4)
    ratio = next_sigma / sigma
    target = (x - ratio * asked["noisy"]) / (next_alpha - ratio * alpha)
    answer = {"epsilon": lambda z: z / alpha, "v": lambda z: alpha * z, "guided": lambda z: alpha * z, "flow": lambda z: z,
              "text": torch.zeros_like}[name](asked["noisy"])  # fmt: skip
    assert torch.allclose(plain, (answer - target).square().flatten(1).mean(1), rtol=1e-3, atol=1e-4)
    trainer._indices = lambda steps, clean: torch.ones(8, dtype=torch.long)
    _, loss, plain = trainer._progressive(student, clean, noise, conditions, inputs)
    alpha, sigma, _ = trainer.levels.at(torch.tensor([1]), 4)
    assert torch.allclose(loss / plain, torch.maximum(alpha / sigma, torch.ones(1)).square().flatten())


def test_a_consistency_student_is_held_against_one_step_further_as_the_lcm_scheduler_reads_it(tmp_path):
    trainer = trainer_of("consistency", tmp_path, teacher_steps=50)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    clean, noise = trainer.pixel_values(inputs), torch.randn(8, 1, SIZE, SIZE)
    seen = []
    for place in (1, 20):
        trainer._indices = lambda steps, clean, place=place: torch.full((8,), place)
        scheduler = trainer.sampler()
        scheduler.set_timesteps(50)
        here, there = scheduler.timesteps[50 - place], scheduler.timesteps[51 - place] if place > 1 else None
        network = trainer.helpers["teacher"]
        alpha, sigma = scheduler.alphas_cumprod[here].sqrt(), (1 - scheduler.alphas_cumprod[here]).sqrt()
        noisy = alpha * clean + sigma * noise

        def answer(state, t, scheduler=scheduler, network=network):
            scheduler._step_index = None
            with torch.no_grad():
                output = network(state, t.expand(8))
            return scheduler.step(output, t, state, generator=torch.manual_seed(0)).denoised

        ddim = DDIMScheduler.from_config({k: v for k, v in scheduler.config.items() if not k.startswith("_")})
        ddim.set_timesteps(50)
        with torch.no_grad():
            state = ddim.step(network(noisy, here.expand(8)), here, noisy).prev_sample
        target = state if there is None else answer(state, there)
        _, _, plain = trainer._consistency(trainer.model, clean, noise, {}, inputs)
        seen.append(
            torch.allclose(plain, (answer(noisy, here) - target).square().flatten(1).mean(1), rtol=1e-3, atol=1e-6)
        )
    assert seen == [True, True]


def test_guidance_is_learned_once_and_not_again_in_each_stage(tmp_path):
    """A student that has learned it would be guided by its own null class, which nobody has trained."""
    trainer, calls = trainer_of("guided", tmp_path, condition_dropout=0.0), []
    trainer.helpers["teacher"].register_forward_pre_hook(lambda *_: calls.append(1))
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    for stage, expected in ((0, 4), (1, 2)):
        calls.clear()
        trainer.enter_stage(stage)
        trainer.compute_loss(trainer.model, inputs)
        assert len(calls) == expected


def test_only_the_target_of_a_consistency_student_moves(tmp_path):
    trainer = trainer_of("consistency", tmp_path, target_decay=0.5, max_steps=1)
    before = helper_states(trainer)
    before = {key: value.clone() for key, value in before.items()}
    trainer.train()
    key = "raw.unet.conv_in.weight"
    after = helper_states(trainer)
    assert torch.equal(after[f"teacher {key}"], before[f"teacher {key}"])
    middle = (before[f"target {key}"] + trainer.model.raw["unet"].conv_in.weight) / 2
    assert torch.allclose(after[f"target {key}"], middle)


def test_a_student_comes_closer_to_its_teacher(tmp_path):
    for name in ("v", "consistency"):
        trainer = trainer_of(
            name, tmp_path / name, max_steps=60, teacher_steps=4, learning_rate=3e-3, logging_steps=20
        )
        teacher = trainer.pipeline()
        teacher.set_progress_bar_config(disable=True)
        teacher.scheduler = make_sampler(teacher.scheduler, "ddim")
        with torch.no_grad():  # else every number of steps draws much the same
            for pipeline in (teacher.unet, trainer.helpers["teacher"].raw["unet"], trainer.model.raw["unet"]):
                pipeline.conv_out.weight.mul_(4.0)
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        assert losses[-1] < 0.7 * losses[0], name


def test_the_teacher_is_in_no_optimizer_and_in_no_published_file(tmp_path):
    teacher, own = TEACHERS["guided"]()
    before = {key: value.clone() for key, value in teacher.unet.state_dict().items()}
    trainer = few_step_trainer(teacher, tmp_path, save_strategy="steps", save_steps=4, teacher_steps=8, **own)
    trainer.train()
    trained = sum(p.numel() for group in trainer.optimizer.param_groups for p in group["params"])
    assert trained == sum(p.numel() for p in teacher.unet.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.unet.state_dict().items())
    folders = {path.name for path in (tmp_path / "checkpoint-4").iterdir() if path.is_dir()}
    assert folders == {"unet", "scheduler"}
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


# ---- What draws them ----


@pytest.mark.parametrize("name", ["epsilon", "v", "consistency"])
def test_stock_diffusers_draws_what_the_trainer_draws(tmp_path, name):
    trainer = trainer_of(name, tmp_path, student_steps=4, teacher_steps=40 if name == "consistency" else 8)
    trainer.train()
    trainer.save_model()
    stock = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(stock) is DDPMPipeline
    assert isinstance(stock.scheduler, LCMScheduler if name == "consistency" else DDIMScheduler)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    found = stock(batch_size=2, num_inference_steps=4, generator=generators, output_type="np").images
    own = trainer._live_pipeline()(2, seed=[3, 4], output_type="np").images
    assert abs(found - own).max() < 1e-5
    assert found.std() > 0.05
    live = trainer._live_pipeline()
    live.set_timesteps(4)
    levels = [trainer.levels.at(torch.tensor([index]), 4)[2].item() for index in (4, 3, 2, 1)]
    assert live.scheduler.timesteps.tolist() == levels


@pytest.mark.parametrize("name", ["guided", "flow", "text", "latent", "consistency, guided"])
def test_a_saved_student_draws_in_its_own_steps_without_further_guidance(tmp_path, name):
    """A pipeline's own defaults of 50 steps and of guidance would spoil what a student has learned."""
    trainer = trainer_of(name, tmp_path)
    trainer.train()
    trainer.save_model()
    loaded = DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True)
    condition = {"text": ["a bar on the left"], "latent": 1}.get(name, [2])
    settings = {"seed": 0, "output_type": "pt"}
    steps = []
    found = loaded(condition, callback_on_step_end=lambda *_: steps.append(1), **settings).images
    assert len(steps) == 2
    explicit = {"num_inference_steps": 2, "guidance_scale": 1.0}
    expected = trainer._live_pipeline()(condition, **explicit, **settings).images
    assert torch.allclose(found, expected, atol=1e-5)


# ---- What is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "progresive"}, r"`method` is 'progresive'.*did you mean 'progressive'"),
        ({"student_steps": 5}, "`student_steps` is 5, but halving the 32 of `teacher_steps` never gets there"),
        ({"student_steps": 32}, "`teacher_steps` is 32, but it must be at least 33"),
        ({"stage_factor": 3}, "`stage_factor` is 3, but it must be a power of two"),
        ({"max_steps": 2}, "`max_steps` is 2, but there are 3 stages from 32 steps to 4"),
        ({"max_steps": -1}, "`max_steps` is -1, but there are 3 stages"),
        ({"weighting": "min_snr"}, "`weighting` is min_snr, but the teacher or the method decides it"),
        ({"num_inference_steps": 4}, "`num_inference_steps` is 4, but the teacher or the method decides it"),
        ({"target_decay": 1.0}, "`target_decay` is 1.0"),
        ({"teacher_guidance_scale": -1.0}, "`teacher_guidance_scale` is -1.0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionDistillationConfig(str(tmp_path), **{"max_steps": 10, **options})


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (unet, {}, "`teacher` is a UNet2DModel, but it must be a DDPMPipeline, a DDIMPipeline"),
        (
            lambda: SuperResolutionPipeline(unet(in_channels=2), DDPMScheduler()), {},
            "`teacher` is a SuperResolutionPipeline",
        ),
        (
            lambda: classes(FlowMatchEulerDiscreteScheduler()), {"method": "consistency"},
            "`method` is 'consistency', which learns from vp models, but .* is made for 'flow'",
        ),
        (
            lambda: UnconditionalPipeline(unet(), EDMEulerScheduler()), {},
            "learns from vp and flow models, but the teacher's EDMEulerScheduler is made for 'edm'",
        ),
        (
            lambda: DDPMPipeline(unet(), DDPMScheduler()), {"teacher_guidance_scale": 2.0},
            "`teacher_guidance_scale` is 2.0, but the teacher draws without a condition",
        ),
        (
            lambda: DDPMPipeline(unet(), DDPMScheduler(num_train_timesteps=16)), {"teacher_steps": 32},
            "`teacher_steps` is 32, but the teacher's schedule has 16 steps only",
        ),
    ],
)  # fmt: skip
def test_teachers_that_a_method_can_not_take_are_refused(tmp_path, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        few_step_trainer(teacher(), tmp_path, **options)
    assert not any(tmp_path.iterdir())


def test_data_that_the_teacher_can_not_read_are_refused(tmp_path):
    trainer = few_step_trainer(DDPMPipeline(unet(sample_size=16), DDPMScheduler(**V)), tmp_path / "out")
    with pytest.raises(ValueError, match="images of 1 channels and 16x16 pixels"):
        trainer.train()
    assert not any((tmp_path / "out").iterdir())
