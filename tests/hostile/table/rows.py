"""Kinds of rows: what several behaviours come to alike."""

from dataclasses import replace
from typing import Final

from fedapt_secure.audit.findings import Verdict
from tests.hostile.behaviour import FOUR, NOBODY, OTHERS, VICTIM, Outcome

OPEN, VIOLATED = Verdict.OPEN, Verdict.VIOLATED
ONE: Final = (VICTIM,)
NEVER_CAME = "and the sum never came"
NOT_SIGNED = "does not bear this party's own signature"
NO_RECORD = "has no close record"
NOT_THE_SUM = ("SumCheckFailed", "sum check failed: this is not the sum of what the survivors tagged")
OTHER_ROSTER = ("InvalidInput", "the session's roster is not the one approved here")
OTHER_START = ("ContextMismatch", "the round starts from another model than ours")
NO_END = ("VerificationFailed", "the signature on 'session end' does not verify")
LEFT = ("left", "message_refused")
TURNED_DOWN = "turned down what it was told at the time"


def no_sum(refused: tuple[str, str], *, rounds: int = 0) -> Outcome:
    """A sum that holds nowhere: nobody's model moves, and what was revealed binds everybody."""
    return Outcome(
        right=NOBODY,
        rounds=rounds,
        refusing=FOUR,
        refused=refused,
        noted=("sum_refused", refused[0]),
        verdict=OPEN,
        named=NEVER_CAME,
    )


def no_round(refused: tuple[str, str], *, refusing: tuple[str, ...] = FOUR) -> Outcome:
    """A round that comes to no sum, because institutions abort it, signed."""
    return Outcome(
        right=NOBODY,
        rounds=0,
        refusing=refusing,
        refused=refused,
        noted=("round_ended", f"aborted ({refused[0]})"),
        named=refused[1],
    )


def refused_by_one(error: str, words: str, **more: object) -> Outcome:
    """The victim turns it down, and all end with the right model."""
    row = Outcome(refusing=ONE, refused=(error, words), named=words)
    return replace(row, **more)  # type: ignore[arg-type]


def without_one(error: str, words: str, noted: tuple[str, str], **more: object) -> Outcome:
    """The victim ends the session, and the others have the right model."""
    row = Outcome(right=OTHERS, refusing=ONE, refused=(error, words), noted=noted, named=words)
    return replace(row, **more)  # type: ignore[arg-type]
