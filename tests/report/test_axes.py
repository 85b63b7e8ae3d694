import pytest

from hf_genkit.report.axes import Axis


@pytest.mark.parametrize(
    ("values", "is_log", "texts"),
    [
        ([0.31, 1.04], False, ["0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]),
        ([100, 2500], False, ["0", "500", "1,000", "1,500", "2,000", "2,500"]),
        ([5], False, ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
        ([0, 0], False, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        ([], False, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([1e9, 4e9], False, ["1e9", "1.5e9", "2e9", "2.5e9", "3e9", "3.5e9", "4e9"]),
        ([0.0004, 0.053], True, ["0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05"]),
        ([1, 1e6], True, ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"]),
        ([0.001], True, ["0.0008", "0.001", "0.0012"]),
        ([], True, ["1", "2", "5", "10"]),
    ],
)
def test_ticks_are_round_values(values, is_log, texts):
    assert [text for _, text in Axis.of(values, is_log).ticks] == texts


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("values", [[3.0], [1e-12, 2e-12], [2.0, 2.0], [1e-9, 1e9], [0.999, 1.001], [7e5, 7.0001e5]])
def test_values_and_ticks_lie_between_the_ends(values, is_log):
    axis = Axis.of(values, is_log).between(50, 600)
    assert all(50 <= axis(value) <= 600 for value in values)
    places = [axis(tick) for tick, _ in axis.ticks]
    assert 2 <= len(places) <= 12
    assert places == sorted(set(places))
    assert len({text for _, text in axis.ticks}) == len(places)


def test_equal_ratios_are_equally_far_apart_on_a_logarithmic_axis():
    axis = Axis.of([1, 1000], is_log=True).between(0, 100)
    assert axis(100) - axis(10) == pytest.approx(axis(1000) - axis(100))


def test_what_lies_beyond_an_axis_is_put_at_its_end():
    axis = Axis.of([1, 10], is_log=True).between(0, 100)
    assert (axis(1e-30), axis(-1), axis(1e30)) == (0, 0, 100)
