"""What an institution is doing, in words: for ``client status``."""

from collections.abc import Mapping
from typing import Any, Final

from fedapt_secure.protocol.reasons import meaning_of


def activity_line(fields: Mapping[str, Any]) -> str:
    """Return whether an institution's process runs, and what it is doing, or did last.

    Args:
        fields: As `fedapt_client.status.describe` returns them.
    """
    running, doing, last = fields["running"], fields["doing"], fields["last"]
    if running and doing is None:
        return "yes; what it is doing cannot be told (is the disk full?)"
    if running:
        return f"yes: {_words(doing)}, since {doing['since']}"
    if last is None:
        return "no"
    stopped = "" if "stopped_by" not in last else f", stopped: {last['stopped_by']}"
    return f"no; last: {_words(last)}, since {last['since']}{stopped}"


def session_state(session: Mapping[str, Any]) -> str:
    """Return how far a session has come, from what `fedapt_client.status.describe` says of it."""
    if session["unfinished"]:
        return "ended without a model"
    if session["closed"]:
        return "closed"
    return "finished, not closed" if session["bundle"] else "open"


_PLAIN: Final = {
    "starting": "starting",
    "away": "the coordinator is away, trying again",
    "waiting": "connected, waiting for the coordinator to open a session",
    "preparing": "reading images and planning the budget",
    "ready": "takes part, waiting for the coordinator",
    "concluding": "storing and evaluating the finished model",
    "closing": "has signed the session's end, waiting for the others' signatures",
    "ended": "the session has ended",
}


def _words(doing: Mapping[str, Any]) -> str:
    what, reason = doing["what"], doing.get("reason")
    if what in _PLAIN:
        return _PLAIN[what]
    of = f" of {doing['rounds']}" if "rounds" in doing else ""
    number = f"round {doing.get('round')}{of}"
    out = "" if reason is None else f" ({reason}: {meaning_of(reason).said})"
    later = " and all later ones" if doing.get("final") else ""
    again = f", looks at the session again at {doing['again']}" if "again" in doing else ""
    found = {
        "approval": f"waiting for approval of the session with the hash {doing.get('configuration')}",
        "encoding": f"encoding images, {doing.get('percent', 0)} %",
        "training": f"training, {number}",
        "aggregating": f"update handed in, {number}",
        "sits_out": f"sits out {number}{later}{out}",
        "out": f"does not take part for now{out}{again}",
    }
    return found[what]
