import re

import numpy as np
import pytest

from hf_genkit.report import Chart, Series, Table


@pytest.mark.parametrize(
    ("rows", "best", "message"),
    [
        ([{"FD": 1.0}], {"FID": "low"}, "marks the best of 'FID', which is none of its columns"),
        ([{"FD": 1.0}], {"FD": "lowest"}, "is 'lowest', but it must be one of high, low"),
        ([{"FD": np.float32(1)}], {}, "has np.float32(1.0) in 'FD', but a cell must be a text, a number or None"),
        ([{"FD": [1.0]}], {}, r"has [1.0] in 'FD', but a cell must be a text"),
    ],
)
def test_a_table_that_cannot_be_shown_is_refused(rows, best, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Table("Scores", rows, best=best)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": ["a"]}, "'x' has 2 points, but 1 labels"),
        ({"low": [1.0], "high": [1.0]}, "'x' has 2 points, but 1 low ends"),
        ({"low": [1.0, 2.0]}, "'x' has 2 low ends, but 0 high ends"),
    ],
)
def test_ends_or_labels_that_do_not_belong_to_the_points_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Series("x", [(0, 1), (1, 2)], **values)


@pytest.mark.parametrize(("axis", "point"), [("x", (0, 1)), ("y", (1, -2.5))])
def test_a_logarithmic_axis_refuses_what_it_cannot_show(axis, point):
    with pytest.raises(ValueError, match=f"'Time' has a logarithmic {axis} axis, but 'a' holds {min(point):g}"):
        Chart("Time", "s", "FD", [Series("a", [(1, 1), (float("nan"), 1), point])], **{f"log_{axis}": True})


def test_an_unknown_kind_of_chart_is_refused():
    with pytest.raises(ValueError, match="`kind` is 'bar', but it must be one of line, scatter"):
        Chart("Time", "s", "FD", [], kind="bar")
