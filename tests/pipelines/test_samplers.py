"""Each sampler in each pipeline, against a network that knows the answer."""

import re
import warnings
from itertools import pairwise

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from diffusers.models.unets.unet_2d import UNet2DOutput

from hf_genkit.pipelines import (
    SAMPLERS,
    ClassConditionalPipeline,
    ImageToImagePipeline,
    InpaintingPipeline,
    SuperResolutionPipeline,
    UnconditionalPipeline,
    make_sampler,
    scheduler_kind,
    speed_up,
)
from hf_genkit.pipelines.pipeline_image_diffusion import REPEATABLE, repaint_walk


TINY = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
    "norm_num_groups": 4, "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2,
}  # fmt: skip
MODELS = {
    "epsilon": DDPMScheduler(),
    "v": DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, beta_schedule="scaled_linear"),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "edm": EDMEulerScheduler(sigma_data=0.7),
}
ALL = [(model, name) for model, scheduler in MODELS.items() for name in SAMPLERS[scheduler_kind(scheduler)]]


class Oracle(UNet2DModel):
    """Gives what a perfect network would for the one picture `answer`, and keeps the states that it was shown."""

    def __init__(self, scheduler, answer):
        super().__init__(**TINY)
        self.scheduler, self.answer, self.seen = scheduler, answer, []

    def forward(self, sample, timestep):
        scheduler, x, t = self.scheduler, sample, timestep[0]
        kind = scheduler_kind(scheduler)
        if kind == "vp":
            alpha, sigma = (level**0.5 for level in (scheduler.alphas_cumprod[t], 1 - scheduler.alphas_cumprod[t]))
        elif kind == "flow":
            alpha, sigma = 1 - t / 1000, t / 1000
        else:
            alpha, sigma = 1, (4 * t).exp()
            data = scheduler.config.sigma_data
            norm = (sigma**2 + data**2) ** 0.5
            x = x * norm
        noise = (x - alpha * self.answer) / sigma
        if kind == "edm":
            output = (self.answer - data**2 / norm**2 * x) * norm / (sigma * data)
        elif kind == "flow":
            output = noise - self.answer
        else:
            output = noise
            if scheduler.config.prediction_type == "v_prediction":
                output = alpha * noise - sigma * self.answer
        self.seen.append((x, float(alpha), float(sigma)))
        return UNet2DOutput(sample=output)


def pipeline(kind, unet, scheduler, **components):
    made = kind(unet, scheduler, **components)
    made.set_progress_bar_config(disable=True)
    return made


def answer():
    return torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize(("model", "name"), ALL)
def test_a_perfect_network_is_not_spoilt_by_the_sampler(model, name):
    scheduler = make_sampler(MODELS[model], name)
    for steps in (1, 4, 10):
        oracle = Oracle(scheduler, answer())
        made = pipeline(UnconditionalPipeline, oracle, scheduler)
        images = made(2, seed=0, num_inference_steps=steps, output_type="pt").images
        assert len(oracle.seen) == steps
        assert torch.allclose(images, (answer() / 2 + 0.5).expand(2, -1, -1, -1), atol=2e-3), (name, steps)


def test_a_clipped_picture_goes_on_with_the_noise_that_belongs_to_it():
    """Guidance predicts pictures beyond [-1, 1]; with the noise of such a picture the state would leave its level."""
    scheduler = DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=True)
    oracle = Oracle(scheduler, torch.full((1, 1, 8, 8), -3.0))
    pipeline(UnconditionalPipeline, oracle, scheduler)(1, seed=0, num_inference_steps=5)
    for (x, alpha, sigma), (following, next_alpha, next_sigma) in pairwise(oracle.seen):
        noise = (x + alpha) / sigma  # of the picture -1
        assert torch.allclose(following, -next_alpha + next_sigma * noise, atol=1e-4)


@pytest.mark.parametrize(("model", "name"), ALL)
def test_the_network_is_shown_the_noise_level_of_the_time_it_is_told(model, name):
    # A network that is told another time than the state's sees another spread of the noise.
    scheduler = make_sampler(MODELS[model], name)
    oracle = Oracle(scheduler, torch.zeros(1, 1, 8, 8))
    pipeline(UnconditionalPipeline, oracle, scheduler)(64, seed=0, num_inference_steps=6, output_type="pt")
    for x, _, sigma in oracle.seen:
        assert abs(x.std().item() / sigma - 1) < 0.04
    if model == "flow":
        assert torch.allclose(scheduler.timesteps, scheduler.sigmas[:-1] * 1000)


