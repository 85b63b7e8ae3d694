"""What the pages point at: other pages, headings, pictures, results, recipes and the names of the API."""

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

import hf_genkit
from benchmarks.tables import RESULTS

from .pages import DOCS, PAGES, REPOSITORY, anchors, links, name, prose


PICTURES = sorted((DOCS / "pictures").iterdir())
CONFIG = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
PARTS = [path.parent.name for path in REPOSITORY.glob("hf_genkit/*/__init__.py")]


def flat(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in flat(each)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_link_leads_to_a_page_a_heading_or_a_picture(page):
    for target in links(page):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.is_file(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(there), f"{name(page)} links to {target}"


def test_every_page_is_in_the_navigation():
    assert sorted(flat(CONFIG["nav"])) == sorted(map(name, PAGES))


def test_every_recipe_has_a_page():
    recipes = {path.stem for path in REPOSITORY.glob("recipes/*.py")}
    pages = {path.stem for path in (DOCS / "recipes").glob("*.md")} - {"index"}
    assert pages == recipes
    index = (DOCS / "recipes" / "index.md").read_text(encoding="utf-8")
    assert all(f"({recipe}.md)" in index for recipe in recipes)


def test_pictures_are_small_and_shown():
    shown = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    assert {path for path in PICTURES if path not in shown} == set()
    assert all(path.stat().st_size < 60_000 for path in PICTURES)
    assert sum(path.stat().st_size for path in PICTURES) < 1_000_000


def numbers(value) -> list[float]:
    """All numbers in a JSON value, those in its texts included."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, str):
        return [float(text) for text in re.findall(r"[-+]?\d+(?:\.\d+)?", value)]
    return [number for each in (value.values() if isinstance(value, dict) else value) for number in numbers(each)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_figure_is_in_the_result_that_it_names(page):
    """The decimals before `a-b.json` in its sentence or cell must stand in that file, to as many digits as are shown."""
    text = prose(page)
    for match in re.finditer(r"`(\w+-\w+)\.json`", text):
        result = RESULTS / f"{match[1]}.json"
        assert result.is_file(), f"{name(page)} names {match[1]}.json"
        sentence = re.split(r"\||\n\n|(?<=[.:;])\s|`[\w.-]+\.json`", text[: match.start()])[-1]
        for shown in re.findall(r"\d+\.\d+", sentence):
            digits = len(shown.partition(".")[2])
            there = {round(abs(number), digits) for number in numbers(json.loads(result.read_text()))}
            assert float(shown) in there, f"{name(page)}: {shown} is not in {result.name}"


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_a_page_of_the_api(part):
    """mkdocstrings lists what the `__all__` of a part names."""
    page = (DOCS / "api" / f"{part}.md").read_text(encoding="utf-8")
    folders = {f"models.{model}" for model in hf_genkit.models.__all__} if part == "models" else {part}
    assert set(re.findall(r"^::: hf_genkit\.([\w.]+)$", page, re.M)) == folders


def test_the_index_of_the_api_names_what_the_package_exports():
    index = Path(DOCS, "api", "index.md").read_text(encoding="utf-8")
    linked = dict(re.findall(r"\[`(\w+)`\]\[hf_genkit\.([\w.]+)\]", index))
    assert set(linked) == {exported for exported in hf_genkit.__all__ if not exported.startswith("__")}
    for exported, path in linked.items():
        module, _, attribute = path.rpartition(".")
        assert getattr(importlib.import_module(f"hf_genkit.{module}"), attribute) is getattr(hf_genkit, exported)
