"""Noise levels in training against diffusers' own noising, and the schedulers that are made."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from hf_genkit.trainers.noise_levels import NOISE_SCHEDULES, NoiseLevels, make_noise_scheduler, prediction_of


UNIFORM = torch.linspace(0, 0.999, 50)


def noisy(scheduler, **options):
    """Noisy pictures by our levels, the clean ones, the noise, and the timesteps."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(50, 1, 3, 3, generator=generator) for _ in range(2))
    alpha, sigma, timesteps = NoiseLevels(scheduler, **options)(UNIFORM)
    return alpha * clean + sigma * noise, clean, noise, timesteps


@pytest.mark.parametrize("schedule", NOISE_SCHEDULES)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_noise_is_added_as_the_scheduler_adds_it(schedule, zero_terminal_snr):
    scheduler = make_noise_scheduler("v", schedule, zero_terminal_snr=zero_terminal_snr)
    found, clean, noise, timesteps = noisy(scheduler)
    assert torch.allclose(found, scheduler.add_noise(clean, noise, timesteps), atol=1e-6)
    assert (timesteps.min(), timesteps.max()) == (0, 999)
    assert (scheduler.alphas_cumprod[-1] == 0) == zero_terminal_snr


def test_flow_noises_along_a_straight_line():
    scheduler = make_noise_scheduler("flow", flow_shift=3.0)
    found, clean, noise, timesteps = noisy(scheduler)
    sigma = 3 * UNIFORM / (1 + 2 * UNIFORM)
    straight = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1))
    assert torch.allclose(found, straight, atol=1e-6)
    assert torch.allclose(timesteps, 1000 * sigma)


def test_edm_draws_its_lognormal_and_tells_the_network_a_quarter_of_the_logarithm():
    scheduler = make_noise_scheduler("edm", sigma_data=0.7)
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    alpha, sigma, told = NoiseLevels(scheduler, edm_mean=-1.0, edm_std=1.5)(uniform)
    logs = sigma.log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((-1.0, 1.5), abs=1e-2)
    assert torch.allclose(told, scheduler.precondition_noise(sigma.flatten()), atol=1e-6)
    assert (alpha == 1).all()
    assert scheduler.config.sigma_data == 0.7


def test_a_logit_normal_density_prefers_the_middle():
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    _, _, plain = NoiseLevels(make_noise_scheduler("flow"))(uniform)
    _, _, middle = NoiseLevels(make_noise_scheduler("flow"), "logit_normal")(uniform)
    inside = lambda t: ((t > 250) & (t < 750)).float().mean().item()  # noqa: E731
    assert inside(plain) == pytest.approx(0.5, abs=1e-2)
    assert inside(middle) == pytest.approx(0.728, abs=1e-2)  # of a standard normal between -ln 3 and ln 3


@pytest.mark.parametrize(
    ("scheduler", "prediction"),
    [
        (DDPMScheduler(), "epsilon"),
        (DDIMScheduler(prediction_type="sample"), "x0"),
        (DDIMScheduler(prediction_type="v_prediction"), "v"),
        (FlowMatchEulerDiscreteScheduler(), "flow"),
        (EDMEulerScheduler(), "edm"),
    ],
)
def test_a_scheduler_says_what_is_predicted(scheduler, prediction):
    assert prediction_of(scheduler) == prediction


@pytest.mark.parametrize("steps", [100, 4000])
def test_another_number_of_levels_ends_in_as_much_noise(steps):
    """diffusers' betas are for 1,000 levels: with 100 of them half of the picture would be left at the end."""
    end = make_noise_scheduler(num_train_timesteps=steps).alphas_cumprod[-1].item()
    assert end == pytest.approx(make_noise_scheduler().alphas_cumprod[-1].item(), rel=0.5)


def test_timesteps_begin_at_the_last_level_when_sampling():
    scheduler = make_noise_scheduler()
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[0] == 999


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match=r"`zero_terminal_snr` is true, but with `prediction_type` 'epsilon'"):
        make_noise_scheduler("epsilon", zero_terminal_snr=True)
    with pytest.raises(ValueError, match=r"`noise_schedule` is 'cosin'.*did you mean 'cosine'"):
        make_noise_scheduler("v", "cosin")
    with pytest.raises(ValueError, match=r"`prediction_type` is 'noise'"):
        make_noise_scheduler("noise")
    with pytest.raises(ValueError, match=r"`timestep_density` is 'gaussian'"):
        NoiseLevels(make_noise_scheduler(), "gaussian")
