"""`slic` and `python -m slic_cli`."""

from __future__ import annotations

import sys

from slic_cli.cli import run
from slic_cli.console import run_guarded


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run_guarded(run))


if __name__ == "__main__":
    main()
