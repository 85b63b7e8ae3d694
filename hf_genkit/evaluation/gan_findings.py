"""What can be wrong with a GAN's training, and the numbers that show it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .gan_log import LOSSES, GANLog
from .gan_probes import FRESH_DIVERSITY, LEAST_POINTS, dominant_cycle
from .gan_scales import LossScale


# The state at the end is the median of the last quarter, of at least 5 values: one bad batch decides nothing.
TAIL_SHARE, TAIL_POINTS = 0.25, 5
# Fewer values show neither a trend nor that a balance lasts.
ENOUGH_POINTS = 8
# Adaptive augmentation (ADA, https://arxiv.org/abs/2006.06676) holds good discriminators at 80 % right answers.
AHEAD = 0.8
# A generator of whose pictures only one in 25 passes sees little else than "wrong".
WON = 0.96
# A discriminator that gives every picture odds of 3 to 1 has 1.2 times the loss of one that only guesses.
BEHIND, FAR_BEHIND = 1.15, 2
# A softplus loss of 50 times ln 2 is a logit of 35, at which fp32 has long rounded the probability to 0 or 1.
EXPLODED = 50
# A Wasserstein critic's scale is free, so there only growth tells: tenfold over all of the first half.
GROWN = 10
# The critic's gap should shrink as the generator learns. Noise does not double its median over half a run.
WIDENED = 2
# Noise stays below 0.6 in 99 of 100 series; and a swing under 15 % of the loss is no reason to act.
CYCLIC, SWING = 0.6, 0.15
# One class of ten digits has 0.6 to 0.9 of the diversity of all, one picture with faint noise 0.2.
NARROW, COLLAPSED, ALL_ALIKE = 0.85, 0.5, 0.3
# A change of the loss over the last half of the log, as a share of its scale, that is worth a sentence.
DRIFT = 0.2
# Ratio of the two networks' gradient norms beyond which one of them hardly moves.
UNEQUAL_GRADIENTS = 100
# Spectral norms grow slowly in healthy runs and suddenly before a collapse.
GROWN_SPECTRAL_NORM = 5


@dataclass
class Finding:
    """One thing that is wrong, as [`StabilityVerdict`] says it."""

    verdict: str
    severity: str
    evidence: str


def _last(values: np.ndarray) -> np.ndarray:
    return values[-max(TAIL_POINTS, round(TAIL_SHARE * len(values))) :]


def _tail(values: np.ndarray) -> float:
    return float(np.median(_last(values)))


def measure(log: GANLog, scale: LossScale) -> dict[str, float]:
    """The numbers that checks and sentences use, from the finite part of each series."""
    series = {key: finite for key, values in log.values.items() if len(finite := values[np.isfinite(values)])}
    metrics = {"points": min(len(log.values[key]) for key in LOSSES)}
    metrics |= {key: _tail(values) for key, values in series.items()}
    for key in [key for key in LOSSES if key in series]:
        values = series[key][-max(len(series[key]) // 2, 2 * LEAST_POINTS) :]
        strength, period = dominant_cycle(values)
        size = max(scale.equilibrium, float(np.median(np.abs(values))))
        metrics[f"{key}_oscillation"], metrics[f"{key}_period"] = strength, period
        metrics[f"{key}_swing"] = float(np.sqrt(2 * strength) * np.std(values) / size) if size else 0.0
    if scale.best_loss and "discriminator_loss" in metrics:
        metrics["implied_accuracy"] = scale.accuracy(metrics["discriminator_loss"])
    elif "discriminator_loss" in metrics:
        # The mean of -D(real) and D(generated) is minus half the gap.
        gap = series.get("logit_gap", -2 * series["discriminator_loss"])
        metrics["critic_gap"], metrics["critic_gap_noise"] = _tail(gap), float(np.std(_last(gap)))
        metrics["critic_gap_before"] = float(np.median(gap[len(gap) // 4 : max(1, len(gap) // 2)]))
    return metrics


# ---- What can be wrong, the most serious first ----


def _nonfinite(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    first = {key: np.flatnonzero(~np.isfinite(values)) for key, values in log.values.items()}
    places = {key: log.positions[key][where[0]] for key, where in first.items() if len(where)}
    if not places:
        return None
    key = min(places, key=places.get)
    value = log.values[key][first[key][0]]
    return Finding("diverged", "severe", f"{key} became {value:g} at {log.axis} {places[key]:g}.")


def _exploded(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    for key in [key for key in LOSSES if key in metrics]:
        level, half = abs(metrics[key]), log.values[key][: len(log.values[key]) // 2]
        if scale.equilibrium and level > EXPLODED * scale.equilibrium:
            evidence = f"{key} is {metrics[key]:.4g}, more than {EXPLODED} times the scale of this loss."
            return Finding("diverged", "severe", evidence)
        if not scale.equilibrium and metrics["points"] >= ENOUGH_POINTS:
            before = float(np.max(np.abs(half[np.isfinite(half)]), initial=0))
            if level > GROWN * max(before, 1):
                evidence = f"{key} is {metrics[key]:.4g} and was at most {before:.4g} in the first half of the log."
                return Finding("diverged", "severe", evidence)
    return None


def _collapsed(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    diversity = metrics.get("sample_diversity")
    if diversity is None or diversity >= COLLAPSED:
        return None
    best = float(np.nanmax(log.values["sample_diversity"]))
    if best < FRESH_DIVERSITY and metrics["points"] < ENOUGH_POINTS:
        return None  # a fresh generator draws nearly the same picture for every input
    return Finding(
        "mode_collapse",
        "severe" if diversity < ALL_ALIKE else "mild",
        f"Samples have {diversity:.0%} of the real pictures' diversity (at best {best:.0%} in this log).",
    )


def _won(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    if metrics.get("implied_accuracy", 0) < WON:
        return None
    evidence = f"{_loss_sentence(metrics, scale)} It has all but won: from {WON:.0%} on the generator learns little."
    return Finding("discriminator_ahead", "severe", evidence)


def _cyclic(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    for key in LOSSES:
        strength, swing = metrics.get(f"{key}_oscillation", 0), metrics.get(f"{key}_swing", 0)
        if strength >= CYCLIC and swing >= SWING:
            steps = np.median(np.diff(log.positions[key])) * metrics[f"{key}_period"]
            evidence = (
                f"{key} goes round in a cycle: {strength:.0%} of its variance comes back every {steps:.3g} {log.axis}s, "
                f"and it swings by {swing:.0%} of its usual size."
            )
            return Finding("oscillating", "severe" if swing >= 1 else "mild", evidence)
    return None


def _ahead(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    if AHEAD < metrics.get("implied_accuracy", 0) < WON:
        evidence = (
            f"{_loss_sentence(metrics, scale)} Good discriminators are held at {AHEAD:.0%} or less. The training has "
            f"not yet collapsed: below {WON:.0%} the generator still has something to learn from."
        )
        return Finding("discriminator_ahead", "mild", evidence)
    gap, before = metrics.get("critic_gap", 0), metrics.get("critic_gap_before", 0)
    if metrics["points"] >= ENOUGH_POINTS and gap > WIDENED * before > 0:
        evidence = (
            f"The critic's gap between real and generated pictures has grown from {before:.3g} to {gap:.3g} since the "
            "second quarter of the log; it shrinks when the generator learns."
        )
        return Finding("discriminator_ahead", "mild", evidence)
    return None


def _behind(log: GANLog, metrics: dict, scale: LossScale) -> Finding | None:
    loss, gap = metrics.get("discriminator_loss", 0), metrics.get("critic_gap", 0)
    if scale.equilibrium and loss > BEHIND * scale.equilibrium:
        severity = "severe" if loss > FAR_BEHIND * scale.equilibrium else "mild"
        evidence = (
            f"The discriminator's loss is {loss:.3f}; one that only guesses has {scale.equilibrium:.3f}. "
            "It is wrong more often than right, or fooled with confidence."
        )
        return Finding("generator_ahead", severity, evidence)
    if gap < -metrics.get("critic_gap_noise", 0):
        return Finding("generator_ahead", "mild", f"The critic scores generated pictures {-gap:.3g} above real ones.")
    return None


CHECKS: tuple[Callable[[GANLog, dict, LossScale], Finding | None], ...] = (
    _nonfinite,
    _exploded,
    _collapsed,
    _won,
    _cyclic,
    _ahead,
    _behind,
)


# ---- What the log says besides ----


def _loss_sentence(metrics: dict, scale: LossScale) -> str:
    return (
        f"The discriminator's loss is {metrics['discriminator_loss']:.3f} ({scale.equilibrium:.3f} at the equilibrium, "
        f"{scale.floor:.3f} when it is never wrong), which stands for {metrics['implied_accuracy']:.0%} right answers."
    )


def circumstances(log: GANLog, metrics: dict, scale: LossScale) -> list[str]:
    """Sentences on everything that was logged and is not a finding."""
    sentences = []
    if metrics.get("discriminator_loss", scale.floor) < scale.floor:
        sentences.append("That is less than this loss can be: the run was probably trained with another loss_type.")
    balanced = metrics.get("implied_accuracy", 1) <= AHEAD
    if balanced and metrics["discriminator_loss"] <= BEHIND * scale.equilibrium:
        sentences.append(_loss_sentence(metrics, scale))
    if "critic_gap" in metrics:
        sentences.append(f"The critic's gap between real and generated pictures is {metrics['critic_gap']:.3g}.")
    elif "logit_gap" in metrics:
        sentences.append(f"The mean logit of real minus that of generated pictures is {metrics['logit_gap']:.3g}.")
    if scale.generator is not None and "generator_loss" in metrics:
        loss = metrics["generator_loss"]
        side = "above" if loss > scale.generator else "not above"
        sentences.append(f"The generator's loss is {loss:.3f}, {side} the {scale.generator:.3f} of the equilibrium.")
    if scale.logit_sign and {"real_accuracy", "fake_accuracy"} <= set(metrics):
        sentences.append(
            f"The discriminator is right on {metrics['real_accuracy']:.0%} of real and {metrics['fake_accuracy']:.0%} "
            "of generated pictures."
        )
    sentences += _drift(log, scale)
    if {"generator_grad_norm", "discriminator_grad_norm"} <= set(metrics):
        norms = {name: metrics[f"{name}_grad_norm"] for name in ("generator", "discriminator")}
        low, high = sorted(norms, key=norms.get)
        stands = f"; the {low} hardly moves" if norms[low] * UNEQUAL_GRADIENTS < norms[high] else ""
        text = " and ".join(f"{norm:.3g} ({name})" for name, norm in norms.items())
        sentences.append(f"The gradients' norms are {text}{stands}.")
    if "spectral_norm" in metrics:
        first, last = log.values["spectral_norm"][0], metrics["spectral_norm"]
        grown = "; such growth comes before a collapse" if last > GROWN_SPECTRAL_NORM * first else ""
        sentences.append(f"The discriminator's largest spectral norm went from {first:.3g} to {last:.3g}{grown}.")
    diversity = metrics.get("sample_diversity")
    if diversity is None:
        sentences.append("sample_diversity was not logged, and mode collapse does not show in losses.")
    elif diversity >= COLLAPSED:
        missing = "; look whether classes are missing" if diversity < NARROW else ""
        sentences.append(f"Samples have {diversity:.0%} of the real pictures' diversity{missing}.")
    elif metrics["points"] < ENOUGH_POINTS:
        sentences.append(
            f"Samples have {diversity:.0%} of the real pictures' diversity: a fresh generator has no more."
        )
    if metrics["points"] < LEAST_POINTS:
        sentences.append(f"Number of logged losses: {metrics['points']}; a cycle shows from {LEAST_POINTS} on.")
    return sentences


def _drift(log: GANLog, scale: LossScale) -> list[str]:
    """Losses that still change, by a line through the last half of the log."""
    sentences = []
    for key in LOSSES:
        values = log.values[key][len(log.values[key]) // 2 :]
        if len(values) < ENOUGH_POINTS or not np.isfinite(values).all():
            continue
        line = np.polyval(np.polyfit(np.arange(len(values)), values, 1), np.arange(len(values)))
        change, noise = line[-1] - line[0], np.std(values - line)
        if abs(change) > max(DRIFT * max(scale.equilibrium, abs(line[0])), noise):
            way = "rose" if change > 0 else "fell"
            sentences.append(f"{key} {way} from {line[0]:.3g} to {line[-1]:.3g} over the last half of the log.")
    return sentences
