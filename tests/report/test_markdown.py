import pytest
from markdown_it import MarkdownIt

from hf_genkit.report import Picture, Report, Section, Table, Text, render_markdown
from hf_genkit.report.markdown import chart_files, slug

from .examples import HOSTILE, rich_report


def html_of(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def report(*blocks, **values) -> Report:
    return Report(**{"title": "T", "summary": [], "facts": {}, "sections": [Section("S", list(blocks))]} | values)


def test_hostile_names_come_out_as_text():
    page = html_of(render_markdown(rich_report(), "report"))
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; 'b' | c" in page


def test_pipes_do_not_split_cells():
    page = html_of(render_markdown(report(Table("x", [{"a|b": "x | y", "c": "d"}]))))
    assert (page.count("<th>"), page.count("<td>")) == (2, 2)
    assert "<td>x | y</td>" in page


@pytest.mark.parametrize("text", ["2 * 3 * 4", "*a*", "[a](b)", r"\[x\]", "a < b & c > d", "fd_mnist_classifier"])
def test_signs_of_markdown_stay_as_they_are(text):
    page = html_of(render_markdown(report(Text([text]))))
    assert text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in page
    assert "<em>" not in page
    assert "<a" not in page


def test_code_stays_code():
    assert "<code>a &lt; *b*</code>" in html_of(render_markdown(report(Text(["See `a < *b*` there."]))))


def test_the_best_value_and_its_direction_are_shown():
    rows = [{"Model": "a", "FD": 2.0}, {"Model": "b", "FD": 0.5}]
    text = render_markdown(report(Table("x", rows, best={"FD": "low"})))
    assert "| Model | FD ↓ |\n| --- | ---: |\n| a | 2.0 |\n| b | **0.5** |" in text


def test_lists_and_paragraphs_are_told_apart():
    page = html_of(render_markdown(report(Text(["One:", "- a", "- b", "Two."]))))
    assert page.count("<li>") == 2
    assert "<p>One:</p>" in page
    assert "<p>Two.</p>" in page


def test_charts_are_pictures_where_they_were_written_and_numbers_always():
    with_files, without = render_markdown(rich_report(), "report"), render_markdown(rich_report())
    assert "![Loss](report-loss.svg)" in with_files
    assert ".svg" not in without
    assert without.count("<details>") == with_files.count("<details>") == 2
    assert "| VAE | VAE | 0.001 | 5.87" in without


def test_charts_of_the_same_title_have_files_of_their_own():
    chart = rich_report().sections[2].blocks[0]
    assert list(chart_files(report(chart, chart, chart), "r")) == ["r-loss.svg", "r-loss-2.svg", "r-loss-3.svg"]


def test_picture_paths_and_commands_survive_odd_signs():
    text = render_markdown(report(Picture("A ] b", "my pictures/a (1).png", command="echo '```' | cat")))
    page = html_of(text)
    assert 'src="my%20pictures/a%20%281%29.png"' in page or 'src="my%20pictures/a%20(1).png"' in page
    assert 'alt="A ] b"' in page
    assert "echo '```' | cat" in page


@pytest.mark.parametrize(
    ("title", "name"), [("Quality, a/b!", "quality-a-b"), (HOSTILE, "script-alert-1-script-b-c"), ("é", "untitled")]
)
def test_a_title_becomes_a_name_for_files(title, name):
    assert slug(title) == name
