"""A run is called what it is: known failures, made and simulated, get their name, and noise gets none."""

import json
import math

import numpy as np
import pytest
from transformers import TrainerState

from hf_genkit.evaluation.gan_scales import GAN_SCALES
from hf_genkit.evaluation.gan_stability import analyze_gan_stability


LN2 = math.log(2)
BOUNDED = [name for name, scale in GAN_SCALES.items() if scale.best_loss]


def noise(n, scale=0.03, seed=0):
    return scale * np.random.default_rng(seed).normal(size=n)


def balanced(n=200, seed=0):
    """Generator and discriminator losses of a healthy run: 75 % right answers and batch noise."""
    return 0.9 + noise(n, 0.08, seed), 0.56 + noise(n, 0.03, seed + 1)


def history(generator, discriminator, **probes):
    """As `Trainer` logs: an entry every 10 steps, evaluations and a summary in between."""
    columns = {"generator_loss": generator, "discriminator_loss": discriminator, **probes}
    entries = []
    for number, row in enumerate(zip(*columns.values(), strict=True), 1):
        place = {"step": 10 * number, "epoch": number / 20}
        entries += [dict(zip(columns, map(float, row), strict=True)) | place, {"eval_fd": 1.0} | place]
    return [*entries, {"train_runtime": 1.0, "step": 10 * len(generator), "epoch": 1.0}]


# ---- The textbook case ----


@pytest.mark.parametrize(
    "losses", [(0.8, 0.4), ([1.0, 0.9, 0.8], [0.5, 0.45, 0.4]), ([0.8] * 10, [0.4] * 10)], ids=str
)
def test_generator_at_08_and_discriminator_at_04_is_a_discriminator_ahead_that_has_not_collapsed(losses):
    verdict = analyze_gan_stability(*losses)
    assert (verdict.verdict, verdict.severity) == ("discriminator_ahead", "mild")
    text = str(verdict)
    assert "discriminator ahead (mild)" in text
    assert "not yet collapsed" in text
    assert all(sentence in text for sentence in verdict.evidence + verdict.suggestions)
    assert all(name in verdict.suggestions[0] for name in ("wgan_gp", "least_squares", "ganetic"))
    assert "r1_gamma" in verdict.suggestions[1]
    assert "discriminator_norm" in verdict.suggestions[1]


# ---- Balance ----


@pytest.mark.parametrize("seed", range(30))
def test_a_noisy_healthy_run_is_healthy(seed):
    verdict = analyze_gan_stability(*balanced(seed=2 * seed))
    assert (verdict.verdict, verdict.severity) == ("healthy", "none"), str(verdict)


