"""Every party as a process of its own on this machine, started as in a real deployment."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedapt_secure.process.exit_status import ExitStatus, error_of
from fedapt_secure.simulate.engines.engine import LOOPBACK, Progress


class ProcessEngine:
    """Runs a process a party."""

    host = LOOPBACK
    lost: frozenset[str] = frozenset()

    def make_room(self, institutions: int) -> None:
        """Do nothing: each process has limits of its own."""

    async def place(self, folders: Sequence[Path]) -> None:
        """Do nothing: a process starts when it is needed."""

    async def run_coordinator(self, folder: Path) -> None:
        """See `Engine.run_coordinator`."""
        await _process("fedapt_server", folder)

    async def run_institution(self, folder: Path, institutions: int, progress: Progress | None) -> None:
        """See `Engine.run_institution`; progress is not told."""
        await _process("fedapt_client", folder)


def check_status(party: str, status: int, message: str) -> None:
    """Raise what a party's exit status and last words say, if it failed."""
    if status != ExitStatus.DONE:
        ended = "refuses" if status == ExitStatus.BAD_INPUT else f"ended with status {status}"
        raise error_of(status, f"{party} {ended}: {message}")


async def _process(module: str, folder: Path) -> None:
    """Run ``python -m module --dir folder`` and wait for it; killed when we are cancelled."""
    # Many processes on one machine: one thread each, or they spend their time waiting for each other.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--dir", str(folder), stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
    message = lines[-1].removeprefix("error: ").removeprefix("failed: ")
    check_status(folder.name, process.returncode or 0, message)
