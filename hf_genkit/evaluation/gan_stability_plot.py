"""The course of a GAN's training as one picture."""

from pathlib import Path

import numpy as np

from .curves import COLORS
from .figures import save_figure
from .gan_log import GANLog
from .gan_scales import GAN_SCALES


# Title, the series with their legends, and a value to compare with and its legend.
PROBE_PANELS = [
    (
        "Discriminator accuracy",
        {"real_accuracy": "on real pictures", "fake_accuracy": "on generated ones"},
        (0.5, "guessing"),
    ),
    ("Logit gap, real minus generated", {"logit_gap": "logit gap"}, (0, "no difference")),
    ("Gradient norms", {"generator_grad_norm": "generator", "discriminator_grad_norm": "discriminator"}, None),
    ("Diversity of samples", {"sample_diversity": "samples"}, (1, "real pictures")),
    ("Largest spectral norm of the discriminator", {"spectral_norm": "spectral norm"}, None),
]
LOSS_LABELS = {"generator_loss": "generator", "discriminator_loss": "discriminator"}


def plot_stability(log: GANLog, loss_type: str, title: str, path: str | Path) -> None:
    """
    Draws the losses with their equilibrium, and a panel for each group of probes that was logged.

    Args:
        log (`GANLog`): What to draw.
        loss_type (`str`): The loss whose equilibrium is drawn.
        title (`str`): A line above the panels.
        path (`str` or `Path`): The picture to write; it appears when it is complete.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    logged = set(log.values)
    if not GAN_SCALES[loss_type].logit_sign:
        logged -= {"real_accuracy", "fake_accuracy"}
    panels = [panel for panel in PROBE_PANELS if set(panel[1]) & logged]
    columns = 1 if not panels else 2
    rows = -(-(1 + len(panels)) // columns)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(4 + 4 * columns, 0.6 + 3.2 * rows), dpi=120, layout="constrained")
        figure.suptitle(title)
        loss_axes, *probe_axes = figure.subplots(rows, columns, squeeze=False).flat
        _draw(loss_axes, log, "Losses", LOSS_LABELS)
        _draw_equilibrium(loss_axes, loss_type)
        for axes, (name, labels, reference) in zip(probe_axes, panels, strict=False):
            _draw(axes, log, name, labels)
            if reference is not None:
                value, label = reference
                axes.axhline(value, color="0.4", linestyle="--", linewidth=1, label=label)
            axes.legend()
        for axes in probe_axes[len(panels) :]:
            axes.set_axis_off()
        save_figure(figure, path)


def _draw(axes, log: GANLog, title: str, labels: dict[str, str]) -> None:
    for color, (key, label) in zip(COLORS, labels.items(), strict=False):
        if key in log.values:
            values = np.where(np.isfinite(log.values[key]), log.values[key], np.nan)
            marker = "o" if len(values) <= 30 else None
            axes.plot(
                log.positions[key], values, color=color, marker=marker, markersize=3.5, linewidth=1.2, label=label
            )
    axes.set_title(title)
    axes.set_xlabel(log.axis)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_equilibrium(axes, loss_type: str) -> None:
    scale = GAN_SCALES[loss_type]
    lines = (
        {scale.equilibrium: "both"}
        if scale.generator == scale.equilibrium
        else {scale.equilibrium: "discriminator", scale.generator: "generator"}
    )
    for (value, name), color in zip(lines.items(), (COLORS[1], COLORS[0]), strict=False):
        if value is not None:
            axes.axhline(value, color=color, linestyle="--", linewidth=1, label=f"equilibrium, {name} ({value:.3g})")
    axes.legend()
