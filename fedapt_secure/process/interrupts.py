"""Ctrl-C at any moment, also while libraries are loaded: status 130 and no traceback.

An import is no place for a `KeyboardInterrupt`: it is swallowed in callbacks of the import machinery, or C++
turns it into another error. Nothing can be lost there, so the process ends at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.process.streams import JsonLines

_IMPORTING: Final = "<frozen importlib._bootstrap>"
_SHOW_CURSOR: Final = b"\r\x1b[K\x1b[?25h"
"""A spinner that says 'loading' has hidden it."""


def install() -> None:
    """Take Ctrl-C from here on; not where whoever started us wants it to be ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


@contextmanager
def left_to_asyncio() -> Iterator[None]:
    """Let `asyncio.run` take Ctrl-C its own way: it cancels what runs, and tasks clean up."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not _interrupted:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            _leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def _leave() -> None:
    with suppress(OSError, ValueError):
        if isinstance(sys.stderr, JsonLines):
            sys.stderr.put("error", "interrupted", "")
        else:
            for descriptor in (1, 2):
                if os.isatty(descriptor):
                    os.write(descriptor, _SHOW_CURSOR)
            os.write(2, b"interrupted\n")
    os._exit(ExitStatus.INTERRUPTED)
