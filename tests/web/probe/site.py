"""The site: a page that says how each attempt ended."""

import os
import socket
from pathlib import Path

from fedapt_secure.web.site import Site


def attempts(files: list[str], port: int) -> dict[str, str]:
    """Return how each attempt ended, by what was attempted."""
    found = {}
    for name in files:
        try:
            found[name] = f"read {len(Path(name).read_bytes())} bytes"
        except OSError as error:
            found[name] = type(error).__name__
    try:
        found["list"] = str(os.listdir("/"))  # noqa: PTH208 - nothing but the attempt
    except OSError as error:
        found["list"] = type(error).__name__
    try:
        Path("written").write_text("x")
        found["write"] = "done"
    except OSError as error:
        found["write"] = type(error).__name__
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        found["connect"] = "done"
    except OSError as error:
        found["connect"] = type(error).__name__
    found["environment"] = " ".join(sorted(os.environ))
    return found


SITE = Site(
    title="Probe",
    templates=Path(__file__).parent,
    pages={"/": "Now", "/other": "Other"},
    actions={"do": ("word",)},
    functions={"attempts": attempts},
)
