"""From a repository to checked claims."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..compress.chain_report import FORM
from ..evaluation import text_table
from ..hub import Claim, read_claims
from ..trainers.claim_arguments import ANOMALY_METRICS, PICTURES, kind_of
from ..trainers.tasks import AUTO_CLASSES
from .anomalies import measure_anomalies
from .pictures import measure_pictures
from .repository import LocalCopy, fetch
from .settings import Settings
from .tasks import measure_task, measure_teacher
from .verdict import Check, tolerance_of


logger = logging.getLogger(__name__)

PICTURE_TASKS = ("unconditional-image-generation", "text-to-image", "image-to-image")
WHY_NOT = {
    "loss": "it compares the student with networks of its training, which are not published",
    PICTURES: "what judged the pictures was never saved, so its features are not published",
}
"""By kind of metric, for figures without arguments beside others that have some."""
FEWER_BITS = ("bits", "dtype", FORM)
OTHERS = "figures in the card's text about other models and other seeds: only its model-index speaks of these weights"


@dataclass
class Verification:
    """
    What came out.

    Args:
        repo (`str`): What was checked.
        commit (`str`, *optional*): Its commit; `None` for a folder.
        device (`str`): Where was measured.
        checks (`list[Check]`): Each claim beside what was measured.
        not_checked (`list[str]`): What was left out, and why.
        failed (`dict[str, list[str]]`): Names of figures that the card says how to measure, and that could not be; by reason.
    """

    repo: str
    commit: str | None
    device: str
    checks: list[Check] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)

    @contextmanager
    def noting(self, *names: str) -> Iterator[None]:
        """Notes why these figures could not be measured: what is wrong with a stranger's files, each library says by its own exceptions."""
        try:
            yield
        except Exception as error:
            logger.debug("It can't be checked.", exc_info=True)
            kind = "" if isinstance(error, ImportError | OSError | ValueError) else f"{type(error).__name__}: "
            self.failed.setdefault(kind + " ".join(str(error).split()), []).extend(names)

    @property
    def agrees(self) -> bool:
        """Whether every claim that was checked agrees."""
        return all(check.agrees for check in self.checks)

    def text(self) -> str:
        """The table and what was left out."""
        at = "a local folder" if self.commit is None else f"commit {self.commit}"
        head = f"{self.repo} ({at}), measured on {self.device}:"
        left_out = [f"Not checked: {reason}." for reason in self.not_checked]
        if any(check.agrees and check.over_seeds and check.is_in_interval is False for check in self.checks):
            left_out.append(
                "Outside: an interval over seeds is of their mean, which the weights of one seed may miss."
            )
        wrong = [check.name for check in self.checks if not check.agrees]
        every = "Every figure that was checked agrees." if self.failed else "Every figure agrees."
        verdict = every if not wrong else f"Not as claimed: {', '.join(wrong)}."
        rows = [check.row() for check in self.checks]
        columns = dict.fromkeys(name for row in rows for name in row)
        table = text_table([{name: row.get(name, "") for name in columns} for row in rows])
        return "\n".join([head, "", table, "", *left_out, verdict])

    def to_dict(self) -> dict:
        """The same for JSON."""
        checks = [
            asdict(check) | {"agrees": check.agrees, "is_in_interval": check.is_in_interval} for check in self.checks
        ]
        return {**asdict(self), "checks": checks, "agrees": self.agrees}


