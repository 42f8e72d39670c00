"""Run one institution: ``python -m fedapt_client --dir FOLDER``."""

import argparse
import sys
from pathlib import Path

from fedapt_secure.process import ending, interrupts, streams
from fedapt_secure.process.exit_status import ExitStatus


def main() -> int:
    """Take part in the coordinator's session; returns the exit status."""
    interrupts.install()
    streams.prepare()
    return ending.guarded(_run)


def _run() -> int:
    parser = argparse.ArgumentParser(prog="fedapt_client", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="the party's folder, with client.yaml")
    folder = parser.parse_args().dir
    from fedapt_client.settings import read_settings  # noqa: PLC0415 - not for --help

    settings = read_settings(folder)
    from fedapt_client.runner import InstitutionRunner, run_until_stopped  # noqa: PLC0415 - torch, seconds

    run_until_stopped(InstitutionRunner(folder, settings))
    return ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
