import pytest

from hf_genkit.report import Table
from hf_genkit.report.tables import columns_of, number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.85376, "0.8538"), (0.0, "0"), (1e-5, "1e-05"), (12345.6, "12,346"), (3.1e9, "3,100,000,000"), (1287345, "1,287,345"),
        (True, "yes"), (False, "no"), (float("nan"), "nan"), (float("inf"), "inf"), (-2.5, "-2.5"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_never_lose_their_size(value, text):
    assert number_text(value) == text


def test_numbers_of_a_column_have_the_same_decimals():
    table = Table("x", [{"FD": 0.8538, "KID": 1e-6}, {"FD": 5.87, "KID": 0.5}, {"FD": float("nan")}])
    fd, kid = columns_of(table)
    assert fd.cells == ["0.8538", "5.8700", "nan"]
    assert kid.cells == ["1e-06", "0.5", ""]


@pytest.mark.parametrize(
    ("values", "direction", "best"),
    [
        ([0.5, 0.2, 0.2], "low", {1, 2}),
        ([0.5, 0.2, None], "high", {0}),
        ([float("nan"), 0.2, 0.5], "low", {1}),
        (["0.5 (0.1 to 0.9)", "0.55 (0.5 to 0.6)", ""], "high", {1}),
        (["136,138", "18,218", "n/a"], "low", {1}),
        (["0.9 MB", "800 kB"], "low", set()),  # other units: no comparison
        (["1.20 ms", "0.90 ms"], "low", {1}),
        ([0.5], "low", set()),  # alone: nothing to be best of
        (["good", "bad"], "high", set()),
    ],
)
def test_the_best_values_are_marked(values, direction, best):
    (column,) = columns_of(Table("x", [{"v": value} for value in values], best={"v": direction}))
    assert column.best == best


def test_real_data_are_never_the_best():
    rows = [{"Model": "GAN", "FD": 2.0}, {"Model": "VAE", "FD": 5.0}, {"Model": "Real data", "FD": 0.3}]
    assert columns_of(Table("x", rows, best={"FD": "low"}))[1].best == {2}
    assert columns_of(Table("x", rows, best={"FD": "low"}, unranked=["Real data"]))[1].best == {0}


@pytest.mark.parametrize(
    ("values", "is_numeric"),
    [
        (["1.20 ms (0.94 to 4.21)", "0.5 ms"], True), (["5.61 to 6.13", ""], True), (["0 of 3", "1 of 3"], True),
        (["+0.5", "-1e-05"], True), ([1, "nan"], True), (["2 layers frozen", "1"], False), (["information"], False), (["yes"], False),
    ],
)  # fmt: skip
def test_columns_of_numbers_are_told_from_texts(values, is_numeric):
    columns = columns_of(Table("x", [{"first": "25 steps", "v": value} for value in values]))
    assert [column.is_numeric for column in columns] == [False, is_numeric]


def test_columns_are_those_that_a_row_fills_in_their_first_order():
    table = Table(
        "x", [{"Model": "a", "Time": None, "FD": 1}, {"KID": "", "Model": "b", "Size": "5 MB"}, {"Size": ""}]
    )
    assert [(column.name, column.is_numeric) for column in columns_of(table)] == [
        ("Model", False), ("FD", True), ("Size", True),
    ]  # fmt: skip
    assert columns_of(Table("x", [])) == []
