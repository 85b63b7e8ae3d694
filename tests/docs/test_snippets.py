"""The Python of the pages: each page's blocks run one after the other, as a reader would type them."""

import ast
import builtins
import importlib
import inspect

import pytest

from hf_genkit.losses import DISTILLATION_LOSSES

from .pages import PAGES, blocks, name


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    losses = dict(DISTILLATION_LOSSES)
    names = {"__name__": "__main__"}
    try:
        for block in blocks(page, "python"):
            if block.reason is None:
                exec(compile(block.code, name(page), "exec"), names)
    finally:
        DISTILLATION_LOSSES.clear()
        DISTILLATION_LOSSES.update(losses)


UNRUN = [(page, block) for page in WITH_PYTHON for block in blocks(page, "python") if block.reason is not None]


def misuses(code: str) -> list[str]:
    """Imports that fail, names that nothing defines, and keywords that an imported function or class doesn't take."""
    tree, known, found = ast.parse(code), dict(vars(builtins)), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if hasattr(module, alias.name):
                    known[alias.asname or alias.name] = getattr(module, alias.name)
                else:
                    found.append(f"{node.module} has no {alias.name}")
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in {*known, *stored}:
            found.append(f"nothing defines {node.id}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
            parameters = inspect.signature(known[node.func.id]).parameters.values()
            if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                continue
            taken = {parameter.name for parameter in parameters}
            found += [
                f"{node.func.id} takes no {word.arg}" for word in node.keywords if word.arg not in {*taken, None}
            ]
    return found


@pytest.mark.parametrize(("page", "block"), UNRUN, ids=[f"{name(page)}-{i}" for i, (page, _) in enumerate(UNRUN)])
def test_an_example_that_is_not_run_uses_what_there_is(page, block):
    assert misuses(block.code) == []


def test_a_misuse_is_seen():
    code = "from hf_genkit import VAEConfig, VAEModell\nfrom hf_genkit.losses import dkd\ndkd(a, b, gama=1)\nb = VAEConfig(x=1)"
    assert sorted(misuses(code)) == [
        "VAEConfig takes no x",
        "dkd takes no gama",
        "hf_genkit has no VAEModell",
        "nothing defines a",
    ]
