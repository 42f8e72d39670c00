"""One line of what the websocket library has to say, in place of its own logging."""

import logging
from collections.abc import Callable


class _Forward(logging.Handler):
    """Hands on warnings and errors, of mistakes of ours the kind and no traceback."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        reason = f"{record.getMessage()}: {type(error).__name__}" if error else record.getMessage()
        self._tell(reason)


def library_logger(name: str, tell: Callable[[str], None]) -> logging.Logger:
    """Return a logger of our own for a library: nobody else's settings apply to it.

    Args:
        name: What it is for.
        tell: Takes one line.
    """
    logger = logging.Logger(name)
    logger.addHandler(_Forward(tell))
    return logger
