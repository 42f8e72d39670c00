"""What an institution's own log says of its past: sessions accepted, and the last policy in force.

Read line by line, archived parts first, so a log of any length takes no memory. Nothing is verified here:
that is the audit's work.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapt_client.ledger import Ledger
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.audit.reader import segments

_WANTED = (b'"session_accepted"', b'"spend"', b'"policy"')


@dataclass(frozen=True)
class OwnLog:
    """What matters of a log when its institution starts again.

    Attributes:
        steps: Sessions that were accepted, hexadecimal, and the steps of each that were spent; ``None``
            stands for sessions without a name.
        policy_hash: Hash of the policy that was logged last.
    """

    steps: Mapping[str | None, int]
    policy_hash: str | None


def read_own_log(path: Path) -> OwnLog:
    """Read a log with its archived segments, see `fedapt_secure.audit.reader.segments`.

    Raises:
        InvalidInput: If a file cannot be read.
    """
    steps: dict[str | None, int] = {}
    policy_hash: str | None = None
    for part in segments(path):
        for kind, body in _entries(part):
            if kind == "session_accepted":
                steps.setdefault(body.get("session"), 0)
            elif kind == "spend":
                session, total = body.get("session"), body.get("total_steps")
                steps[session] = max(steps.get(session, 0), total if isinstance(total, int) else 0)
            elif kind == "policy":
                policy_hash = body.get("hash")
    return OwnLog(steps, policy_hash)


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open("rb") as stream:
            for raw in stream:
                if not any(one in raw for one in _WANTED):
                    continue  # parsing every line of a long log would take minutes
                try:
                    fields = json.loads(raw)
                    yield fields["type"], dict(fields["body"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # what is no log line is the log writer's and the audit's to refuse
    except OSError as error:
        raise InvalidInput(f"the log {path} cannot be read: {error.strerror}") from None


def check_ledger(own: OwnLog, ledger: Ledger, path: Path) -> None:
    """Refuse a ledger that knows less than the log: emptied, replaced, restored, or damaged in its journal.

    Raises:
        InvalidInput: Saying how many sessions or spends it lacks.
    """
    known: dict[str | None, int] = {one.terms.session.hex(): one.steps_taken for one in ledger.sessions}
    missing = sum(session not in known for session in own.steps)
    short = sum(known.get(session, steps) < steps for session, steps in own.steps.items())
    if missing or short:
        lacks = f"{missing} of the sessions" if missing else f"steps of {short} of the sessions"
        raise InvalidInput(
            f"the ledger {path} lacks {lacks} that this institution's log shows: put the right ledger back;"
            " one that forgets spends is not used"
        )
