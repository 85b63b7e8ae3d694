"""
Where the `hf-genkit` command begins, beside the package: importing the package registers its models with transformers,
which takes seconds, and `hf-genkit --help` needs neither.
"""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> int:
    """Runs `hf_genkit/cli.py` as the module that it is, without importing the package around it."""
    package = Path(find_spec("hf_genkit").origin)  # finds, and does not import
    spec = spec_from_file_location("hf_genkit.cli", package.with_name("cli.py"))
    cli = module_from_spec(spec)
    spec.loader.exec_module(cli)
    return cli.main()
