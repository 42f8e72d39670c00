"""What an institution's operators read while it runs: one structured line for each line of the signed log.

The signed log is the evidence and is not meant to be watched. Which of its fields are repeated here is
listed, so that a new field does not end up on a terminal unconsidered.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

LOGGER: Final = logging.getLogger("fedapt_client")
_SHOWN: Final = (
    "session",
    "attempt",
    "phase",
    "status",
    "contributors",
    "rule",
    "detail",
    "reason",
    "steps",
    "total_steps",
    "epsilon",
    "delta",
    "not_after",
)
_SENTENCES: Final = {
    "policy": (logging.INFO, "a changed policy holds from now on"),
    "certificate": (logging.INFO, "certificate in use"),
    "session_accepted": (logging.INFO, "takes part in the session"),
    "round_joined": (logging.INFO, "round joined"),
    "spend": (logging.INFO, "budget spent"),
    "phase": (logging.DEBUG, "phase reached"),
    "released": (logging.INFO, "protected update released"),
    "round_ended": (logging.INFO, "round ended"),
    "refused": (logging.WARNING, "refused"),
    "disconnected": (logging.WARNING, "the coordinator is away"),
    "session_ended": (logging.INFO, "finished model stored"),
    "session_closed": (logging.INFO, "session closed"),
    "not_closed": (logging.WARNING, "session ended without the record that closes it"),
}


def narrate(institution: str, type: str, body: Mapping[str, Any]) -> None:
    """Tell the operators about a line of the signed log."""
    level, sentence = _SENTENCES.get(type, (logging.DEBUG, type.replace("_", " ")))
    shown = {key: body[key] for key in _SHOWN if body.get(key) is not None}
    tell(institution, type, sentence, level=level, round=body.get("round"), **shown)


def tell(institution: str, event: str, sentence: str, *, level: int = logging.INFO, **details: Any) -> None:
    """Tell the operators about something; ``details`` are fields of their own, never secret."""
    LOGGER.log(level, sentence, extra={"event": event, "institution": institution, **details})
