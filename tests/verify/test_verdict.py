"""How far a measured value may be from a claim."""

import math

import pytest

from hf_genkit.hub import Claim, DatasetFacts, Result
from hf_genkit.verify import Check
from hf_genkit.verify.verdict import tolerance_of


def tolerance(metric: str, value: float, given=None, samples=None, rough=False) -> float:
    return tolerance_of(Claim("task", DatasetFacts("x", samples=samples), Result(metric, value)), given or {}, rough)


def test_two_samples_may_change_sides_and_not_three():
    allowed = tolerance("accuracy", 0.9, samples=500)
    assert Check("", "accuracy", 450 / 500, 452 / 500, allowed).agrees
    assert not Check("", "accuracy", 450 / 500, 453 / 500, allowed).agrees
    assert tolerance("accuracy", 0.9, samples=10_000) == pytest.approx(0.0009, rel=1e-3)


def test_drawn_pictures_are_allowed_more_than_what_is_counted():
    assert tolerance("perplexity", 20.0) == pytest.approx(0.02, rel=1e-3)
    assert tolerance("fd_dinov2_s_56", 100.0) == pytest.approx(2, rel=1e-3)
    assert tolerance("kid_dinov2_s", 0.0) == pytest.approx(1e-3, rel=1e-3)
    assert tolerance("recall_dinov2_s", 0.1) == pytest.approx(0.01, rel=1e-3)
    assert tolerance("perplexity", 20.0, rough=True) == pytest.approx(0.1, rel=1e-3)


def test_what_the_user_allows_counts_instead():
    assert tolerance("fd_dinov2_s", 100.0, {"fd": 7.0, "": 1.0}) == 7.0
    assert tolerance("accuracy", 0.5, {"fd": 7.0, "": 1.0}, samples=10) == 1.0
    assert tolerance("accuracy", 0.5, {"accuracy": 0.0}, samples=10) == 0.0


def test_nothing_agrees_with_nan():
    assert not Check("", "loss", 1.0, math.nan, 1e9).agrees


def test_the_stated_interval_is_compared_with_what_was_measured():
    inside, outside = (Check("Accuracy", "accuracy", 0.5, value, 1.0, (0.4, 0.6)) for value in (0.45, 0.65))
    assert (inside.is_in_interval, outside.is_in_interval) == (True, False)
    assert outside.row()["Stated interval"] == "0.4 to 0.6: outside"
    assert Check("", "", 0, 0, 0).is_in_interval is None