@pytest.mark.parametrize("loss_type", BOUNDED)
def test_thresholds_are_right_answers_whatever_the_scale_of_the_loss(loss_type):
    scale = GAN_SCALES[loss_type]
    for accuracy, expected in [(0.5, "healthy"), (0.79, "healthy"), (0.81, "mild"), (0.95, "mild"), (0.97, "severe")]:
        verdict = analyze_gan_stability([0.5] * 10, [scale.best_loss(accuracy)] * 10, loss_type=loss_type)
        assert expected in (verdict.verdict, verdict.severity)
        assert verdict.metrics["implied_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    verdict = analyze_gan_stability([0.5] * 10, [1.2 * scale.equilibrium] * 10, loss_type=loss_type)
    assert verdict.verdict == "generator_ahead"
    assert "n_critic" in verdict.suggestions[0]
    assert verdict.metrics["implied_accuracy"] == 0.5


def test_a_drift_to_a_discriminator_that_is_never_wrong_ends_severe():
    loss = np.linspace(LN2, 0.001, 100)
    verdict = analyze_gan_stability(0.7 - np.log(loss), loss + np.abs(noise(100, 0.005)))
    assert (verdict.verdict, verdict.severity) == ("discriminator_ahead", "severe")
    assert any("discriminator_loss fell from" in sentence for sentence in verdict.evidence)


def test_the_recent_part_counts_and_not_the_beginning():
    generator, discriminator = balanced()
    discriminator[:140] = 0.02
    assert analyze_gan_stability(generator, discriminator).verdict == "healthy"
    discriminator[-1] = 0.02  # one outlier decides nothing
    assert analyze_gan_stability(generator, discriminator).verdict == "healthy"


@pytest.mark.parametrize("n", [1, 7])
def test_few_balanced_values_are_too_short_to_be_called_healthy(n):
    assert analyze_gan_stability([LN2] * n, [LN2] * n).verdict == "too_short"


def test_a_loss_below_its_floor_hints_at_another_loss_type():
    assert any(
        "another loss_type" in sentence for sentence in analyze_gan_stability(1, 0.4, loss_type="ganetic").evidence
    )


# ---- Wasserstein ----


@pytest.mark.parametrize("loss_type", ["wgan", "wgan_gp"])
def test_a_critic_is_judged_by_its_gap(loss_type):
    def analyze(gap):
        return analyze_gan_stability(noise(80), -np.array(gap) / 2 + noise(80, 0.01, 1), loss_type=loss_type)

    closing = analyze(np.linspace(5, 1, 80))
    assert closing.verdict == "healthy"
    assert closing.metrics["critic_gap"] == pytest.approx(1.5, abs=0.1)
    assert analyze(np.linspace(1, 9, 80)).verdict == "discriminator_ahead"
    assert analyze(np.full(80, -0.5)).verdict == "generator_ahead"
    assert analyze(np.full(80, -0.001)).verdict == "healthy"  # within the noise


# ---- Oscillation ----


@pytest.mark.parametrize("n", [40, 200, 1000])
def test_a_cycle_of_the_losses_is_an_oscillation(n):
    wave = 0.25 * np.sin(2 * np.pi * 8 * np.arange(n) / n)
    verdict = analyze_gan_stability(0.9 + wave + noise(n), 0.56 - wave + noise(n, seed=1))
    assert (verdict.verdict, verdict.severity) == ("oscillating", "mild"), str(verdict)
    assert any("r1_gamma" in suggestion for suggestion in verdict.suggestions)
    small = 0.02 * np.sin(2 * np.pi * 8 * np.arange(n) / n)
    assert analyze_gan_stability(0.9 + small, 0.56 - small).verdict == "healthy"


def dirac_gan(loss_type, r1_gamma=0.0, steps=1500, rate=0.1):
    """
    The smallest GAN (Mescheder et al., 2018): real data is 0, the generator draws theta, the logit is psi * x.
    Its gradients by hand, one network after the other; R1 is `r1_gamma / 2 * psi**2`.
    """
    theta, psi, losses = 1.0, 1.0, []
    for _ in range(steps):
        fake = psi * theta
        if loss_type == "wgan":
            losses.append((-fake, fake / 2))
            psi -= rate * (theta + r1_gamma * psi)
            theta += rate * psi
        else:
            losses.append((math.log1p(math.exp(-fake)), (LN2 + math.log1p(math.exp(fake))) / 2))
            psi -= rate * (theta / (1 + math.exp(-fake)) + r1_gamma * psi)
            theta += rate * psi / (1 + math.exp(psi * theta))
    return list(zip(*losses, strict=True))


def test_a_gan_that_provably_cycles_is_oscillating():
    verdict = analyze_gan_stability(*dirac_gan("wgan"), loss_type="wgan")
    assert (verdict.verdict, verdict.severity) == ("oscillating", "severe")
    turns = verdict.metrics["discriminator_loss_period"] * math.acos(1 - 0.1**2 / 2) / math.pi
    assert turns == pytest.approx(round(turns), abs=0.1)  # the product of both repeats after half a turn
    assert turns > 0.9


def test_a_gan_that_provably_converges_is_healthy():
    verdict = analyze_gan_stability(*dirac_gan("non_saturating", r1_gamma=1.0))
    assert verdict.verdict == "healthy"
    assert verdict.metrics["generator_loss"] == pytest.approx(LN2)


# ---- Collapse and divergence ----


def test_lost_diversity_is_mode_collapse_though_the_losses_are_balanced():
    diversity = np.concatenate([np.linspace(0.2, 0.95, 100), np.linspace(0.95, 0.05, 60), np.full(40, 0.05)])
    verdict = analyze_gan_stability(history(*balanced(), sample_diversity=diversity))
    assert (verdict.verdict, verdict.severity) == ("mode_collapse", "severe")
    assert "5% of the real pictures' diversity (at best 95%" in verdict.evidence[0]
    kept = analyze_gan_stability(history(*balanced(), sample_diversity=np.linspace(0.1, 0.95, 200)))
    assert kept.verdict == "healthy"
    narrow = analyze_gan_stability(history(*balanced(), sample_diversity=np.full(200, 0.4)))
    assert (narrow.verdict, narrow.severity) == ("mode_collapse", "mild")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["generator_loss", "discriminator_loss", "generator_grad_norm"])
def test_a_value_that_is_no_number_is_divergence_with_its_step(key, value):
    generator, discriminator = balanced(50)
    series = {"generator_loss": generator, "discriminator_loss": discriminator, "generator_grad_norm": np.ones(50)}
    series[key][30:] = value
    verdict = analyze_gan_stability(
        history(**dict(zip(("generator", "discriminator", "generator_grad_norm"), series.values(), strict=True)))
    )
    assert (verdict.verdict, verdict.severity) == ("diverged", "severe")
    assert verdict.evidence[0] == f"{key} became {value:g} at step 310."


def test_nothing_but_nan_is_divergence_too():
    assert analyze_gan_stability([math.nan] * 3, [math.nan] * 3).verdict == "diverged"
    assert analyze_gan_stability([math.nan], [0.5], loss_type="ganetic").verdict == "diverged"


@pytest.mark.parametrize("loss_type", GAN_SCALES)
def test_exploding_losses_are_divergence(loss_type):
    growth = 0.5 * np.exp(0.12 * np.arange(100))
    verdict = analyze_gan_stability(growth, -growth if "wgan" in loss_type else growth, loss_type=loss_type)
    assert verdict.verdict == "diverged"
    assert "max_grad_norm" in str(verdict)


# ---- What is read ----


