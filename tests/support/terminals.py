"""Commands as people see them: on a terminal of so many columns, or through a pipe, in some encoding."""

import os
import re
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from rich.cells import cell_len

from fedapt_secure.cli.app import run
from fedapt_secure.process import streams
from tests.support import warm

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours, and the lines of a progress bar that is drawn anew."""
_TABLE = tuple("│┃┏┡└├╇+|")


@dataclass(frozen=True)
class View:
    """How a command's output is looked at; without columns it is a pipe."""

    encoding: str
    columns: int | None = None

    def __str__(self) -> str:
        return f"{self.encoding}-{self.columns or 'pipe'}"


@dataclass(frozen=True)
class Seen:
    """What a command showed; ``raw`` with colours, ``text`` without."""

    status: int
    raw: str
    view: View

    @property
    def text(self) -> str:
        return _CONTROL.sub("", self.raw).replace("\r", "\n")

    @property
    def too_wide(self) -> list[str]:
        """Lines of tables that do not fit."""
        columns = self.view.columns
        lines = (line.rstrip() for line in self.text.split("\n"))
        return [one for one in lines if columns and one.startswith(_TABLE) and cell_len(one) > columns]


def look(arguments: list[str], view: View, folder: Path) -> Seen:
    """Run a command in a process of its own; return what both streams show, decoded strictly."""
    ours, theirs = _opened(view)
    process = subprocess.Popen(
        [*warm.program(), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONIOENCODING": view.encoding} | _settings(view, told=False),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    data = _all(ours)
    return Seen(process.wait(60), data.decode(view.encoding), view)


def glance(arguments: list[str], view: View) -> Seen:
    """Run a command in this process and folder, on a terminal or pipe: many times faster than `look`."""
    ours, theirs = _opened(view)
    with ThreadPoolExecutor(1) as reader, Path(os.devnull).open() as nothing:
        reading = reader.submit(_all, ours)
        with os.fdopen(theirs, "w", encoding=view.encoding) as screen:
            seen_as = mock.patch.multiple(sys, stdin=nothing, stdout=screen, stderr=screen)
            with seen_as, mock.patch.dict(os.environ, _settings(view, told=True)):
                streams.prepare()
                status = run(arguments)
        data = reading.result(60)
    return Seen(status, data.decode(view.encoding), view)


def _opened(view: View) -> tuple[int, int]:
    if view.columns is None:
        return os.pipe()
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (50, view.columns))
    return ours, theirs


def _settings(view: View, *, told: bool) -> dict[str, str]:
    """Return the environment; a process on a terminal asks it how wide it is, and need not be told."""
    columns = str(view.columns) if told and view.columns else ""
    return {"TERM": "xterm-256color", "COLUMNS": columns, "NO_COLOR": ""}


def _all(descriptor: int) -> bytes:
    data = bytearray()
    while part := _read(descriptor):
        data += part
    os.close(descriptor)
    return bytes(data)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""
