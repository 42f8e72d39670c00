"""Rows about sessions: what is offered, domain keys, and the group secret."""

from typing import Final

from tests.hostile.behaviour import FOUR, NOBODY, OTHERS, VICTIM, Behaviour, Outcome
from tests.hostile.lies import offers
from tests.hostile.lies.offers import ChangedKey, ChangedOffer, ChangedPart, TwoSecrets
from tests.hostile.table.rows import (
    LEFT,
    NOT_SIGNED,
    OPEN,
    OTHER_ROSTER,
    VIOLATED,
    refused_by_one,
    without_one,
)

OFFERS: Final = (
    Behaviour(
        "another plan offered to one institution",
        lambda: ChangedOffer(offers.with_plan(rounds=1)),
        without_one(
            "ContextMismatch",
            "the closed record is not the session that we know",
            ("refused", "accepted another configuration"),
            verdict=VIOLATED,
            named=f"{VICTIM} was offered session {{session}}… in another configuration",
        ),
    ),
    Behaviour(
        "another seed of the first model offered to one, and its acceptance taken for the session's",
        lambda: ChangedOffer(offers.with_plan(initial_seed=7), minds=False),
        without_one(
            "ContextMismatch",
            "made a group secret for another session or configuration",
            LEFT,
            verdict=VIOLATED,
            named=f"{VICTIM} was offered session {{session}}… in another configuration",
        ),
    ),
    Behaviour(
        "a swapped sealing key in one institution's roster",
        lambda: ChangedOffer(offers.SWAPPED_SEALING_KEY),
        without_one(*OTHER_ROSTER, ("left", "roster_differs")),
    ),
    Behaviour(
        "a swapped sealing key in the roster of all",
        lambda: ChangedOffer(offers.SWAPPED_SEALING_KEY, to=FOUR),
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=FOUR,
            refused=OTHER_ROSTER,
            noted=("left", "roster_differs"),
            named=OTHER_ROSTER[1],
        ),
    ),
    Behaviour(
        "a swapped identity key in one institution's roster",
        lambda: ChangedOffer(offers.SWAPPED_IDENTITY_KEY),
        without_one(*OTHER_ROSTER, ("left", "roster_differs")),
    ),
    Behaviour(
        "the roster of another session",
        lambda: ChangedOffer(offers.without_member),
        without_one(*OTHER_ROSTER, ("left", "roster_differs")),
    ),
    Behaviour(
        "an offer that is not signed",
        offers.UnsignedOffer,
        without_one("VerificationFailed", "the signature on 'session offer' does not verify", LEFT),
    ),
    Behaviour(
        "another session offered in the middle of this one",
        offers.AnotherSession,
        refused_by_one("UnexpectedMessage", "the coordinator sent 'session offer' out of turn"),
    ),
    Behaviour(
        "a domain key of another seed than the one committed to",
        lambda: ChangedKey("other seed"),
        refused_by_one(
            "VerificationFailed", "is not the one committed to", noted=("declined", "message_refused")
        ),
    ),
    Behaviour(
        "a domain key of another session",
        lambda: ChangedKey("other session"),
        refused_by_one(
            "ContextMismatch",
            "the sealed key is for another session or institution",
            noted=("declined", "message_refused"),
        ),
    ),
    Behaviour(
        "a domain key that is sealed to somebody else",
        lambda: ChangedKey("other receiver"),
        refused_by_one(
            "VerificationFailed", "a sealed message does not open", noted=("declined", "message_refused")
        ),
    ),
    Behaviour(
        "back with a log that lacks what it has signed of it",
        offers.LostLog,
        without_one(
            "RolledBackLog",
            "the log was cut, rolled back or rewritten",
            ("left", "your_log_behind"),
            verdict=OPEN,
        ),
    ),
)

GROUP: Final = (
    Behaviour(
        "a part of the group secret altered",
        lambda: ChangedPart(offers.altered_box),
        without_one(
            "VerificationFailed", "a record is not the one that its dealer signed", LEFT, verdict=OPEN
        ),
    ),
    Behaviour(
        "a part of the group secret withheld",
        lambda: ChangedPart(offers.withheld),
        Outcome(right=OTHERS, noted=("not_waiting_for", VICTIM), verdict=OPEN, named=NOT_SIGNED),
    ),
    Behaviour(
        "another commitment in a part",
        lambda: ChangedPart(offers.other_commitment),
        without_one(
            "VerificationFailed", "the signature on 'secagg group header' does not verify", LEFT, verdict=OPEN
        ),
    ),
    Behaviour(
        "a group secret that the coordinator has drawn, in the maker's name",
        lambda: ChangedPart(offers.own_secret, to=FOUR),
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=FOUR,
            refused=("VerificationFailed", "the signature on 'secagg group header' does not verify"),
            noted=LEFT,
            verdict=OPEN,
            named="the signature on 'secagg group header' does not verify",
        ),
    ),
    Behaviour(
        "two group secrets, each made by an institution, to two groups",
        lambda: TwoSecrets(after=False),
        Outcome(
            right=OTHERS,
            noted=("refused", "the signature on 'group confirmed' does not verify"),
            verdict=VIOLATED,
            named=f"a session has one; {VICTIM} was given another, and joined no round with it",
        ),
    ),
    Behaviour(
        "a second group secret after the first",
        lambda: TwoSecrets(after=True),
        refused_by_one("UnexpectedMessage", "the coordinator sent 'group part' out of turn"),
    ),
    Behaviour(
        "another group secret to one whose connection broke",
        offers.AnotherSecretOnReturn,
        without_one("ContextMismatch", "a second group secret for this session was sent", LEFT, verdict=OPEN),
    ),
)
