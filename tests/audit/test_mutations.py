"""Random damage to a federation's logs never ends in VERIFIED, unless it changes nothing that is claimed."""

from collections import Counter

import pytest

from tests.audit.mutate import BEYOND, MUTATIONS, UNCHANGED, run_many


def missed(outcomes: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    return [key for key in outcomes if key[1].startswith("MISSED")]


def test_a_few_hundred_mutations() -> None:
    outcomes = run_many(0, 110)
    assert missed(outcomes) == []
    assert {kind for kind, _ in outcomes} == set(MUTATIONS), "every kind of damage was done"
    lenient = sum(count for (_, outcome), count in outcomes.items() if outcome in (UNCHANGED, BEYOND))
    assert lenient < 0.1 * outcomes.total(), "the two harmless outcomes are the exception"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_mutations() -> None:
    """`python -m tests.audit.mutate` does the same on two cores and reports the counts."""
    outcomes = run_many(1_000, 10_000)
    assert missed(outcomes) == []
    assert outcomes.total() == 10_000
