"""The command line ``fedapt-secure``: thin, quick to start, one clear line for every mistake."""

import sys

from fedapt_secure.cli.app import run


def main() -> None:
    """Entry point; exits with 0 done, 1 failed or violated, 2 bad input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))