def test_image_to_image_starts_at_its_step_where_times_repeat_and_steps_are_halved():
    scheduler, calls = diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True), []
    scheduler.set_timesteps(300)
    first = (scheduler.timesteps.diff() == 0).nonzero()[0].item()
    made = pipeline(ImageToImagePipeline, UNet2DModel(**TINY), scheduler)
    made.unet.register_forward_pre_hook(lambda module, args: calls.append(1))
    made(answer(), strength=(300 - first) / 300, num_inference_steps=300)
    assert len(calls) == 300 - first
    assert scheduler.step_index == 300
    calls.clear()
    made.scheduler = diffusers.HeunDiscreteScheduler()
    made(answer(), strength=0.5, num_inference_steps=10)
    assert len(calls) == 2 * 5 - 1


@pytest.mark.parametrize(("model", "name"), ALL)
def test_a_picture_is_noised_to_the_level_where_image_to_image_starts(model, name):
    scheduler = make_sampler(MODELS[model], name)
    given = torch.full((64, 1, 8, 8), 0.5)
    for strength, steps in ((0.5, 5), (1.0, 10), (0.01, 1)):
        oracle = Oracle(scheduler, answer())
        made = pipeline(ImageToImagePipeline, oracle, scheduler)
        images = made(given, strength=strength, seed=0, num_inference_steps=10, output_type="pt").images
        x, alpha, sigma = oracle.seen[0]
        assert len(oracle.seen) == steps
        assert abs((x - alpha * given).std().item() / sigma - 1) < 0.04
        assert torch.allclose(images, (answer() / 2 + 0.5).expand(64, -1, -1, -1), atol=5e-3)


@pytest.mark.parametrize(("model", "name"), ALL)
def test_going_back_in_inpainting_leaves_the_variance_of_the_level(model, name):
    scheduler = make_sampler(MODELS[model], name)
    oracle = Oracle(scheduler, torch.zeros(1, 1, 8, 8))
    made = pipeline(InpaintingPipeline, oracle, scheduler)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    given = torch.full((64, 1, 8, 8), 0.5)
    options = {"num_inference_steps": 20, "jump_length": 1, "num_resamples": 2, "output_type": "pt"}
    if not isinstance(scheduler, REPEATABLE):
        with pytest.raises(ValueError, match=r"can't be taken again; use make_sampler's 'ddim', or 'euler'"):
            made(given, mask, **options)
        return
    images = made(given, mask, seed=0, **options).images
    assert len(oracle.seen) == 20 + 1 * 1 * 19
    for number, (x, alpha, sigma) in enumerate(oracle.seen):
        drawn, kept = x[..., 4:], x[..., :4] - (alpha * 0.5 if number else 0)
        for noise in (drawn, kept):
            assert abs(noise.square().mean().sqrt().item() / sigma - 1) < 0.06
    assert (images[..., 4:] - 0.5).abs().max() < 2e-3
    assert torch.equal(images[..., :4], torch.full((64, 1, 8, 4), 0.75))


def test_inpainting_walks_as_the_paper_says():
    assert repaint_walk(4, 2, 2) == [0, 1, 2, 3, 4, 2, 3, 4]
    assert repaint_walk(6, 2, 2) == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 4, 5, 6]
    assert repaint_walk(5, 1, 1) == [0, 1, 2, 3, 4, 5]
    assert repaint_walk(3, 5, 4) == [0, 1, 2, 3]
    walk = repaint_walk(50, 2, 4)
    assert sum(there > here for here, there in pairwise(walk)) == 194


@pytest.mark.parametrize(("model", "name"), ALL)
def test_neither_the_batch_size_nor_the_last_call_changes_a_picture(model, name):
    torch.manual_seed(0)
    made = pipeline(UnconditionalPipeline, UNet2DModel(**TINY), make_sampler(MODELS[model], name))
    options = {"num_inference_steps": 5, "output_type": "pt"}
    images = made(3, seed=7, **options).images
    assert images.isfinite().all()
    assert torch.allclose(made(3, seed=7, batch_size=2, **options).images, images, atol=2e-4)
    assert torch.allclose(made(1, seed=9, **options).images, images[2:], atol=2e-4)
    assert torch.allclose(made(2, seed=[9, 7], **options).images, images[[2, 0]], atol=2e-4)
    assert not torch.allclose(images[0], images[1], atol=1e-2)


