"""Run the coordinator for one session: ``python -m fedapt_server --dir FOLDER``."""

import argparse
import sys
from pathlib import Path

from fedapt_crypto.errors import FedaptError
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.process.exit_status import ExitStatus, status_of
from fedapt_server.settings import SETTINGS_FILE, ServerSettings


def main() -> int:
    """Run one session; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fedapt_server", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="the coordinator's folder, with server.yaml")
    folder = parser.parse_args().dir
    path = folder / SETTINGS_FILE
    try:
        from fedapt_server.running import Options, run  # noqa: PLC0415 - not for whoever only wants the name

        settings = build(ServerSettings, read_yaml(path), source=str(path))
        run(PartyFolder(folder), settings, Options(once=True, enrolment=False, health=False))
    except FedaptError as error:
        sys.stderr.write(f"{error}\n")
        return status_of(error)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
