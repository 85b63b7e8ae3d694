import base64
import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from hf_genkit.report import Report, Section, Text, render_html

from .examples import HOSTILE, rich_report, save_pictures


class Outline(HTMLParser):
    """The elements of a page in order, and those that are left open or closed twice."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    save_pictures(folder)
    return render_html(rich_report(), folder)


def test_elements_are_closed_in_order_and_ids_are_unique(page):
    outline = Outline(page)
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 5
    named = [attributes["aria-labelledby"] for _, attributes in outline.elements if "aria-labelledby" in attributes]
    assert set(named) <= set(ids)
    assert {link["href"][1:] for link in outline.all("a")} <= set(ids)


def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in Outline(page).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_names_come_out_as_text(page):
    assert HOSTILE[:8] == "<script>"
    assert len(Outline(page).all("script")) == 1
    assert page.count("&lt;script&gt;") > 10


def test_nothing_is_fetched(page):
    outline = Outline(page)
    sources = [
        attributes[name] for _, attributes in outline.elements for name in ("src", "href") if name in attributes
    ]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_pictures_are_part_of_the_page_with_their_size_and_text(page, tmp_path):
    save_pictures(tmp_path)
    images = [image for image in Outline(page).all("img") if "src" in image]
    assert len(images) == 6
    assert base64.b64decode(images[0]["src"].partition(",")[2]) == (tmp_path / "samples.png").read_bytes()
    assert (images[0]["width"], images[0]["height"], images[0]["alt"]) == ("24", "16", "VAE")
    assert images[0]["style"] == "width: 480px"  # twenty times as large, so that pixels stay square
    assert "data-pixelated" in images[0]
    assert "data-pixelated" not in images[-1]


def test_cells_say_what_they_belong_to_and_what_is_best(page):
    outline = Outline(page)
    boxes = [box for box in outline.all("div") if box.get("class") == "scroll"]
    assert {(box.get("tabindex"), box.get("role")) for box in boxes} == {("0", "region")}
    assert {head.get("scope") for head in outline.all("th")} == {"col", "row"}
    rows = re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    assert "(lower is better)" in rows[0]
    assert "(higher is better)" in rows[0]
    assert '0.8538<span class="unseen"> (best)</span>' in rows[2]
    assert "(best)" not in rows[1] + rows[3]


def test_each_command_can_be_copied_as_it_is(page):
    shown = re.findall(r"<pre><code>(.*?)</code></pre>\n<button type=\"button\" class=\"copy\">", page)
    assert len(shown) == 4
    assert unescape(re.sub("<.*?>", "", shown[0])) == rich_report().command


def test_the_version_is_the_one_that_was_passed(page):
    assert "<footer>Written by hf_genkit 0.1.0.</footer>" in page


def test_a_report_without_anything_is_a_page(tmp_path):
    page = render_html(Report("T", [], {}, []), tmp_path)
    assert Outline(page).open == []
    assert "<footer>Written by hf_genkit.</footer>" in page
    assert not Outline(page).all("nav", "dl", "section", "pre")


def test_lists_open_and_close_around_their_items(tmp_path):
    text = Text(["- a", "- b", "c", "- d", "e `x < y`"])
    page = render_html(Report("T", [], {}, [Section("S", [text])]), tmp_path)
    body = re.sub(r"\s*\n\s*", "", page[page.index('<div class="text">') :])
    assert body.startswith(
        '<div class="text"><ul><li>a</li><li>b</li></ul><p>c</p><ul><li>d</li></ul><p>e <code>x &lt; y</code></p></div>'
    )
