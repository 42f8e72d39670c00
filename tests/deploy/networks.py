"""Network namespaces joined by one line, a machine of a federation in each; they are gone at the end."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

PREFIX = "10.77.0"
"""Of their addresses: nobody else is on the line, so that no address can be taken."""

_MADE: Final = itertools.count()


@dataclass(frozen=True)
class Place:
    """One namespace.

    Attributes:
        name: As ``ip netns`` knows it.
        address: Under which the others reach it.
    """

    name: str
    address: str


def why_not() -> str | None:
    """Return why there can be none here; ``None`` where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip is not on this machine"
    try:
        with joined(1):
            return None
    except subprocess.CalledProcessError as error:
        return f"no joined network namespaces here: {error.stderr.strip()}"


@contextmanager
def joined(count: int) -> Iterator[list[Place]]:
    """Make namespaces that reach each other over a bridge, which lies in a namespace of its own."""
    prefix = f"fedapt-{os.getpid()}-{next(_MADE)}"
    line = f"{prefix}-line"
    places = [Place(f"{prefix}-{n}", f"{PREFIX}.{n + 1}") for n in range(count)]
    try:
        _ip("netns", "add", line)
        _ip("-n", line, "link", "add", "bridge", "type", "bridge")
        _ip("-n", line, "link", "set", "bridge", "up")
        for n, place in enumerate(places):
            _ip("netns", "add", place.name)
            ends = ("link", "add", f"to-{n}", "type", "veth", "peer", "name", "eth0", "netns", place.name)
            _ip("-n", line, *ends)
            _ip("-n", line, "link", "set", f"to-{n}", "master", "bridge", "up")
            _ip("-n", place.name, "address", "add", f"{place.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", place.name, "link", "set", device, "up")
        yield places
    finally:
        there = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        mine = {line, *(place.name for place in places)}
        for name in mine & {row.split()[0] for row in there.splitlines()}:
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