@pytest.mark.parametrize(("model", "name"), ALL)
def test_guided_and_enlarged_pictures_are_finite_with_any_sampler(model, name):
    torch.manual_seed(0)
    scheduler, options = make_sampler(MODELS[model], name), {"num_inference_steps": 3, "output_type": "pt"}
    made = pipeline(ClassConditionalPipeline, UNet2DModel(**TINY, num_class_embeds=3), scheduler)
    assert made([0, 1], guidance_scale=4.0, seed=0, **options).images.isfinite().all()
    made = pipeline(SuperResolutionPipeline, UNet2DModel(**TINY | {"in_channels": 2}), scheduler)
    assert made(answer()[..., :4, :4], seed=0, **options).images.isfinite().all()


def test_unconditional_pipeline_equals_the_stock_one_on_the_same_noise():
    torch.manual_seed(0)
    unet, scheduler = UNet2DModel(**TINY), DDIMScheduler(clip_sample=False)  # what is clipped is another's noise there
    stock = DDPMPipeline(unet, scheduler)
    stock.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(5), torch.Generator().manual_seed(6)]
    expected = stock(2, generator=generators, num_inference_steps=10, output_type="np").images
    images = pipeline(UnconditionalPipeline, unet, scheduler)(
        2, seed=5, num_inference_steps=10, output_type="np"
    ).images
    assert abs(images - expected).max() < 1e-5


def test_flow_euler_spends_no_call_on_a_step_of_width_a_thousandth():
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline(UnconditionalPipeline, UNet2DModel(**TINY), scheduler)(num_inference_steps=4)
    assert torch.allclose(scheduler.sigmas, torch.tensor([1, 0.75, 0.5, 0.25, 0]))


def test_a_step_count_for_which_a_time_becomes_minus_one_is_refused():
    # diffusers' "trailing" rounds to 62 times for 61 steps, the last of which reads the noisiest level.
    for name in set(SAMPLERS["vp"]) - {"lcm"}:
        made = pipeline(UnconditionalPipeline, UNet2DModel(**TINY), make_sampler(DDPMScheduler(), name))
        with pytest.raises(ValueError, match="rounds a time to -1 for 61 steps; use another number"):
            made(num_inference_steps=61)


def test_more_noise_with_eta_and_only_where_the_sampler_has_it():
    torch.manual_seed(0)
    made = pipeline(UnconditionalPipeline, UNet2DModel(**TINY), DDIMScheduler())
    options = {"seed": 0, "num_inference_steps": 3, "output_type": "pt"}
    assert not torch.equal(made(eta=1.0, **options).images, made(**options).images)
    with pytest.raises(ValueError, match=r"`eta` is 1\.5, but a DDIMScheduler takes 0 to 1"):
        made(eta=1.5, **options)
    made.scheduler = DDPMScheduler()
    with pytest.raises(ValueError, match=r"`eta` is 0\.5, but a DDPMScheduler takes 0 to 0"):
        made(eta=0.5, **options)


def test_one_bar_counts_the_steps_of_all_batches(capsys):
    made = pipeline(UnconditionalPipeline, UNet2DModel(**TINY), DDPMScheduler())
    made(3, batch_size=2, num_inference_steps=2)
    assert "4/4" not in capsys.readouterr().err
    made.set_progress_bar_config()
    made(3, batch_size=2, num_inference_steps=2)
    assert "4/4" in capsys.readouterr().err


# ---- make_sampler ----


def test_the_way_to_another_sampler_and_back_loses_nothing():
    settings = {
        "clip_sample": False, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "beta_end": 0.015,
        "beta_schedule": "scaled_linear", "set_alpha_to_one": False, "num_train_timesteps": 500,
    }  # fmt: skip
    first = make_sampler(DDIMScheduler(**settings), "ddim")
    assert first.config.timestep_spacing == "trailing"
    for others in (["dpm++"], ["unipc", "dpm++"], ["ddpm", "unipc"]):
        there = first
        for name in others:
            there = make_sampler(there, name)
            assert there.config.timestep_spacing == "trailing"
            assert there.config.prediction_type == "v_prediction"
            assert there.config.rescale_betas_zero_snr
        back = make_sampler(there, "ddim")
        kept = {name: back.config[name] for name in first.config if not name.startswith("_")}
        assert kept == {name: value for name, value in first.config.items() if not name.startswith("_")}
    assert make_sampler(DDIMScheduler(**settings), "ddpm").config.clip_sample is False


