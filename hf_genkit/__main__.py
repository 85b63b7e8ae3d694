"""`python -m hf_genkit` is the `hf-genkit` command."""

import sys

from .cli import main


if __name__ == "__main__":
    sys.exit(main())
