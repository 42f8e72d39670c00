"""What operators read of what the coordinator logs: a level and a sentence for each type of line."""

from collections.abc import Mapping
from logging import DEBUG, INFO, WARNING, Logger
from typing import Any, Final

from fedapt_secure.protocol.reasons import meaning_of

_SENTENCES: Final[Mapping[str, tuple[int, str]]] = {
    "certificate": (DEBUG, "own certificate loaded"),
    "listening": (INFO, "listening for rounds"),
    "rehearsal": (INFO, "a session was rehearsed: nothing is offered or spent"),
    "session_started": (INFO, "session started"),
    "session_resumed": (INFO, "session resumed"),
    "connected": (INFO, "institution connected"),
    "disconnected": (INFO, "institution disconnected"),
    "turned_away": (WARNING, "connection turned away"),
    "ready": (INFO, "institution ready"),
    "group": (INFO, "the institutions share a secret now"),
    "round_started": (INFO, "round {round} started"),
    "phase": (INFO, "round {round}: {phase}"),
    "late": (WARNING, "round {round}: going on without those who are late"),
    "declined": (WARNING, "institution sits a round out: {said}; {call}"),
    "left": (WARNING, "institution does not take part for now: {said}; {call}"),
    "not_waiting_for": (WARNING, "not waiting any longer for those who are missing"),
    "waiting_for_return": (
        WARNING,
        "no round can take place without those who are out: waiting for them to come back;"
        " 'fedapt-secure server status' says why each is, 'server run --end-session' ends the session",
    ),
    "cannot_continue": (WARNING, "the session cannot go on"),
    "refused": (WARNING, "message refused"),
    "sum_refused": (WARNING, "round {round}: the sum does not hold with an institution"),
    "round_ended": (INFO, "round {round} {status}"),
    "closing": (INFO, "session closing"),
    "done": (INFO, "institution has the finished model"),
    "session_ended": (INFO, "session ended"),
}
_FIELDS: Final = (
    "session", "round", "attempt", "phase", "status", "completed_rounds", "rounds", "participants",
    "contributors", "dropped", "names", "host", "port", "made_by", "reason", "detail", "error",
)  # fmt: skip


def narrate(logger: Logger, type: str, body: Mapping[str, Any]) -> None:
    """Log what a line of the signed log says; only fields that an operator needs.

    Args:
        logger: Where to.
        type: The line's type.
        body: Its body.
    """
    level, sentence = _SENTENCES.get(type, (DEBUG, type.replace("_", " ")))
    fields = {key: body[key] for key in _FIELDS if body.get(key) not in (None, "", [])}
    # A log record has a name already, which is the logger's.
    institution = {"institution": body["name"]} if "name" in body and type != "certificate" else {}
    told = dict(body)
    if type in ("left", "declined"):
        meaning = meaning_of(body["reason"])
        told |= {"said": meaning.said, "call": meaning.call}
    logger.log(level, sentence.format_map(told), extra={"event": type} | fields | institution)
