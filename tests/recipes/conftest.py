import runpy
import sys

import pytest

from .launching import REPOSITORY


@pytest.fixture
def refusal(monkeypatch, capsys):
    """What a recipe says on stderr before it ends; it must not have trained anything."""

    def refusal(recipe: str, *words: object) -> str:
        script, debug = REPOSITORY / "recipes" / f"{recipe}.py", REPOSITORY / "recipes" / recipe / "debug.yaml"
        monkeypatch.setattr(sys, "argv", [str(script), "--config", str(debug), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        shown = capsys.readouterr()
        assert shown.out == ""
        sentence = shown.err if ended.value.code == 2 else ended.value.code  # what Python prints with the status 1
        assert isinstance(sentence, str)
        assert sentence.strip().count("\n") == 0
        return sentence

    return refusal
