"""What a log has seen of other parties' logs: the highest heads in its ``witnessed`` lines.

The log is the only place where they are kept; they are found by reading it once when a party starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.log.heads import WitnessedHead, read_witnessed
from fedapt_secure.log.line import WITNESSED, parse_line

MAX_LOGS: Final = 8
"""So many logs of one party are remembered; it has more only after losing one again and again."""
_MARK: Final = b'"type":"witnessed"'


@dataclass(frozen=True)
class _Seen:
    seq: int
    session: str
    round: int
    fields: dict[str, Any]


def highest_heads(files: Sequence[Path]) -> tuple[WitnessedHead, ...]:
    """Return of every party and log the highest head in a log's ``witnessed`` lines.

    At most `MAX_LOGS` logs a party, those that were seen last. Signatures are not checked: whoever uses a
    head checks it against the roster.

    Args:
        files: The segments of our own log, see `reader.segments`.

    Raises:
        InvalidInput: If a ``witnessed`` line does not hold heads.
    """
    seen: dict[str, dict[str, _Seen]] = {}
    for body in _witnessed_bodies(files):
        try:
            for fields in body["heads"]:
                logs = seen.setdefault(fields["party"], {})
                known = logs.pop(fields["log"], None)
                new = _Seen(fields["seq"], body["session"], body["round"], fields)
                logs[fields["log"]] = new if known is None or new.seq >= known.seq else known
                if len(logs) > MAX_LOGS:
                    del logs[next(iter(logs))]
        except (KeyError, TypeError):
            raise InvalidInput("not the body of a 'witnessed' line") from None
    return tuple(head for logs in seen.values() for one in logs.values() for head in _decoded(one))


def _decoded(seen: _Seen) -> tuple[WitnessedHead, ...]:
    return read_witnessed({"session": seen.session, "round": seen.round, "heads": [seen.fields]})[0]


def _witnessed_bodies(files: Sequence[Path]) -> Iterator[Any]:
    for file in files:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if _MARK not in raw or not raw.endswith(b"\n"):
                    continue
                entry = parse_line(raw[:-1], f"{file}, line {number},")
                if entry.type == WITNESSED:
                    yield entry.body
