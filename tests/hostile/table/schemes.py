"""Rows about the other schemes: CKKS, and none."""

from collections.abc import Callable
from typing import Final

from fedapt_crypto.secagg import registry
from tests.hostile.behaviour import FOUR, NOBODY, Behaviour, Outcome
from tests.hostile.liar import Lie
from tests.hostile.lies import offers, schemes
from tests.hostile.lies.offers import ChangedOffer, ChangedPart
from tests.hostile.table.rows import (
    LEFT,
    ONE,
    OPEN,
    OTHER_ROSTER,
    OTHER_START,
    TURNED_DOWN,
    VIOLATED,
    without_one,
)


def under(scheme: str, name: str, lie: Callable[[], Lie], comes: Outcome) -> Behaviour:
    return Behaviour(f"{scheme}: {name}", lie, comes, scheme)


CKKS, NONE = registry.CKKS, registry.NONE
OTHER_SCHEMES: Final = (
    under(CKKS, "nothing but the truth", Lie, Outcome()),
    under(
        CKKS,
        "confirmations of the key that are forged",
        schemes.ForgedConfirmations,
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=FOUR,
            refused=("VerificationFailed", "the signature on 'group confirmed' does not verify"),
            noted=("declined", "message_refused"),
            named="the signature on 'group confirmed' does not verify",
        ),
    ),
    under(
        CKKS,
        "fewer confirmations than the threshold",
        schemes.TooFewConfirmations,
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=FOUR,
            refused=("TooFewParticipants", "2 institutions have confirmed the group secret where 3 must"),
            noted=("declined", "policy_participants"),
            named="2 institutions have confirmed the group secret where 3 must",
        ),
    ),
    under(
        CKKS,
        "another sum of ciphertexts than was signed, to one institution",
        lambda: schemes.ChangedSumOfCiphertexts(ONE),
        without_one("ContextMismatch", "the sum is not the one we signed for", LEFT, verdict=OPEN),
    ),
    under(
        CKKS,
        "two sets of contributors",
        schemes.TwoContributorSets,
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=FOUR[2:],
            refused=("ContextMismatch", "account of round 1 is not what happened here"),
            noted=("refused", "signed another contributor set or sum"),
            verdict=VIOLATED,
            named=TURNED_DOWN,
        ),
    ),
    under(
        CKKS,
        "a swapped sealing key in one institution's roster",
        lambda: ChangedOffer(offers.SWAPPED_SEALING_KEY),
        without_one(*OTHER_ROSTER, ("left", "roster_differs")),
    ),
    under(
        CKKS,
        "a group key that the coordinator has drawn, in the maker's name",
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
    under(NONE, "nothing but the truth", Lie, Outcome()),
    under(
        NONE,
        "another sum to one institution (which it takes: nothing is claimed without protection)",
        lambda: schemes.ChangedPlainSum(schemes.doubled, ONE),
        Outcome(
            refusing=ONE,
            refused=OTHER_START,
            noted=("sum_refused", "states another sum or model than there is"),
            verdict=VIOLATED,
            named="what institutions verified as the sum of round 1 (session {session}…) differs",
            blamed=ONE,
        ),
    ),
)
