"""Rows about sums: what is announced in their place, to whom, and what is done with them."""

from typing import Final

from tests.hostile.behaviour import FOUR, NOBODY, OTHERS, VICTIM, Behaviour, Outcome
from tests.hostile.liar import Lie
from tests.hostile.lies import rounds, sums
from tests.hostile.lies.sums import ChangedSum, Hidden, OfAnotherRound, OtherFields, Withheld
from tests.hostile.table.rows import (
    NEVER_CAME,
    NOT_THE_SUM,
    ONE,
    OPEN,
    OTHER_START,
    no_sum,
    refused_by_one,
)

SUMS: Final = (
    Behaviour("nothing but the truth", Lie, Outcome()),
    Behaviour(
        "a sum that is one unit more in one value, signed",
        lambda: ChangedSum(sums.one_more),
        no_sum(NOT_THE_SUM),
    ),
    Behaviour("twice the sum and twice its tag", lambda: ChangedSum(sums.scaled), no_sum(NOT_THE_SUM)),
    Behaviour("the negated sum and tag", lambda: ChangedSum(sums.negated), no_sum(NOT_THE_SUM)),
    Behaviour("nothing, with tag 0", lambda: ChangedSum(sums.nothing), no_sum(NOT_THE_SUM)),
    Behaviour("the sum with another tag", lambda: ChangedSum(sums.other_tag), no_sum(NOT_THE_SUM)),
    Behaviour(
        "a value beyond what the survivors can add up to",
        lambda: ChangedSum(sums.too_large),
        no_sum(("SumCheckFailed", "a value beyond what the survivors can add up to")),
    ),
    Behaviour(
        "a sum of one value more than the updates have",
        lambda: ChangedSum(sums.longer),
        no_sum(("MalformedMessage", "a sum has another length than the updates")),
    ),
    Behaviour(
        "the sum under a signature that is none",
        lambda: OtherFields(lambda sum_: {"signature": bytes(64)}),
        no_sum(("VerificationFailed", "the signature on 'secagg sum' does not verify")),
    ),
    Behaviour(
        "the sum as that of another survivor set",
        sums.OtherSurvivors,
        no_sum(("ContextMismatch", "a sum belongs to another execution or survivor set")),
    ),
    Behaviour(
        "in round 2 the sum and tag of round 1",
        lambda: OfAnotherRound(whole=True),
        no_sum(NOT_THE_SUM, rounds=1),
    ),
    Behaviour(
        "in round 2 the tag of round 1", lambda: OfAnotherRound(whole=False), no_sum(NOT_THE_SUM, rounds=1)
    ),
    Behaviour(
        "another sum to one institution",
        lambda: ChangedSum(sums.one_more, to=ONE),
        refused_by_one(*NOT_THE_SUM, noted=("sum_refused", "SumCheckFailed")),
    ),
    Behaviour(
        "two models: another sum to two of four",
        lambda: ChangedSum(sums.one_more, to=FOUR[2:]),
        refused_by_one(*NOT_THE_SUM, refusing=FOUR[2:], noted=("sum_refused", "SumCheckFailed")),
    ),
    Behaviour(
        "two signed sums in one execution to one institution, the false one first",
        sums.TwoSums,
        refused_by_one(*NOT_THE_SUM, noted=("sum_refused", "SumCheckFailed")),
    ),
    Behaviour(
        "a sum withheld from one institution",
        lambda: Withheld(ONE),
        Outcome(noted=("late", VICTIM)),
    ),
    Behaviour(
        "a sum withheld from all, and the session ended as if it had been given",
        lambda: Withheld(FOUR),
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=FOUR,
            refused=OTHER_START,
            noted=("declined", "other_start"),
            verdict=OPEN,
            named=NEVER_CAME,
        ),
    ),
    Behaviour(
        "a sum taken and hidden, the round called aborted",
        Hidden,
        Outcome(
            right=NOBODY,
            rounds=0,
            noted=("round_ended", "too few institutions answered"),
            verdict=OPEN,
            named=NEVER_CAME,
        ),
    ),
    Behaviour(
        "the rewind: a sum hidden, and another one from the same model without the victim",
        lambda: Hidden((1,), left_out=VICTIM),
        Outcome(
            right=NOBODY,
            rounds=0,
            refusing=OTHERS,
            refused=("UnresolvedExecution", "two sums from one model would show an update"),
            noted=("round_ended", "aborted (UnresolvedExecution)"),
            verdict=OPEN,
            named=NEVER_CAME,
        ),
    ),
    Behaviour(
        "the rewind of the model: round 2 begun from the session's first model again",
        rounds.RewindsTheModel,
        Outcome(
            right=NOBODY,
            rounds=1,
            refusing=FOUR,
            refused=OTHER_START,
            noted=("declined", "other_start"),
            named=OTHER_START[1],
        ),
    ),
    Behaviour(
        "an update ignored after it has come",
        sums.IgnoresAnUpdate,
        Outcome(noted=("late", VICTIM)),
    ),
    Behaviour("a statement ignored", sums.IgnoresAStatement, Outcome(noted=("late", VICTIM))),
)
