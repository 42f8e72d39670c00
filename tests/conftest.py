"""What a whole test run shares: the process that commands are forked from."""

import os

import pytest

from tests.support.warm import SOCKET, WarmServer


def pytest_configure(config: pytest.Config) -> None:
    """Start it once: workers inherit where it listens."""
    if SOCKET not in os.environ:
        server = WarmServer()
        config.add_cleanup(server.close)
