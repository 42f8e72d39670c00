"""Rows about rounds: what goes on within one, what begins, and how it is said to have ended."""

from dataclasses import replace
from typing import Final

from fedapt_crypto.secagg.masking.messages import (
    AdvertiseList,
    ShareDelivery,
    SurvivorAnnouncement,
    UnmaskRequest,
)
from fedapt_secure.protocol import messages as m
from tests.hostile.behaviour import FOUR, VICTIM, Behaviour
from tests.hostile.lies import rounds
from tests.hostile.lies.rounds import ChangedEnd, ChangedPayload, ChangedStart, Repeats
from tests.hostile.table.rows import (
    LEFT,
    ONE,
    OTHER_START,
    TURNED_DOWN,
    VIOLATED,
    no_round,
    refused_by_one,
    without_one,
)

WITHIN_A_ROUND: Final = (
    Behaviour(
        "a masking key of its own in the place of an institution's",
        lambda: ChangedPayload(AdvertiseList, rounds.swapped_mask_key, to=FOUR[1:]),
        replace(
            no_round(("VerificationFailed", "the signature on 'secagg advertise' does not verify")),
            refusing=FOUR[1:],
        ),
    ),
    Behaviour(
        "shares altered on their way",
        lambda: ChangedPayload(ShareDelivery, rounds.altered_parcels),
        no_round(("MalformedMessage", "there are more bytes than parcels")),
    ),
    Behaviour(
        "another survivor set announced to one institution",
        lambda: ChangedPayload(SurvivorAnnouncement, rounds.without_one, to=ONE),
        refused_by_one(
            "ContextMismatch",
            "account of round 1 is not what happened here",
            noted=("refused", "signed another survivor set"),
            verdict=VIOLATED,
            named=f"differs between the logs (4 others); {VICTIM}, whose account it is, {TURNED_DOWN}",
        ),
    ),
    Behaviour(
        "fewer survivors than the threshold",
        lambda: ChangedPayload(SurvivorAnnouncement, rounds.too_few_survivors, to=(FOUR[0], VICTIM)),
        replace(
            no_round(("TooFewParticipants", "the survivor set has 2 parties where at least 3 must be")),
            refusing=(FOUR[0], VICTIM),
        ),
    ),
    Behaviour(
        "both secrets of one institution asked for",
        lambda: ChangedPayload(UnmaskRequest, rounds.both_secrets),
        no_round(("OverlappingUnmaskLists", f"asked for both secrets of {FOUR[0]}")),
    ),
    Behaviour(
        "shares asked for with forged survivors' signatures",
        lambda: ChangedPayload(UnmaskRequest, rounds.forged_signatures),
        no_round(("VerificationFailed", "the signature on 'secagg consistency' does not verify")),
    ),
    Behaviour(
        "shares asked for with other survivors than were signed",
        lambda: ChangedPayload(UnmaskRequest, rounds.other_survivors),
        no_round(("ContextMismatch", "the unmask request is not about the survivor set that we signed")),
    ),
    Behaviour(
        "shares asked for again, for other survivors, once they have come",
        rounds.AsksAgain,
        refused_by_one("UnexpectedMessage", "'unmask request' came where 'sum' was due", refusing=FOUR),
    ),
)

ROUNDS: Final = (
    Behaviour(
        "a round begun for one institution from another model",
        lambda: ChangedStart(rounds.no_model),
        refused_by_one(*OTHER_START, noted=("declined", "other_start")),
    ),
    Behaviour(
        "a round number skipped for one institution",
        lambda: ChangedStart(rounds.numbered(2), rounds=(1,)),
        refused_by_one(
            "ContextMismatch",
            "account of round 2 is not what happened here",
            noted=LEFT,
            verdict=VIOLATED,
            named=TURNED_DOWN,
        ),
    ),
    Behaviour(
        "a round that the session does not have",
        lambda: ChangedStart(rounds.numbered(3), rounds=(2,)),
        refused_by_one("UnexpectedMessage", "the session has no round 3", noted=("late", VICTIM)),
    ),
    Behaviour(
        "a round begun again that is verified",
        rounds.BeginsAgain,
        refused_by_one("UnexpectedMessage", "the sum of round 1 is verified"),
    ),
    Behaviour(
        "fewer participants named than the policy wants",
        lambda: ChangedStart(rounds.alone),
        refused_by_one(
            "PolicyRefused",
            "the round begins with 1 institutions where 3 are required",
            noted=("declined", "policy_participants"),
        ),
    ),
    Behaviour(
        "a round that names others than the one it is sent to",
        lambda: ChangedStart(rounds.others),
        refused_by_one("UnexpectedMessage", "begins without us", noted=("late", VICTIM)),
    ),
    Behaviour(
        "messages of round 1 sent again in round 2",
        lambda: Repeats(m.RoundStart, m.Aggregation, m.RoundEnd),
        refused_by_one("UnexpectedMessage", "belongs to another round", refusing=FOUR),
    ),
    Behaviour(
        "a message that is not in its one spelling",
        rounds.NotCanonical,
        refused_by_one(
            "MalformedMessage", "RoundStart is not in its canonical encoding", noted=("late", VICTIM)
        ),
    ),
    Behaviour(
        "a round called aborted to one whose sum it has given to all",
        lambda: ChangedEnd(rounds.aborted, rounds=(1,)),
        without_one(
            "ContextMismatch",
            "called a round aborted whose sum it has given out",
            LEFT,
            verdict=VIOLATED,
            named="sum given out and called aborted: the coordinator called round 1 (session {session}…)",
        ),
    ),
    Behaviour(
        "other contributors named to one institution",
        lambda: ChangedEnd(rounds.other_contributors, rounds=(1,)),
        without_one(
            "ContextMismatch",
            "names other contributors than those of the sum",
            LEFT,
            verdict=VIOLATED,
            named="the list of contributors of round 1 (session {session}…) differs between the logs",
        ),
    ),
    Behaviour(
        "the heads of all logs under a countersignature that is none",
        lambda: ChangedEnd(rounds.not_countersigned),
        refused_by_one("VerificationFailed", "the signature on 'witnessed heads' does not verify"),
    ),
    Behaviour(
        "another head of an institution's log than it has signed",
        lambda: ChangedEnd(rounds.other_head),
        refused_by_one("VerificationFailed", "the signature on 'witnessed heads' does not verify"),
    ),
)
