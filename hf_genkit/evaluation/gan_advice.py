"""What to change when a GAN's training goes wrong, in terms of this package's options."""

# Losses whose gradient does not fade when the discriminator wins, in the order in which they are suggested.
STEADY_LOSSES = ("wgan_gp", "least_squares", "ganetic")

GRADIENT_PENALTY = (
    'Regularise the discriminator: r1_gamma=1 (more for larger pictures) or discriminator_norm="spectral".'
)
BIGGER_BATCH = "Use a bigger batch, so that both networks see less noise: per_device_train_batch_size."


def suggest(verdict: str, loss_type: str) -> list[str]:
    """
    Changes to try, the most promising first.

    Args:
        verdict (`str`): One of [`StabilityVerdict`]'s.
        loss_type (`str`): The loss that the run was trained with; it is not suggested again.

    Returns:
        `list[str]`: Sentences.
    """
    return ADVICE[verdict](loss_type)


def _another_loss(loss_type: str, why: str, losses: tuple[str, ...] = STEADY_LOSSES) -> str:
    names = [f'loss_type="{name}"' for name in losses if name != loss_type]
    return f"Try another loss, {why}: {' or '.join(names)}."


def _discriminator_ahead(loss_type: str) -> list[str]:
    another = _another_loss(loss_type, "one whose gradient does not fade as the discriminator wins")
    first = (
        [another, GRADIENT_PENALTY] if loss_type in ("non_saturating", "saturating") else [GRADIENT_PENALTY, another]
    )
    if loss_type == "wgan":
        first = ['Hold the critic back with a gradient penalty instead of clipped weights: loss_type="wgan_gp".']
    if loss_type == "wgan_gp":
        first = ["Hold the critic back with a stronger penalty: gradient_penalty=20 or more (the default is 10)."]
    return [
        *first,
        "Slow the discriminator: halve discriminator_learning_rate, with the smallest n_critic that still works (1 is the least).",
        'With few training pictures (under about 10,000) it learns them by heart: discriminator_augmentation="ada".',
        BIGGER_BATCH,
    ]


def _generator_ahead(loss_type: str) -> list[str]:
    return [
        'Let the discriminator keep up: n_critic=2 or more (5 for loss_type="wgan_gp"), or double '
        "discriminator_learning_rate.",
        "Regularise it less: a smaller r1_gamma, no discriminator_norm, weaker augmentation.",
        "Give it more width or depth: it should not be smaller than the generator.",
    ]


def _mode_collapse(loss_type: str) -> list[str]:
    return [
        "Go back to the last checkpoint whose samples were diverse; a collapsed generator rarely recovers.",
        _another_loss(
            loss_type, "one that compares distributions or pairs", ("relativistic", "wgan_gp", "ganetic", "hinge")
        ),
        GRADIENT_PENALTY,
        "Slow the generator (halve learning_rate) or train the discriminator more (n_critic=2).",
        BIGGER_BATCH,
    ]


def _oscillating(loss_type: str) -> list[str]:
    return [
        "Damp the cycle: r1_gamma=1 pulls the discriminator's gradient on real pictures to zero, which makes training "
        "converge near the equilibrium.",
        "Lower learning_rate and discriminator_learning_rate, and take no momentum (adam_beta1=0).",
        _another_loss(loss_type, "with a penalty (r1_gamma and r2_gamma, or its own)", ("relativistic", "wgan_gp")),
        "Judge and publish the averaged generator (ema_decay), which cancels a part of the cycle.",
        BIGGER_BATCH,
    ]


def _diverged(loss_type: str) -> list[str]:
    return [
        "Resume from the last checkpoint before it, with learning_rate and discriminator_learning_rate at a half or less.",
        "Limit the gradients (max_grad_norm=1, discriminator_max_grad_norm=1) and train in bf16 or fp32 rather than fp16.",
        'Keep the discriminator smooth: discriminator_norm="spectral", r1_gamma=1, or loss_type="wgan_gp".',
    ]


def _too_short(loss_type: str) -> list[str]:
    return ["Train on, or log more often (logging_steps), and analyse again."]


def _healthy(loss_type: str) -> list[str]:
    return [
        "Nothing to change in the balance. Losses don't measure pictures: choose the checkpoint by a Frechet distance "
        "and by looking at samples."
    ]


ADVICE = {
    "diverged": _diverged,
    "mode_collapse": _mode_collapse,
    "discriminator_ahead": _discriminator_ahead,
    "generator_ahead": _generator_ahead,
    "oscillating": _oscillating,
    "too_short": _too_short,
    "healthy": _healthy,
}
