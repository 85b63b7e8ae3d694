"""
Lets mkdocstrings read docstrings in Hugging Face's dialect: a griffe extension that mkdocs.yml names.

It turns ``name (`float`, *optional*, defaults to 0.5):`` into what griffe's Google parser expects, [`X`] into a link where X
is documented, and LaTeX into MathML, which browsers draw by themselves.
"""

import ast
import re
from pathlib import Path

import griffe
from latex2mathml.converter import convert


PACKAGE = Path(__file__).resolve().parent.parent / "hf_genkit"
FENCE = re.compile(r"(^[ ]*```.*?^[ ]*```$)", re.DOTALL | re.MULTILINE)
MATH = re.compile(r"\\{1,2}\((.+?)\\{1,2}\)|\$\$(.+?)\$\$", re.DOTALL)
REFERENCE = re.compile(r"\[`(~?)([\w.]+)`\](?![(\[])")
SECTION = re.compile(r"^(\s*)(Args|Attributes|Settings of every call|Returns|Yields|Raises):$")
ITEM = re.compile(r"^([\w*]+(?:, [\w*]+)*) \((.+?)\):(.*)$")
RESULT = re.compile(r"^((?:\[?`[^`]+`\]?)[^:]*):(.*)$")


def public_names() -> dict[str, str]:
    """The page's identifier of each public name of the package's parts: {"kl_divergence": "hf_genkit.losses.kl_divergence"}."""
    names = {}
    for part in sorted(PACKAGE.glob("**/__init__.py")):
        dotted = ".".join(part.parent.relative_to(PACKAGE.parent).parts)
        if dotted == "hf_genkit":
            continue
        for node in ast.parse(part.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names |= {name: f"{dotted}.{name}" for name in ast.literal_eval(node.value)}
    return names


NAMES = public_names()


def link(match: re.Match) -> str:
    """A documented name as a link, a method as a link to its class, and any other name as code."""
    short, path = match[1] == "~", match[2].split(".")
    text = f"`{path[-1] if short else match[2]}`"
    target = NAMES.get(path[-1]) or (NAMES.get(path[-2]) if len(path) > 1 else None)
    return f"[{text}][{target}]" if target else text


def plain_type(text: str, with_default: bool = False) -> str:
    """A type as an expression: `[`~hf_genkit.VAEModel`] or `None`, *optional*` becomes `VAEModel | None`."""
    text = re.sub(r"(, )?\*optional\*", "", text) if with_default else re.sub(r"(, )?\*optional\*.*", "", text)
    text = re.sub(r"\[`~?(?:[\w.]*\.)?(\w+)`\]", r"\1", text).replace("`", "")
    return text.replace(" or ", " | ")


def rewrite(docstring: str, with_defaults: bool = False) -> str:
    """A docstring in Hugging Face's dialect as Google's, with links and MathML, and defaults where no signature has them."""
    lines, section, indent = [], None, 0
    for line in docstring.split("\n"):
        if heading := SECTION.match(line):
            section, indent = heading[2], len(heading[1]) + 4
            line = line.replace("Settings of every call", "Other Parameters")
        elif line.strip() and len(line) - len(line.lstrip()) < indent:
            section = None
        here = line.strip() and len(line) - len(line.lstrip()) == indent
        is_result = section in ("Returns", "Yields", "Raises")
        if section and not is_result and here and (item := ITEM.match(line.strip())):
            first, *others = item[1].split(", ")
            of = plain_type(item[2], with_defaults)
            of = f" ({of})" if of else ""
            lines += [f"{' ' * indent}{name}{of}: See `{first}`." for name in others]
            line = f"{' ' * indent}{first}{of}:{item[3]}"
        elif is_result and here and (result := RESULT.match(line.strip())):
            line = f"{' ' * indent}{plain_type(result[1])}:{result[2]}"
        lines.append(line)
    parts = FENCE.split("\n".join(lines))
    parts[::2] = [REFERENCE.sub(link, MATH.sub(lambda m: convert(m[1] or m[2]), text)) for text in parts[::2]]
    return "".join(parts)


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            has_signature = not obj.is_class or "dataclass" in obj.labels or "__init__" in obj.all_members
            obj.docstring.value = rewrite(obj.docstring.value, with_defaults=not has_signature)
        elif obj.is_attribute and obj.parent.is_module:  # or a public constant without one would not be shown
            obj.docstring = griffe.Docstring("Its value is shown above.", parent=obj)
