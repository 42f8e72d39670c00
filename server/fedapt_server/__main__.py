"""Run the coordinator: ``python -m fedapt_server --dir FOLDER``."""

import argparse
import asyncio
import sys
from pathlib import Path

from fedapt_crypto.errors import FedaptError, InvalidInput
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol.session import SessionPlan
from fedapt_server.service import CoordinatorService
from fedapt_server.settings import ServerSettings

SETTINGS_FILE = "server.yaml"


def main() -> int:
    """Run one session; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fedapt_server", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="the coordinator's folder, with server.yaml")
    options = parser.parse_args()
    path = options.dir / SETTINGS_FILE
    try:
        settings = build(ServerSettings, read_yaml(path), source=str(path))
        plan_path = options.dir / settings.session
        plan = build(SessionPlan, read_yaml(plan_path), source=str(plan_path))
        asyncio.run(CoordinatorService(options.dir, settings, plan).run())
    except FedaptError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, InvalidInput) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
