"""Standard output and error that take every text, and a log stream of JSON lines: set up once, at the start.

A terminal or pipe has an encoding that may lack the letters of the field: ε is written ``epsilon`` there,
not a question mark, and no command fails for it. Under ``--json-log`` whatever reaches standard error, from
whomever, is one JSON object a line.
"""

import codecs
import io
import json
import logging
import os
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from fedapt_secure.process.shown import lines_shown, sentence_shown, shown

SPELT: Final = {
    "ε": "epsilon",
    "δ": "delta",
    "σ": "sigma",
    "μ": "mu",
    "µ": "mu",
    "α": "alpha",
    "γ": "gamma",
    "κ": "kappa",
    "τ": "tau",
    "Δ": "Delta",
    "±": "+/-",
    "×": "x",
    "·": "*",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "∞": "infinite",
    "→": "->",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "²": "^2",
    "³": "^3",
    "⁴": "^4",
    "⁵": "^5",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "✓": "ok",
    "✕": "x",
}
"""How letters of ours are spelt where an encoding lacks them; others are written ``\\xNN``, ``\\uNNNN``."""
_WORDS: Final = {"Rényi": "Renyi"}
_HANDLER: Final = "fedapt-spelt"


class NobodyReads(BrokenPipeError):
    """Whoever was to read our output has gone; what was written of it last is lost with them."""


def fitting(text: str, encoding: str | None) -> str:
    """Return a text as a stream of an encoding can show it: nothing unsafe, nothing that it lacks.

    Args:
        text: Any text; its line ends stay.
        encoding: The stream's; ``None`` for UTF-8.
    """
    text = lines_shown(text)
    if text.isascii():
        return text
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for word, spelt in _WORDS.items():
            with suppress(UnicodeEncodeError):
                word.encode(encoding)
                continue
            text = text.replace(word, spelt)
        return text.encode(encoding, _HANDLER).decode(encoding)
    return text


def say(text: str, *, err: bool = False) -> None:
    """Write one line to standard output, or to standard error: a line end inside it came from outside."""
    say_lines(shown(text), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Write a text of ours that has lines; what the stream lacks is spelt out."""
    stream = sys.stderr if err else sys.stdout
    stream.write(fitting(text, stream.encoding) + "\n")
    stream.flush()


def say_json(fields: Any, *, indent: int | None = 2) -> None:
    """Write JSON that programs read, as `json_text` has it."""
    sys.stdout.write(json_text(fields, indent=indent) + "\n")
    sys.stdout.flush()


def json_text(fields: Any, *, indent: int | None = None) -> str:
    """Return JSON for standard output; letters that it lacks, or that a terminal obeys, are escaped.

    Raises:
        ValueError: If a number is not finite: JSON has none.
    """
    text = json.dumps(fields, indent=indent, ensure_ascii=False, allow_nan=False)
    if text == fitting(text, sys.stdout.encoding):
        return text
    return json.dumps(fields, indent=indent, allow_nan=False)


def complain(title: str, text: object) -> None:
    """Write one line to standard error about how this process ends: ``error: what is wrong``."""
    stream = sys.stderr
    sentence = sentence_shown(text)
    with suppress(OSError, ValueError):  # nobody reads it, or its disk is full
        if isinstance(stream, JsonLines):
            stream.put("error", title, sentence)
            return
        colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        shown_title = f"\x1b[31m{title}:\x1b[0m" if colour else f"{title}:"
        stream.write(f"{shown_title} {fitting(sentence, stream.encoding)}\n" if sentence else f"{title}\n")
        stream.flush()


def prepare(*, json_log: bool = False) -> None:
    """Make the standard streams take every text; the first thing that an entry point does.

    Args:
        json_log: Standard error is a log of JSON lines from here on.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
    if json_log and not isinstance(sys.stderr, JsonLines):
        sys.stderr = JsonLines(sys.stderr)
        _take_over(sys.stderr)


def asks_in_lines() -> bool:
    """Return whether standard error is a log of JSON lines: people are asked on standard output then."""
    return isinstance(sys.stderr, JsonLines)


class JsonLines(io.TextIOBase, TextIO):
    """A text stream that writes each line as one JSON object; a line that is one already stays as it is.

    Args:
        stream: Where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """UTF-8: the objects themselves are ASCII, whatever the text is."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Half a surrogate pair is escaped like everything else."""
        return "backslashreplace"

    def fileno(self) -> int:
        """The descriptor underneath; what other processes write to it is theirs."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """No: colours and progress bars are for people."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Take text; whole lines are written."""
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                self._line(line)
        return len(text)

    def flush(self) -> None:
        """Pass on what is whole; the beginning of a line waits for its end."""
        with self._lock:
            self._stream.flush()

    def end(self) -> None:
        """Write what was begun and has no end: nothing comes after it."""
        with self._lock:
            line, self._begun = self._begun, ""
            self._line(line)

    def put(self, level: str, event: str, message: str, **fields: Any) -> None:
        """Write one object: time, level, event, message, and more fields."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"time": time, "level": level, "event": event, "message": message}
        with self._lock:
            self._stream.write(json.dumps(head | fields, default=str) + "\n")
            self._stream.flush()

    def _line(self, line: str) -> None:
        if not line.strip():
            return
        if line.isascii() and line.startswith("{"):
            with suppress(ValueError):
                if isinstance(json.loads(line), dict):
                    self._stream.write(line + "\n")
                    self._stream.flush()
                    return
        self.put("info", "output", line.strip())


def _take_over(stream: JsonLines) -> None:
    """Let warnings, mistakes of ours and what libraries log be an object each, not one for every line."""

    def warned(message: Warning | str, kind: type[Warning], *_: object, **__: object) -> None:
        stream.put("warning", "warning", f"{kind.__name__}: {sentence_shown(message)}")

    def crashed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        told = "".join(traceback.format_exception_only(kind, error)).strip()
        where = [f"{one.filename}:{one.lineno} {one.name}" for one in traceback.extract_tb(trace)]
        stream.put("error", "crashed", sentence_shown(told), traceback=where)

    def in_a_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_type is not SystemExit:
            crashed(failed.exc_type, failed.exc_value, failed.exc_traceback)

    def ignored(failed: "sys.UnraisableHookArgs") -> None:
        crashed(failed.exc_type, failed.exc_value, failed.exc_traceback)

    warnings.showwarning = warned  # type: ignore[assignment]
    sys.excepthook = crashed
    sys.unraisablehook = ignored
    threading.excepthook = in_a_thread
    # Where libraries find a handler they install none of their own, whose lines would be no JSON.
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(_LibraryLog(stream))


class _LibraryLog(logging.Handler):
    """Warnings and errors of libraries; of mistakes the kind and no traceback."""

    def __init__(self, stream: JsonLines) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = record.getMessage() if error is None else f"{record.getMessage()}: {type(error).__name__}"
        with suppress(OSError, ValueError):
            self._stream.put(record.levelname.lower(), "library", sentence_shown(said), logger=record.name)


def _spelt(error: UnicodeError) -> tuple[str, int]:
    """Spell out what an encoding lacks: a codec's handler of errors."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_letter(letter, error.encoding) for letter in letters), error.end


def _letter(letter: str, encoding: str) -> str:
    spelt = SPELT.get(letter)
    return letter.encode("ascii", "backslashreplace").decode() if spelt is None else spelt


codecs.register_error(_HANDLER, _spelt)