def verify_card(
    repo: str,
    revision: str | None = None,
    *,
    dataset_names: list[str] | None = None,
    base_model: str | None = None,
    feature_extractor: str | None = None,
    tolerances: dict[str, float] | None = None,
    trust_remote_code: bool = False,
    use_cpu: bool = False,
) -> Verification:
    """
    Measures again what a model's card claims. Files are data alone: neither pickles nor, unless `trust_remote_code` is
    set, code of the repository are loaded.

    Args:
        repo (`str`): Hub id or local folder of the model.
        revision (`str`, *optional*): Commit, tag or branch; defaults to the main branch.
        dataset_names (`list[str]`, *optional*):
            Local folders or Hub ids of data to measure on instead of those that the card names: they must hold the same
            samples.
        base_model (`str`, *optional*): Hub id or local folder of an adapter's base, instead of the recorded one.
        feature_extractor (`str`, *optional*): Hub id or local folder of what judged pictures, where it isn't on the Hub.
        tolerances (`dict[str, float]`, *optional*):
            Largest difference by metric, such as `{"accuracy": 0.01}`; under "" that of all others.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run modeling code from the repository.
        use_cpu (`bool`, *optional*, defaults to `False`): Whether to leave an accelerator alone.

    Returns:
        [`Verification`]

    Raises:
        `ValueError`: with one sentence, where nothing can be checked: no such repository, no claims, claims that don't say
            how they were measured, or data that are not to be had.
    """
    copy = fetch(repo, revision, trust_remote_code=trust_remote_code)
    claims = read_claims(copy.card())
    if not claims:
        raise ValueError(f"The card of '{repo}' claims no figures, so there is nothing to check.")
    if not any(claim.dataset.args for claim in claims):
        raise ValueError(
            f"The card of '{repo}' has figures but doesn't say how they were measured, as cards of other tools and of trainers "
            "that are called from Python: cards of hf_genkit's recipes do."
        )
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            Path(folder), dataset_names or [], base_model, feature_extractor, trust_remote_code, use_cpu
        )
        found = Verification(repo, copy.commit, str(settings.device))
        known = [claim for claim in claims if _is_known(claim, found)]
        for group in _groups(known):
            with found.noting(*(name_of(claim) for claim in group)):
                _check(group, copy, settings, tolerances or {}, found)
        for claim in known:
            if "teacher" in claim.result.args:
                with found.noting(f"{name_of(claim)} of the teacher"):
                    _check_teacher(claim, settings, tolerances or {}, found)
    if not found.checks:
        reasons = [*found.failed, *found.not_checked]
        together = "; ".join(reason.rstrip(".") for reason in reasons)
        raise ValueError(reasons[0] if len(reasons) == 1 else f"nothing on the card of '{repo}' can be: {together}.")
    found.not_checked.append(OTHERS)
    return found


def name_of(claim: Claim) -> str:
    """What people call a figure."""
    return claim.result.name or claim.result.metric


def _is_known(claim: Claim, found: Verification) -> bool:
    """Whether a claim can be checked; else the reason is noted."""
    if claim.task not in (*AUTO_CLASSES, *PICTURE_TASKS):
        reason = f"models for {claim.task} are not measured here"
    elif claim.can_be_checked:
        return True
    else:
        reason = WHY_NOT.get(kind_of(claim.result.metric), "the card doesn't say how it was measured")
    found.not_checked.append(f"{name_of(claim)}: {reason}")
    return False


def _groups(claims: list[Claim]) -> Iterator[list[Claim]]:
    """Claims that are measured together: of the same data and arguments, in the card's order."""
    groups: dict[str, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(repr((claim.task, claim.dataset, claim.result.args)), []).append(claim)
    yield from groups.values()


def _check(
    group: list[Claim], copy: LocalCopy, settings: Settings, tolerances: dict[str, float], found: Verification
) -> None:
    claim = group[0]
    measure = measure_pictures if claim.task in PICTURE_TASKS else measure_task
    if measure is measure_pictures and claim.result.metric in ANOMALY_METRICS:
        measure = measure_anomalies
    measured = measure(group, copy, settings)
    for claim in group:
        result = claim.result
        if result.metric not in measured:
            found.not_checked.append(f"{name_of(claim)}: '{result.metric}' is not among what is measured")
            continue
        value, tolerance = measured[result.metric], allowed(claim, tolerances)
        interval = (result.interval, bool(result.seeds))
        found.checks.append(Check(name_of(claim), result.metric, result.value, value, tolerance, *interval))


def _check_teacher(claim: Claim, settings: Settings, tolerances: dict[str, float], found: Verification) -> None:
    """The score of the teacher that a distilled student's claim names."""
    result, args = claim.result, claim.result.args
    value, name = measure_teacher(claim, settings), f"{name_of(claim)} of the teacher {args['teacher']}"
    found.checks.append(Check(name, result.metric, args["teacher_value"], value, allowed(claim, tolerances)))


def allowed(claim: Claim, given: dict[str, float]) -> float:
    """The tolerance of a claim, more where its arguments tell of fewer bits, see [`~hf_genkit.verify.verdict.tolerance_of`]."""
    return tolerance_of(claim, given, rough=not claim.result.args.keys().isdisjoint(FEWER_BITS))