def test_a_flow_keeps_its_shift_and_an_edm_its_sigma_data():
    flow = FlowMatchEulerDiscreteScheduler(shift=2.0)
    flow.set_shift(3.0)
    for name in ("dpm++", "unipc"):
        other = make_sampler(flow, name)
        assert other.config.use_flow_sigmas
        assert (other.config.flow_shift, other.config.prediction_type) == (3.0, "flow_prediction")
        assert make_sampler(other, "euler").shift == 3.0
    assert make_sampler(make_sampler(MODELS["edm"], "dpm++"), "euler").config.sigma_data == 0.7


def test_no_sampler_is_made_with_a_warning(caplog):
    diffusers.utils.logging.enable_propagation()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model, name in ALL:
            for other in SAMPLERS[scheduler_kind(MODELS[model])]:
                make_sampler(make_sampler(MODELS[model], name), other)
    diffusers.utils.logging.disable_propagation()
    assert not caplog.records


@pytest.mark.parametrize("model", MODELS)
def test_unknown_samplers_are_named_with_those_allowed(model):
    names = re.escape(", ".join(SAMPLERS[scheduler_kind(MODELS[model])]))
    with pytest.raises(ValueError, match=rf"`name` is 'heun', but samplers of a \w+ model are {names}\."):
        make_sampler(MODELS[model], "heun")


def test_a_scheduler_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="VQDiffusionScheduler is of no kind that has samplers here: vp, flow, edm"):
        make_sampler(diffusers.VQDiffusionScheduler(num_vec_classes=8), "ddim")


# ---- speed_up ----


def test_bfloat16_reaches_the_network_alone():
    torch.manual_seed(0)
    made = pipeline(UnconditionalPipeline, UNet2DModel(**TINY), DDPMScheduler())
    options = {"seed": 0, "num_inference_steps": 5, "output_type": "pt"}
    expected = made(**options).images
    assert speed_up(made, bf16=True, channels_last=True) is made
    assert made.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    dtypes, step = set(), DDPMScheduler.step
    network = []
    made.unet.register_forward_pre_hook(lambda module, args: network.append(args[0].dtype))
    with pytest.MonkeyPatch.context() as patch:

        def watched(self, model_output, timestep, sample, generator=None, return_dict=True):
            dtypes.update((model_output.dtype, sample.dtype))
            return step(self, model_output, timestep, sample, generator=generator, return_dict=return_dict)

        patch.setattr(DDPMScheduler, "step", watched)
        images = made(**options).images
    assert dtypes == {torch.float32}
    assert set(network) == {torch.bfloat16}
    assert images.dtype == torch.float32
    assert (images - expected).abs().max() < 0.1


def test_from_pipe_leaves_a_fast_pipeline_fast():
    made = speed_up(pipeline(UnconditionalPipeline, UNet2DModel(**TINY), DDPMScheduler()), bf16=True)
    assert ImageToImagePipeline.from_pipe(made).unet is made.unet
    assert made.unet.dtype == torch.bfloat16


def test_a_stock_pipeline_is_not_run_in_bfloat16():
    stock = DDPMPipeline(UNet2DModel(**TINY), DDPMScheduler())
    with pytest.raises(ValueError, match=r"DDPMPipeline keeps its state .* UnconditionalPipeline.from_pipe"):
        speed_up(stock, bf16=True)
    assert stock.unet.dtype == torch.float32
    assert speed_up(UnconditionalPipeline.from_pipe(stock), bf16=True).unet.dtype == torch.bfloat16


def test_compile_is_in_place(monkeypatch):
    made, called = pipeline(UnconditionalPipeline, UNet2DModel(**TINY), DDPMScheduler()), []
    monkeypatch.setattr(UNet2DModel, "compile", lambda self: called.append(self))
    assert speed_up(made, compile=True).unet is called[0]


def test_a_callback_sees_each_state_of_each_batch():
    """Strips of denoising and previews are made of these."""
    seen = []
    pipeline = UnconditionalPipeline(UNet2DModel(**TINY), DDIMScheduler())
    options = {"seed": 0, "num_inference_steps": 4, "batch_size": 2, "output_type": "pt"}
    drawn = pipeline(
        3, callback_on_step_end=lambda pipe, index, t, state: seen.append((index, state["latents"])), **options
    ).images
    assert [index for index, _ in seen] == [0, 1, 2, 3] * 2
    assert [len(state) for _, state in seen] == [2] * 4 + [1] * 4
    assert torch.allclose((seen[3][1] / 2 + 0.5).clamp(0, 1), drawn[:2], atol=1e-6)
