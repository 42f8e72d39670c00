"""What a whole test run shares: the processes that commands, and workers of CKKS, are forked from."""

import os
from typing import Final

import pytest

from fedapt_crypto.secagg.ckks import process
from tests.support import warm
from tests.support.examples import note_the_gate

COLD: Final = pytest.StashKey[tuple[str, ...]]()
"""How workers of CKKS start outside tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Start them once: workers of pytest inherit where they listen, and what kind of run this is."""
    note_the_gate(config)
    for variable in (warm.SOCKET, warm.CKKS_SOCKET):
        if variable not in os.environ:
            config.add_cleanup(warm.WarmServer(variable).close)
    config.stash[COLD] = process._COMMAND
    process._COMMAND = tuple(warm.worker_program())
