"""What a running service says on standard error: lines for people, or one JSON object a line for programs.

Whoever logs puts the event and its fields beside the sentence:
``getLogger("fedapt_client").info("round joined", extra={"event": "round_joined", "round": 3})``.
This is for operators; the signed log is another matter, and the place of what must be provable.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.process.shown import shown
from fedapt_secure.process.streams import fitting

LOGGERS: Final = ("fedapt_server", "fedapt_client", "fedapt_secure")
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_NOT_OURS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(json: bool, level: str = "info") -> None:
    """Let our loggers write to standard error; what libraries log goes nowhere.

    Args:
        json: One JSON object a line; otherwise lines for people.
        level: ``debug``, ``info`` or ``warning``.

    Raises:
        InvalidInput: For another level.
    """
    if level not in LEVELS:
        raise InvalidInput(f"{level!r} is not a level of logging: use {', '.join(LEVELS)}")
    handler = _Handler()
    handler.setFormatter(JsonFormatter() if json else HumanFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(LEVELS[level])
        logger.propagate = False


@contextmanager
def quiet() -> Iterator[None]:
    """Keep our loggers to themselves, where something else on the screen says what goes on.

    A root handler would print their warnings, and Opacus installs one when it is imported.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as ``extra``, but the event, in the order in which it was given."""
    return {k: v for k, v in vars(record).items() if k not in _NOT_OURS and k != "event" and v is not None}


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, event, message, and the event's fields (round, institution, ...)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        head = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", None),
            "message": _sentence(record),
        }
        # ASCII only: no character from outside can end a line or colour a terminal.
        return json.dumps(head | {k: v for k, v in fields_of(record).items() if k not in head}, default=str)


class HumanFormatter(logging.Formatter):
    """``21:03:11 INFO round 3 started  round=3 attempt=1``, the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC)
        fields = " ".join(f"{key}={_shown(value)}" for key, value in fields_of(record).items())
        return f"{time:%H:%M:%S} {record.levelname} {shown(_sentence(record))}  {fields}".rstrip()


def _sentence(record: logging.LogRecord) -> str:
    """Return the message; of a mistake of ours, the kind of error too, and never a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return record.getMessage() if error is None else f"{record.getMessage()}: {type(error).__name__}"


def _shown(value: object) -> str:
    """Return a value that cannot break out of its place: plain words as they are, all else in quotes."""
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=')
    return text if plain and text else json.dumps(text)


class _Handler(logging.Handler):
    """Writes to whatever standard error is now; a reader that has gone away ends nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(fitting(self.format(record), getattr(sys.stderr, "encoding", None)) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
