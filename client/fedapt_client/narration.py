"""What an institution's operators read while it runs: one structured line for each line of the signed log.

The signed log is the evidence and is not meant to be watched. Which of its fields are repeated here is
listed, so that a new field does not end up on a terminal unconsidered.
"""

import logging
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Final

from fedapt_secure.protocol.session import SessionConfiguration

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
    "rehearsed": (logging.INFO, "a session was rehearsed: nothing is spent"),
    "answer_time": (logging.INFO, "updates leave so many seconds after their round's start"),
    "group": (logging.INFO, "shares the session's secret with the other institutions"),
    "round_joined": (logging.INFO, "round joined"),
    "spend": (logging.INFO, "budget spent"),
    "phase": (logging.DEBUG, "phase reached"),
    "released": (logging.INFO, "protected update released"),
    "verified_sum": (logging.DEBUG, "sum verified"),
    "caught_up": (logging.INFO, "took the newest model from those who state it"),
    "unresolved": (
        logging.WARNING,
        "shares were revealed and no sum has come: no other survivor set is signed from this model",
    ),
    "round_ended": (logging.INFO, "round ended"),
    "refused": (logging.WARNING, "refused"),
    "disconnected": (logging.WARNING, "the coordinator is away"),
    "session_ended": (logging.INFO, "finished model stored"),
    "session_closed": (logging.INFO, "session closed"),
    "not_closed": (logging.WARNING, "session ended without the record that closes it"),
}


def said_of_unused(share: float) -> str:
    """Return that a share of the files is not used, as a sentence for a journal: counts would be data."""
    return f"{max(1, round(100 * share))} % of the files are not used: 'client rehearse' names each of them"


def said_of_rounds(configuration: SessionConfiguration, name: str) -> str:
    """Return in which rounds an institution takes part, as a sentence."""
    own, rounds = configuration.own_rounds(name), configuration.plan.rounds
    if len(own) == rounds:
        return f"takes part in all {rounds} rounds"
    if not own:
        return (
            f"takes part in none of the {rounds} rounds: it spends nothing and waits for the finished model"
        )
    return f"takes part in {len(own)} of {rounds} rounds ({_listed(own)}) and sits the others out"


def said_of_lacking(count: int) -> str:
    """Return that there is no image of some classes; which, is for a terminal and not for a journal."""
    some = "a class" if count == 1 else f"{count} classes"
    return f"there is no image of {some} of the session here: allowed; 'client rehearse' says of which"


def _listed(numbers: Iterable[int]) -> str:
    """Return ascending numbers with runs of them shortened: ``1-3, 7``."""
    runs = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        first, *others = (number for _, number in run)
        runs.append(f"{first}-{others[-1]}" if others else f"{first}")
    return ", ".join(runs)


def narrate(institution: str, type: str, body: Mapping[str, Any]) -> None:
    """Tell the operators about a line of the signed log.

    Args:
        institution: Its name.
        type: The line's type.
        body: Its body.
    """
    level, sentence = _SENTENCES.get(type, (logging.DEBUG, type.replace("_", " ")))
    shown = {key: body[key] for key in _SHOWN if body.get(key) is not None}
    tell(institution, type, sentence, level=level, round=body.get("round"), **shown)


def tell(institution: str, event: str, sentence: str, *, level: int = logging.INFO, **details: Any) -> None:
    """Tell the operators about something; ``details`` are fields of their own, never secret.

    Args:
        institution: Its name.
        event: What happened, in one word, for machines.
        sentence: The same for people.
        level: Of `logging`.
        details: Fields of their own.
    """
    LOGGER.log(level, sentence, extra={"event": event, "institution": institution, **details})
