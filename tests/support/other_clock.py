"""Real processes under another clock than this machine's: by libfaketime, where it is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import warm

_LIBRARY = "libfaketime.so.1"
_FOUND = sorted(Path("/usr/lib").glob(f"**/faketime/{_LIBRARY}"))
_CODE = "import sys; sys.argv[0] = 'fedapt-secure'; from fedapt_secure.cli import main; main()"
COMMAND = (sys.executable, "-c", _CODE)

needs_faketime = pytest.mark.skipif(
    not _FOUND, reason="libfaketime is not on this machine (Debian: faketime)"
)


def environment(days: float) -> dict[str, str]:
    """The environment of a process whose clock is so many days ahead; its monotonic clocks run as ever."""
    if not days:
        return dict(os.environ)
    # Threads that wait for a time by a monotonic clock would wait for ever.
    shifted = {"LD_PRELOAD": str(_FOUND[0]), "FAKETIME": f"{days:+g}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return dict(os.environ) | shifted


def fedapt(*arguments: str, days: float = 0, given: str = "") -> "subprocess.CompletedProcess[str]":
    """Run one command under a clock that is so many days ahead."""
    program = COMMAND if days else warm.program()
    return subprocess.run(
        [*program, *arguments], env=environment(days), input=given, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
