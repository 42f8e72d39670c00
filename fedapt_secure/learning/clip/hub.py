"""Loading from the model hub without its noise, and without a long wait where there is no network."""

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from huggingface_hub import constants


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Drop what open_clip and the hub client log; what goes wrong arrives as an exception.

    open_clip writes to the root logger itself. A filter there concerns only such records, so other
    modules' loggers keep working meanwhile.
    """

    def drop(_: logging.LogRecord) -> bool:
        return False

    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    logging.root.addFilter(drop)
    hub_log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logging.root.removeFilter(drop)
        hub_log.setLevel(level)


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Let the hub client use only its own cache where the hub's name does not resolve.

    It would otherwise retry for the better part of a minute before it says so.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _hub_resolves()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_resolves() -> bool:
    if urllib.request.getproxies():
        return True  # behind a proxy, names may be resolved only there
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return False
    return True
