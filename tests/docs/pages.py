"""The pages of the guide, taken apart: code blocks, headings, links and pictures."""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown.extensions.toc import slugify


REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "examples" not in path.relative_to(DOCS).parts]

BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its text, and why it isn't run, if it isn't."""

    language: str
    code: str
    reason: str | None


def name(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    every = [Block(match["language"], match["code"], match["reason"]) for match in found]
    return [block for block in every if block.language in languages]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What mkdocs calls the page's headings."""
    return {slugify(heading.replace("`", ""), "-") for heading in re.findall(r"^#+ (.+)$", prose(page), re.M)}


def links(page: Path) -> list[str]:
    """Targets inside the guide, pictures included."""
    return [target for target in LINK.findall(prose(page)) if "://" not in target]


def commands(page: Path) -> list[str]:
    """The commands of the page, a line each, in their order."""
    text = "\n".join(block.code for block in blocks(page, "bash")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [part.strip() for line in lines for part in line.split(" && ")]