def test_all_sources_of_a_trainer_state_give_the_same(tmp_path):
    log = history(*balanced(60), sample_diversity=np.full(60, 0.9))
    state = TrainerState(log_history=log)
    for folder in ("checkpoint-90", "checkpoint-600"):
        (tmp_path / folder).mkdir()
    state.save_to_json(str(tmp_path / "checkpoint-600" / "trainer_state.json"))
    TrainerState(log_history=log[:3]).save_to_json(str(tmp_path / "checkpoint-90" / "trainer_state.json"))
    file = tmp_path / "checkpoint-600" / "trainer_state.json"
    expected = str(analyze_gan_stability(log))
    for source in (state, json.loads(file.read_text()), file, str(file), file.parent, tmp_path, str(tmp_path)):
        assert str(analyze_gan_stability(source)) == expected
        assert str(analyze_gan_stability(trainer_state=source)) == expected
    TrainerState(log_history=log[:3]).save_to_json(str(tmp_path / "trainer_state.json"))
    assert analyze_gan_stability(tmp_path).verdict == "too_short"


def test_a_state_with_nan_is_read_from_its_file(tmp_path):
    TrainerState(log_history=history([0.7, math.nan], [0.6, 0.6])).save_to_json(str(tmp_path / "trainer_state.json"))
    assert analyze_gan_stability(tmp_path).evidence[0] == "generator_loss became nan at step 20."


def test_losses_may_be_logged_in_separate_entries_and_in_different_numbers():
    log = [{"discriminator_loss": 0.56, "step": n} for n in range(50)] + [{"generator_loss": 0.9, "step": 50}] * 10
    assert analyze_gan_stability(log).verdict == "healthy"
    assert analyze_gan_stability([0.9] * 10, [0.56] * 50).verdict == "healthy"


def test_probes_are_evidence():
    n = 40
    log = history(
        *balanced(n),
        real_accuracy=np.full(n, 0.7),
        fake_accuracy=np.full(n, 0.9),
        logit_gap=np.full(n, 1.5),
        generator_grad_norm=np.full(n, 0.001),
        discriminator_grad_norm=np.full(n, 2.0),
        sample_diversity=np.full(n, 0.75),
        spectral_norm=np.linspace(1, 12, n),
    )
    text = str(analyze_gan_stability(log))
    for part in (
        "right on 70% of real and 90% of generated",
        "mean logit of real minus that of generated pictures is 1.5",
        "0.001 (generator) and 2 (discriminator); the generator hardly moves",
        "75% of the real pictures' diversity; look whether classes are missing",
        "spectral norm went from 1 to 10.7; such growth comes before a collapse",
    ):
        assert part in text
    assert "right on" not in str(analyze_gan_stability(log, loss_type="least_squares"))  # the sign says nothing there


def test_a_loss_is_not_suggested_against_itself():
    for loss_type in GAN_SCALES:
        for losses in ((0.8, 0.001), ([math.nan], [1.0]), (1.0, 9.0)):
            text = " ".join(analyze_gan_stability(*losses, loss_type=loss_type).suggestions[:2])
            assert f'loss_type="{loss_type}" or' not in text
            assert f'or loss_type="{loss_type}".' not in text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analyze_gan_stability(0.8, 0.4, loss_type="least_square"), "did you mean 'least_squares'"),
        (lambda: analyze_gan_stability(), "either generator and discriminator losses or a trainer state"),
        (lambda: analyze_gan_stability([1.0]), "`discriminator_losses` is None"),
        (lambda: analyze_gan_stability(None, [1.0]), "`generator_losses` is None"),
        (lambda: analyze_gan_stability([], []), r"`generator_losses` is \[\]"),
        (lambda: analyze_gan_stability([1.0], ["a"]), r"`discriminator_losses` is \['a'\]"),
        (lambda: analyze_gan_stability(1.0, 2.0, trainer_state={}), "either generator and discriminator losses or"),
        (lambda: analyze_gan_stability({"epoch": 1}), r"'log_history', but this one has only \['epoch'\]"),
        (lambda: analyze_gan_stability([{"loss": 1.0, "step": 1}]), "no 'generator_loss'; what it logs is loss, step"),
        (lambda: analyze_gan_stability({"log_history": []}), "what it logs is nothing"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_missing_or_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trainer_state\.json in"):
        analyze_gan_stability(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no trainer state at '.*nowhere"):
        analyze_gan_stability(tmp_path / "nowhere")
    (tmp_path / "trainer_state.json").write_text("{")
    with pytest.raises(ValueError, match="is not a trainer state"):
        analyze_gan_stability(tmp_path)


def test_a_fresh_generator_has_not_collapsed():
    """Its pictures are alike at first: a few logs of that are too short a run, not an end."""
    logs = [
        {"step": step, "generator_loss": 0.7, "discriminator_loss": 0.69, "sample_diversity": 0.04}
        for step in (1, 2, 3)
    ]
    assert analyze_gan_stability(logs).verdict == "too_short"
    assert "4% of the real pictures' diversity" in str(analyze_gan_stability(logs))
    long = [{**logs[0], "step": step} for step in range(20)]
    assert analyze_gan_stability(long).verdict == "mode_collapse"
