import re
import xml.etree.ElementTree as ElementTree

import pytest

from hf_genkit.report import Chart, Series, draw_chart
from hf_genkit.report.charts import COLORS, DASHES, SHAPES, left_out

from .examples import HOSTILE, rich_report


NAN, INF = float("nan"), float("inf")


def parse(chart: Chart, **options) -> ElementTree.Element:
    return ElementTree.fromstring(draw_chart(chart, **options))


def texts(chart: Chart) -> list[str]:
    return [element.text for element in parse(chart).iter("text")]


def charts() -> list[Chart]:
    return [block for section in rich_report().sections for block in section.blocks if isinstance(block, Chart)]


@pytest.mark.parametrize("kind", ["line", "scatter"])
@pytest.mark.parametrize(
    "points",
    [[(3, 4)], [(1, 2), (2, 2), (3, 2)], [(1, 2), (1, 3)], [(0, 0)], [], [(NAN, 1)], [(1, NAN), (2, INF), (3, 4)]],
)
def test_odd_points_still_make_a_picture_of_finite_numbers(kind, points):
    drawn = draw_chart(Chart("x", "step", "loss", [Series("a", points)], kind=kind))
    ElementTree.fromstring(drawn)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<title>.*?</title>", "", drawn))


def test_points_that_are_not_finite_are_left_out_and_counted():
    chart = Chart("x", "step", "loss", [Series("a", [(1, 2), (2, NAN), (3, 1), (INF, 1)]), Series("b", [(NAN, NAN)])])
    assert left_out(chart) == "3 points that are not finite are left out."
    assert draw_chart(chart).count("<title>a: step") == 2
    assert left_out(Chart("x", "", "", [Series("a", [(1, NAN)])])) == "1 point that is not finite is left out."
    assert left_out(Chart("x", "", "", [Series("a", [(1, 1)])])) == ""
    assert "no finite point" in texts(Chart("x", "", "", [Series("a", [(1, NAN)])]))


def test_an_interval_that_is_not_finite_costs_the_interval_alone():
    chart = Chart("x", "s", "y", [Series("a", [(1, 2), (2, 3), (3, 4)], [1, NAN, 3], [3, 4, 5])])
    (band,) = parse(chart).iter("polygon")
    assert len(band.get("points").split()) == 4
    assert draw_chart(chart).count("<title>a: s") == 3


def test_the_axes_show_whole_intervals():
    chart = Chart("x", "s", "y", [Series("a", [(1, 2), (2, 3)], [-8, 1], [9, 40])])
    assert {"-10", "40"} <= set(texts(chart))


def test_an_interval_that_reaches_below_zero_is_cut_at_the_edge_of_a_logarithmic_axis():
    chart = Chart("x", "s", "y", [Series("a", [(1, 2), (2, 3)], [-8, 1], [9, 4])], kind="scatter", log_y=True)
    places = [float(place) for place in re.findall(r"[MV ](\d+\.\d)", draw_chart(chart))]
    assert max(places) < 700


@pytest.mark.parametrize("kind", ["line", "scatter"])
def test_series_differ_by_more_than_their_colour(kind):
    series = [Series(str(number), [(0, number), (1, number)]) for number in range(6)]
    drawn = parse(Chart("x", "s", "y", series, kind=kind))
    groups = drawn.findall("g")
    shapes = {re.sub(r"[\d.]+ [\d.]+", "", group.findall("path")[-1].get("d"), count=1) for group in groups}
    assert len(shapes) == 6
    if kind == "line":
        assert len({group.find("path").get("stroke-dasharray") for group in groups}) == 6
    assert len(COLORS) == len(DASHES) == len(SHAPES) == len(set(COLORS)) == len(set(DASHES)) == len(set(SHAPES))


def test_labels_hide_neither_each_other_nor_points():
    chart = Chart(
        "x", "s", "y", [Series("points", [(1, 1), (1.01, 1), (1, 1.02), (5, 5)], labels=list("abcd"))], "scatter"
    )
    labels = [element for element in parse(chart).iter("text") if element.text in ("a", "b", "c", "d")]
    places = {(element.get("x"), element.get("y")) for element in labels}
    assert len(places) == 4
    assert len({element.get("text-anchor") for element in labels}) > 1


def test_names_come_out_as_text():
    series = [Series(HOSTILE, [(1, 1)], labels=[HOSTILE])]
    drawn = parse(Chart(HOSTILE, HOSTILE[:20], HOSTILE[:20], series, kind="scatter"))
    assert HOSTILE in [element.text for element in drawn.iter("text")]
    assert not list(drawn.iter("script"))
    assert drawn.get("aria-label").startswith(HOSTILE)


def test_a_long_name_is_cut_and_told_in_full_by_its_title():
    name = "a name that goes on " * 9
    drawn = parse(Chart("x", "s", "y", [Series(name, [(1, 1)])]))
    assert max(len(element.text) for element in drawn.iter("text")) < 90
    assert drawn.find("g/title").text == name


def test_a_file_of_its_own_is_readable_on_any_page():
    for chart in charts():
        drawn = parse(chart, standalone=True)
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert "color:#" in drawn.get("style")
        assert drawn[0].get("fill") == "#fff"


def test_a_line_of_many_points_gets_few_markers():
    (line,) = [chart for chart in charts() if chart.kind == "line"]
    assert 10 < draw_chart(line).count("<title>VAE: step") < 20
