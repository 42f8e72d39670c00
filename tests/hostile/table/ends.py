"""Rows about where a session stands: catching up, and the end."""

from typing import Final

from tests.hostile.behaviour import FOUR, VICTIM, Behaviour, Outcome
from tests.hostile.lies import ends
from tests.hostile.lies.ends import CatchesUpWrong, ChangedSessionEnd, OtherRecord
from tests.hostile.table.rows import (
    LEFT,
    NO_END,
    ONE,
    OPEN,
    OTHER_START,
    refused_by_one,
    without_one,
)

CATCHING_UP: Final = (
    Behaviour(
        "one left out, and caught up truly",
        lambda: CatchesUpWrong(ends.honestly),
        Outcome(noted=("late", VICTIM)),
    ),
    Behaviour(
        "one left out, and never given the newest model",
        lambda: CatchesUpWrong(ends.never),
        without_one(*OTHER_START, ("declined", "other_start"), verdict=OPEN),
    ),
    Behaviour(
        "the newest model with one statement too few",
        lambda: CatchesUpWrong(ends.too_few_statements),
        without_one(
            "TooFewParticipants",
            "1 institutions state the newest model where 2 must",
            ("declined", "other_start"),
            verdict=OPEN,
        ),
    ),
    Behaviour(
        "the newest model with one statement several times",
        lambda: CatchesUpWrong(ends.one_twice),
        without_one(
            "TooFewParticipants",
            "1 institutions state the newest model where 2 must",
            ("declined", "other_start"),
            verdict=OPEN,
        ),
    ),
    Behaviour(
        "another model under true statements",
        lambda: CatchesUpWrong(ends.other_model),
        without_one(
            "ContextMismatch",
            "the newest model is not the one that was stated",
            ("declined", "other_start"),
            verdict=OPEN,
        ),
    ),
    Behaviour(
        "another model under forged statements",
        lambda: CatchesUpWrong(ends.forged_statement),
        without_one(
            "VerificationFailed",
            "the signature on 'verified sum' does not verify",
            ("declined", "other_start"),
            verdict=OPEN,
        ),
    ),
    Behaviour(
        "a model of an earlier round as the newest",
        ends.StaleModel,
        without_one(*NO_END, LEFT, verdict=OPEN),
    ),
)

ENDS: Final = (
    Behaviour(
        "a junk final model",
        lambda: ChangedSessionEnd(ends.junk_model, FOUR),
        refused_by_one(*NO_END, refusing=FOUR, noted=LEFT, verdict=OPEN),
    ),
    Behaviour(
        "a junk final model to one institution",
        lambda: ChangedSessionEnd(ends.junk_model, ONE),
        refused_by_one(*NO_END, noted=LEFT, verdict=OPEN),
    ),
    Behaviour(
        "other domain keys opened at the end",
        lambda: ChangedSessionEnd(ends.other_keys, FOUR),
        refused_by_one(
            "VerificationFailed", "is not the one committed to", refusing=FOUR, noted=LEFT, verdict=OPEN
        ),
    ),
    Behaviour(
        "a round left out of the account at the end",
        lambda: ChangedSessionEnd(ends.one_round_less, ONE),
        refused_by_one(
            "ContextMismatch", "account of round 2 is not what happened here", noted=LEFT, verdict=OPEN
        ),
    ),
    Behaviour(
        "a closed record of another model",
        lambda: OtherRecord(ends.junk_record, ONE),
        refused_by_one("ContextMismatch", "the closed record is not the session that we know", verdict=OPEN),
    ),
    Behaviour(
        "a closed record without one of the signatures",
        lambda: OtherRecord(ends.without_signature, ONE),
        refused_by_one("VerificationFailed", "the closed record does not account for everyone", verdict=OPEN),
    ),
)
