"""Whether a GAN's training is healthy, and if not what is wrong and what to change, from what was logged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import TrainerState

from ..arguments import check_choice
from .gan_advice import suggest
from .gan_findings import CHECKS, ENOUGH_POINTS, circumstances, measure
from .gan_log import GANLog, read_gan_log
from .gan_scales import GAN_SCALES
from .gan_stability_plot import plot_stability


@dataclass
class StabilityVerdict:
    """
    What [`analyze_gan_stability`] found. `str()` gives it as text, with evidence and suggestions.

    Args:
        verdict (`str`): The most serious of:

            | verdict               | meaning                                                                         |
            |-----------------------|---------------------------------------------------------------------------------|
            | `diverged`            | a logged value is NaN or infinite, or losses have exploded                      |
            | `mode_collapse`       | samples have lost their diversity                                               |
            | `discriminator_ahead` | it tells real from generated too well; when severe, the generator learns little |
            | `oscillating`         | losses go round in a cycle instead of settling                                  |
            | `generator_ahead`     | the discriminator is worse than guessing, so its gradient teaches nothing       |
            | `too_short`           | nothing is wrong, but there are too few values to call it healthy               |
            | `healthy`             | the two are in balance; this says nothing of the pictures' quality              |

        severity (`str`): `"none"`, `"mild"` (act before it gets worse) or `"severe"` (training on is in vain).
        evidence (`list[str]`): Sentences with the numbers behind it, the decisive first.
        suggestions (`list[str]`): What to change, the most promising first.
        metrics (`dict[str, float]`): The numbers themselves, those that could be computed.
        loss_type (`str`): The loss that the run was trained with.
        log (`GANLog`): The series that were judged.
    """

    verdict: str
    severity: str
    evidence: list[str]
    suggestions: list[str]
    metrics: dict[str, float]
    loss_type: str
    log: GANLog = field(repr=False)

    @property
    def title(self) -> str:
        """The verdict in words, such as "discriminator ahead (mild)"."""
        words = self.verdict.replace("_", " ")
        return words if self.severity == "none" else f"{words} ({self.severity})"

    def __str__(self) -> str:
        evidence = "\n".join(f"  - {sentence}" for sentence in self.evidence)
        suggestions = "\n".join(f"  {number}. {sentence}" for number, sentence in enumerate(self.suggestions, 1))
        return (
            f'GAN training with loss_type="{self.loss_type}": {self.title}\n'
            f"Evidence:\n{evidence}\nWhat to change, the most promising first:\n{suggestions}"
        )

    def plot(self, path: str | Path) -> None:
        """
        Draws the losses with their equilibrium, and each group of probes that was logged.

        Args:
            path (`str` or `Path`): The picture to write, such as stability.png.
        """
        plot_stability(self.log, self.loss_type, f"{self.loss_type}: {self.title}", path)


def analyze_gan_stability(
    generator_losses: float | Sequence[float] | str | Path | Mapping | TrainerState | None = None,
    discriminator_losses: float | Sequence[float] | None = None,
    *,
    loss_type: str = "non_saturating",
    trainer_state: str | Path | Mapping | TrainerState | Sequence[Mapping] | None = None,
) -> StabilityVerdict:
    """
    Judges the training of a GAN by its end and by its course.

    Losses alone show who is ahead, a divergence or a cycle. Mode collapse shows in `sample_diversity` only.

    Args:
        generator_losses (`float` or sequence of `float`, *optional*):
            The generator's loss in the order of training. A trainer state may stand here as well.
        discriminator_losses (`float` or sequence of `float`, *optional*):
            The discriminator's: the mean of its term for real and its term for generated pictures, without penalties.
            As in `GAN_LOSSES`, least squares are halved (0.125 at the equilibrium).
            It may have another length (as with several discriminator steps for one of the generator).
        loss_type (`str`, *optional*, defaults to `"non_saturating"`):
            The loss that both belong to, a key of `hf_genkit.losses.gan.GAN_LOSSES`.
        trainer_state (`str`, `Path`, `dict`, `TrainerState` or `list[dict]`, *optional*):
            Instead of the lists: a trainer_state.json, the folder of a run or checkpoint, the state itself or its
            `log_history`. Keys that are read: `generator_loss`, `discriminator_loss`; and if logged `real_accuracy`
            (share of positive logits among real pictures), `fake_accuracy` (of negative ones among generated),
            `logit_gap` (mean logit of real minus generated), `generator_grad_norm`, `discriminator_grad_norm`,
            `sample_diversity` (1 = as diverse as real pictures), `spectral_norm` (largest of the discriminator).

    Returns:
        [`StabilityVerdict`]

    Raises:
        `ValueError`: if a loss is missing, empty or no number, or `loss_type` is unknown.
        `FileNotFoundError`: if there is no trainer state at a path.

    Example:

    ```python
    >>> verdict = analyze_gan_stability(0.8, 0.4)
    >>> verdict.verdict
    'discriminator_ahead'
    ```
    """
    check_choice("loss_type", loss_type, list(GAN_SCALES))
    scale = GAN_SCALES[loss_type]
    log = read_gan_log(generator_losses, discriminator_losses, trainer_state)
    metrics = measure(log, scale)
    findings = [finding for check in CHECKS if (finding := check(log, metrics, scale))]
    if findings:
        verdict, severity = findings[0].verdict, findings[0].severity
    else:
        verdict, severity = ("too_short" if metrics["points"] < ENOUGH_POINTS else "healthy"), "none"
    evidence = [finding.evidence for finding in findings] + circumstances(log, metrics, scale)
    return StabilityVerdict(verdict, severity, evidence, suggest(verdict, loss_type), metrics, loss_type, log)
