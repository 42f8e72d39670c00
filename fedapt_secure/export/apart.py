"""Runs what was exported in a fresh Python that gets nothing of ours: no path, no setting, no module."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import RunFailed

_MOST_SECONDS: Final = 3600


def run_apart(what: str, arguments: list[str | Path]) -> bytes:
    """Return what a fresh Python writes to standard output.

    Args:
        what: What it runs, for the error.
        arguments: Its command line, without Python itself.

    Raises:
        RunFailed: If it fails, or takes longer than an hour.
    """
    command = [sys.executable, "-I", *arguments]  # isolated: neither PYTHONPATH nor the current folder
    try:
        done = subprocess.run(command, capture_output=True, timeout=_MOST_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{what} gave no answer within an hour") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RunFailed(f"{what} cannot be run: {' '.join(last)[:200]}")
    return done.stdout
