"""Run the coordinator for one session: ``python -m fedapt_server --dir FOLDER``."""

import argparse
import sys
from pathlib import Path

from fedapt_secure.process import ending, interrupts, streams
from fedapt_secure.process.exit_status import ExitStatus


def main() -> int:
    """Run one session; returns the exit status."""
    interrupts.install()
    streams.prepare()
    return ending.guarded(_run)


def _run() -> int:
    parser = argparse.ArgumentParser(prog="fedapt_server", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="the coordinator's folder, with server.yaml")
    folder = parser.parse_args().dir
    from fedapt_secure.config.party_folder import PartyFolder  # noqa: PLC0415 - not for --help
    from fedapt_secure.config.settings import build, read_yaml  # noqa: PLC0415
    from fedapt_server.running import Options, run  # noqa: PLC0415
    from fedapt_server.settings import SETTINGS_FILE, ServerSettings  # noqa: PLC0415

    path = folder / SETTINGS_FILE
    settings = build(ServerSettings, read_yaml(path), source=str(path))
    run(PartyFolder(folder), settings, Options(once=True, enrolment=False, health=False))
    return ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
