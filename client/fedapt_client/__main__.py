"""Run one institution: ``python -m fedapt_client --dir FOLDER``."""

import argparse
import sys
from pathlib import Path

from fedapt_client.settings import SETTINGS_FILE, ClientSettings
from fedapt_crypto.errors import FedaptError
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.process.exit_status import ExitStatus, status_of


def main() -> int:
    """Take part in the coordinator's session; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fedapt_client", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="the party's folder, with client.yaml")
    options = parser.parse_args()
    path = options.dir / SETTINGS_FILE
    try:
        settings = build(ClientSettings, read_yaml(path), source=str(path))
        from fedapt_client.runner import InstitutionRunner, run_until_stopped  # noqa: PLC0415 - torch, seconds

        run_until_stopped(InstitutionRunner(options.dir, settings))
    except FedaptError as error:
        sys.stderr.write(f"{error}\n")
        return status_of(error)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
