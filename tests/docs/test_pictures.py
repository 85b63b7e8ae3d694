"""The charts that are drawn from results, and the extension that reads docstrings."""

import importlib.util

import pytest

from .pages import DOCS


def module(name: str):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_charts_show_what_the_results_hold(tmp_path, monkeypatch):
    """A benchmark that ran again would leave an old chart beside new figures."""
    script = module("draw_pictures")
    monkeypatch.setattr(script, "PICTURES", tmp_path)
    script.draw_results()
    script.draw_temperatures()
    drawn = sorted(tmp_path.iterdir())
    assert len(drawn) == 4
    for path in drawn:
        assert path.read_text() == (DOCS / "pictures" / path.name).read_text(), "run docs/draw_pictures.py"


EXTENSION = module("huggingface_docstrings")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Args:\n    a (`int`, *optional*, defaults to 1): One.", "Args:\n    a (int): One."),
        ("Args:\n    a, b (`int`): Ends.", "Args:\n    b (int): See `a`.\n    a (int): Ends."),
        (
            "Args:\n    a ([`~hf_genkit.VAEModel`] or `None`):\n        It.",
            "Args:\n    a (VAEModel | None):\n        It.",
        ),
        ("Returns:\n    `dict[str, float]`: Found: all.", "Returns:\n    dict[str, float]: Found: all."),
        ("Raises:\n    `ValueError`: It is wrong.", "Raises:\n    ValueError: It is wrong."),
        ("See [`~hf_genkit.data.load_data`].", "See [`load_data`][hf_genkit.data.load_data]."),
        ("See [`~VAEModel.sample`].", "See [`sample`][hf_genkit.models.vae.VAEModel]."),
        ("See [`~transformers.Trainer`] and [it](there).", "See `Trainer` and [it](there)."),
        ("```python\n>>> [`load_data`]\n```", "```python\n>>> [`load_data`]\n```"),
    ],
)
def test_the_dialect_becomes_googles(written, read):
    assert EXTENSION.rewrite(written) == read


def test_a_default_stays_where_no_signature_shows_it():
    written = "Args:\n    a (`int`, *optional*, defaults to 28): One."
    assert EXTENSION.rewrite(written, with_defaults=True) == "Args:\n    a (int, defaults to 28): One."


def test_latex_becomes_mathml():
    assert EXTENSION.rewrite(r"The factor \\(T^2\\).").startswith("The factor <math ")
