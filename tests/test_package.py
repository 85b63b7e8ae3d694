import re
import subprocess
import sys
from pathlib import Path

import pytest

import hf_genkit


REPOSITORY = Path(__file__).parents[1]


def test_importing_the_package_imports_little_beyond_pretrained_model(tmp_path):
    """The models need `PreTrainedModel` to register themselves; everything else must wait for its first use."""
    code = (
        "import sys\n"
        "from transformers import AutoModel, PreTrainedModel\n"
        "before = {name.partition('.')[0] for name in sys.modules}\n"
        "import hf_genkit\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - before - {'hf_genkit'}))\n"
        "heavy = ['transformers.trainer', 'hf_genkit.arguments', 'hf_genkit.evaluation', 'hf_genkit.trainers']\n"
        "print(*[name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", hf_genkit.__all__)
def test_every_public_name_resolves(name):
    """A lazily imported name that moved is an error at its first use only."""
    assert getattr(hf_genkit, name) is not None
    assert name in dir(hf_genkit)


def test_the_public_names_are_those_that_are_imported_lazily():
    assert set(hf_genkit.__all__) == {*hf_genkit._MODULE_OF, "__version__"}


def test_an_unknown_name_is_an_attribute_error():
    """`hasattr`, `from hf_genkit import x` and pickling rely on AttributeError, not on KeyError."""
    with pytest.raises(AttributeError, match="module 'hf_genkit' has no attribute 'DistilationTrainer'"):
        _ = hf_genkit.DistilationTrainer
    with pytest.raises(ImportError):
        exec("from hf_genkit import DistilationTrainer")


def test_version_is_that_of_pyproject():
    declared = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert hf_genkit.__version__ == declared.group(1)
