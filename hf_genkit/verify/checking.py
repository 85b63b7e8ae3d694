"""From a repository to checked claims."""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..evaluation import text_table
from ..hub import Claim, read_claims
from ..trainers.tasks import AUTO_CLASSES
from .pictures import measure_pictures
from .repository import LocalCopy, fetch
from .settings import Settings
from .tasks import measure_task, measure_teacher
from .verdict import Check, tolerance_of


PICTURE_TASKS = ("unconditional-image-generation", "text-to-image", "image-to-image")
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
    """

    repo: str
    commit: str | None
    device: str
    checks: list[Check] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every claim that was checked agrees."""
        return all(check.agrees for check in self.checks)

    def text(self) -> str:
        """The table and what was left out."""
        at = "a local folder" if self.commit is None else f"commit {self.commit}"
        head = f"{self.repo} ({at}), measured on {self.device}:"
        left_out = [f"Not checked: {reason}." for reason in self.not_checked]
        wrong = [check.name for check in self.checks if not check.agrees]
        verdict = "Every figure agrees." if not wrong else f"Not as claimed: {', '.join(wrong)}."
        return "\n".join([head, "", text_table([check.row() for check in self.checks]), "", *left_out, verdict])

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
            f"The card of '{repo}' has figures but doesn't say how they were measured, as cards of an earlier hf_genkit and "
            "of other tools: evaluate the model and write its card again."
        )
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            Path(folder), dataset_names or [], base_model, feature_extractor, trust_remote_code, use_cpu
        )
        found = Verification(repo, copy.commit, str(settings.device))
        known = [claim for claim in claims if _is_known(claim, found)]
        for group in _groups(known):
            _check(group, copy, settings, tolerances or {}, found)
    if not found.checks:
        raise ValueError(f"Nothing on the card of '{repo}' can be checked: {'; '.join(found.not_checked)}.")
    found.not_checked.append(OTHERS)
    return found


def _is_known(claim: Claim, found: Verification) -> bool:
    """Whether a claim can be checked; else the reason is noted."""
    result = claim.result
    if not claim.can_be_checked:
        reason = "it can't be measured again with what is published"
    elif claim.task not in (*AUTO_CLASSES, *PICTURE_TASKS):
        reason = f"models for {claim.task} are not measured here"
    else:
        return True
    found.not_checked.append(f"{result.name or result.metric}: {reason}")
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
    makes_pictures = group[0].task in PICTURE_TASKS
    measured = (measure_pictures if makes_pictures else measure_task)(group, copy, settings)
    for claim in group:
        result = claim.result
        name = result.name or result.metric
        if result.metric not in measured:
            found.not_checked.append(f"{name}: '{result.metric}' is not among what is measured")
            continue
        tolerance = tolerance_of(claim, tolerances, rough="dtype" in result.args or "bits" in result.args)
        value = measured[result.metric]
        found.checks.append(Check(name, result.metric, result.value, value, tolerance, result.interval))
        if "teacher" in result.args:
            taught = result.args["teacher_value"]
            value = measure_teacher(claim, settings)
            name = f"{name} of the teacher {result.args['teacher']}"
            found.checks.append(Check(name, result.metric, taught, value, tolerance))
