"""The built guide: no warning, nothing fetched, every public name on its page."""

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from .pages import REPOSITORY


FETCHING = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class Fetched(HTMLParser):
    """Collects the addresses that a browser fetches to show a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "link" and attrs.get("rel") not in ("stylesheet", "icon", "preconnect"):
            return
        self.addresses += [attrs[FETCHING[tag]]] if attrs.get(FETCHING.get(tag)) else []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def test_a_browser_fetches_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        if "examples" in page.relative_to(site).parts:
            continue
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert [address for address in parser.addresses if "//" in address] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_name_is_on_its_page(site):
    for page in (REPOSITORY / "docs" / "api").glob("*.md"):
        html = Path(site, "api", f"{page.stem}.html").read_text(encoding="utf-8")
        shown = set(re.findall(r'id="(hf_genkit[\w.]*)"', html))
        for part in re.findall(r"^::: (hf_genkit\.[\w.]+)$", page.read_text(encoding="utf-8"), re.M):
            exported = importlib.import_module(part).__all__
            assert {f"{part}.{name}" for name in exported} - shown == set()


def test_the_dialect_of_the_docstrings_is_understood(site):
    """Left as it is, "*optional*" would stand in every type, a reference in brackets, and LaTeX in backslashes."""
    for page in (site / "api").glob("*.html"):
        text = re.sub(r"<(pre|code|math)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)
        for left_over in ("*optional*", "<em>optional</em>, defaults", "[<code>", "\\("):
            assert left_over not in text, page
