"""
A claimed figure beside the measured one: how far apart they may be, and the table that shows both.

How tolerances were chosen: everything is drawn with the card's seed and noise belongs to the sample, so on like hardware
the two are equal to the last digits. What remains is the arithmetic of other hardware. It moves a mean loss by less than
one part in a thousand; a sample on the border between two classes, or two, to the other side; a transcript by a word; and
pictures that are drawn in many steps by a little, which a distance between features shows as about a hundredth.
"""

from dataclasses import dataclass

from ..hub import Claim
from ..trainers.claim_arguments import PICTURES, kind_of


# What a figure may differ by: a share of it, and at least so much.
TOLERANCES = {
    "accuracy": (1e-3, 0.0),
    "f1": (5e-3, 0.0),
    "perplexity": (1e-3, 0.0),
    "loss": (1e-3, 1e-6),
    "nll": (1e-3, 1e-6),
    "wer": (1e-2, 2e-3),
    "psnr": (5e-3, 0.0),
    "psnr_bicubic": (1e-3, 0.0),
    "fd": (2e-2, 1e-3),
    "kid": (2e-2, 1e-3),
}
SHARE = (2e-2, 1e-2)
"""Of precision, recall, density and coverage, of the area under a curve, and of shares above a threshold."""
ROUGH = 5
"""How many times more is allowed where the model computes in fewer bits."""
FLIPS = 2
"""So many samples near a class's border may change sides."""


@dataclass(frozen=True)
class Check:
    """
    A claim and what was measured.

    Args:
        name (`str`): What people call the figure.
        metric (`str`): Its metric.
        claimed (`float`): What the card says.
        measured (`float`): What was measured.
        tolerance (`float`): How far apart the two may be.
        interval (`tuple[float, float]`, *optional*): The interval that the card states.
        over_seeds (`bool`, *optional*, defaults to `False`): Whether that is the interval of a mean over seeds.
    """

    name: str
    metric: str
    claimed: float
    measured: float
    tolerance: float
    interval: tuple[float, float] | None = None
    over_seeds: bool = False

    @property
    def agrees(self) -> bool:
        """Whether the two are no further apart than allowed; nothing agrees with NaN."""
        return abs(self.claimed - self.measured) <= self.tolerance

    @property
    def is_in_interval(self) -> bool | None:
        """Whether the measured value lies in the card's interval, if it states one."""
        return None if self.interval is None else self.interval[0] <= self.measured <= self.interval[1]

    def row(self) -> dict[str, str]:
        """The check as a row of a table."""
        row = {
            "Figure": self.name,
            "Claimed": f"{self.claimed:.6g}",
            "Measured": f"{self.measured:.6g}",
            "Tolerance": f"{self.tolerance:.2g}",
            "Verdict": "agrees" if self.agrees else "DIFFERS",
        }
        if self.interval is not None:
            ends = " to ".join(f"{end:.4g}" for end in self.interval)
            row["Stated interval"] = f"{ends}: {'inside' if self.is_in_interval else 'outside'}"
        return row


def tolerance_of(claim: Claim, given: dict[str, float], rough: bool = False) -> float:
    """
    How far a measured value may be from a claim.

    Args:
        claim ([`~hf_genkit.hub.Claim`]): The claim.
        given (`dict[str, float]`): What the user allows, by metric ("accuracy", "fd") or for all (""), as a difference.
        rough (`bool`, *optional*, defaults to `False`): Whether the model computes in fewer bits than float32.
    """
    result, short = claim.result, claim.result.metric
    if kind_of(short) == PICTURES:
        short = short.partition("_")[0]
    if short in given or "" in given:
        return given.get(short, given.get(""))
    share, least = TOLERANCES.get(short, SHARE)
    allowed = max(share * abs(result.value), least) * (ROUGH if rough else 1)
    if short == "accuracy" and claim.dataset.samples:
        allowed = max(allowed, FLIPS / claim.dataset.samples)
    return allowed * (1 + 1e-6)  # 2 of 500 samples are 0.004, as nearly as numbers are
