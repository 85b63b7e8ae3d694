"""Who may import whom, and how long files may be: the rules that keep the house in order."""

import ast
import re
import sys
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).parents[1]
PACKAGE = "hf_genkit"

# Each part may import the parts of earlier rows and itself, and no neighbour in its own row.
LAYERS = [
    ["losses", "arguments", "data", "models", "pipelines", "report"],
    ["hub"],
    ["evaluation"],
    ["trainers"],
    ["tuning", "compress"],
    ["compare", "demo"],
    ["verify", "cli"],
    ["__main__"],
    ["recipes"],
]
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}

# Files of these travel to the Hub as code, and run where hf_genkit is not installed.
SELF_CONTAINED = ("models", "pipelines")
THEIR_LIBRARIES = {"torch", "transformers", "diffusers", *sys.stdlib_module_names}

MOST_LINES, MOST_LINES_OF_RECIPE = 400, 99
# What a recipe needs, as uv reads it: these lines don't count.
SCRIPT_HEADER = re.compile(r"\A# /// script\n(#.*\n)*?# ///\n")


def imports(path: str, source: str) -> list[tuple[int, str, int]]:
    """
    Every import of a file, those inside functions and under conditions included.

    Args:
        path (`str`): The file's path in the repository, such as "hf_genkit/data/text.py".
        source (`str`): Its text.

    Returns:
        `list[tuple[int, str, int]]`: Line, absolute name of what is imported, and the number of leading dots.
    """
    package = path.split("/")[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else package[: len(package) - node.level + 1]
            base = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` and `from hf_genkit import x` may name modules: x itself tells what is imported.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE or not node.module else [base]
            found += [(node.lineno, name, node.level) for name in names]
    return found


def import_violations(path: str, source: str) -> list[str]:
    """The imports of a file that break a rule, each as one sentence."""
    folders = path.removesuffix(".py").split("/")
    part = folders[0] if folders[0] == "recipes" else folders[1]
    if part == "__init__":
        return []
    if part not in LAYER_OF:
        return [f"{path}: '{part}' is in no layer."]
    alone = part in SELF_CONTAINED and folders[2:] != ["__init__"]
    violations = []
    for line, name, dots in imports(path, source):
        where = f"{path}:{line} imports {name}"
        top, _, rest = name.partition(".")
        if alone:
            if top == PACKAGE and dots != 1:
                violations.append(
                    f"{where}: this file travels to the Hub and may import siblings alone, with one dot."
                )
            elif top != PACKAGE and top not in THEIR_LIBRARIES:
                violations.append(
                    f"{where}: this file travels to the Hub and may import torch and Hugging Face alone."
                )
            continue
        imported = rest.partition(".")[0] if top == PACKAGE else top
        if top not in (PACKAGE, "recipes", "tests", "benchmarks"):
            continue
        if top in ("tests", "benchmarks"):
            violations.append(f"{where}: nothing that is installed may need {top}.")
        elif imported not in LAYER_OF:
            if part != "recipes":
                violations.append(f"{where}: inside the package a name is imported from its own module.")
        elif imported != part and LAYER_OF[imported] >= LAYER_OF[part]:
            violations.append(f"{where}: {part} may not import {imported}.")
    return violations


def files(*folders: str) -> list[str]:
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in found)


def read(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", files(PACKAGE, "recipes"))
def test_imports_point_leftwards(path):
    assert import_violations(path, read(path)) == []


@pytest.mark.parametrize("path", files(PACKAGE, "recipes", "tests", "benchmarks"))
def test_files_are_short(path):
    source = read(path)
    if path.startswith("recipes/"):
        assert len(SCRIPT_HEADER.sub("", source).splitlines()) <= MOST_LINES_OF_RECIPE
    else:
        assert len(source.splitlines()) <= MOST_LINES


# ---- The rules themselves: each of these must be seen, and no more ----


@pytest.mark.parametrize(
    ("path", "source", "reason"),
    [
        ("hf_genkit/losses/kl.py", "from ..trainers import base", "losses may not import trainers"),
        ("hf_genkit/losses/kl.py", "from hf_genkit.trainers.base import X", "losses may not import trainers"),
        ("hf_genkit/losses/kl.py", "import hf_genkit.data.text", "losses may not import data"),
        ("hf_genkit/losses/kl.py", "from .. import data", "losses may not import data"),
        ("hf_genkit/losses/kl.py", "from hf_genkit import data", "losses may not import data"),
        ("hf_genkit/data/a/b.py", "from ...hub import cards", "data may not import hub"),
        ("hf_genkit/arguments/parser.py", "def f():\n    from ..losses import kl", "arguments may not import losses"),
        ("hf_genkit/data/text.py", "if TYPE_CHECKING:\n    from ..evaluation import x", "data may not import eval"),
        ("hf_genkit/evaluation/x.py", "from ..trainers import base", "evaluation may not import trainers"),
        ("hf_genkit/trainers/x.py", "from ..compress import pairs", "trainers may not import compress"),
        ("hf_genkit/compress/x.py", "from ..tuning import lora", "compress may not import tuning"),
        ("hf_genkit/cli.py", "from . import verify", "cli may not import verify"),
        ("hf_genkit/verify.py", "import recipes.distill", "verify may not import recipes"),
        ("hf_genkit/trainers/x.py", "from .. import DistillationConfig", "from its own module"),
        ("hf_genkit/trainers/x.py", "from hf_genkit import DistillationConfig", "from its own module"),
        ("hf_genkit/trainers/x.py", "from tests.trainers import tiny", "nothing that is installed may need tests"),
        ("hf_genkit/other/x.py", "", "'other' is in no layer"),
        ("hf_genkit/models/vae/modeling_vae.py", "from ..gan import x", "siblings alone"),
        ("hf_genkit/models/vae/modeling_vae.py", "from ...losses import kl", "siblings alone"),
        ("hf_genkit/models/vae/modeling_vae.py", "from hf_genkit.models.vae import x", "siblings alone"),
        ("hf_genkit/models/vae/modeling_vae.py", "import numpy as np", "torch and Hugging Face alone"),
        ("hf_genkit/pipelines/pipeline_x.py", "from ..models import vae", "siblings alone"),
        ("hf_genkit/pipelines/pipeline_x.py", "from PIL import Image", "torch and Hugging Face alone"),
    ],
)
def test_a_wrong_import_is_seen(path, source, reason):
    violations = import_violations(path, source)
    assert len(violations) == 1
    assert reason in violations[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("hf_genkit/__init__.py", "from .trainers.base import X"),
        ("hf_genkit/data/text.py", "import torch\nfrom . import columns\nfrom .columns import X\nfrom hf_genkit.data import y"),
        ("hf_genkit/trainers/x.py", "from ..evaluation import a\nfrom ..losses import b\nfrom .. import hub\nfrom . import base"),
        ("hf_genkit/compress/x.py", "from ..trainers.models import a\nfrom ..arguments import b"),
        ("hf_genkit/models/__init__.py", "from . import vae"),
        ("hf_genkit/models/vae/__init__.py", "from transformers import AutoModel\nfrom .modeling_vae import X"),
        ("hf_genkit/models/vae/modeling_vae.py", "import math\nimport torch.nn as nn\nfrom .configuration_vae import X"),
        ("hf_genkit/pipelines/pipeline_x.py", "from diffusers import DiffusionPipeline"),
        ("recipes/distill.py", "from hf_genkit import GenkitParser\nfrom hf_genkit.compress import x\nimport accelerate"),
    ],
)  # fmt: skip
def test_a_right_import_is_let_pass(path, source):
    assert import_violations(path, source) == []
