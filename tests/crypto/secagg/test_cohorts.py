"""Cohorts: one of each domain, the same for everybody who computes it, and nobody preferred."""

from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.cohorts import (
    EVERYBODY,
    ONE_PER_DOMAIN,
    check_size,
    cohort_size,
    round_roster,
    rounds_of,
)
from tests.support.rosters import roster_of

SEALING = SealingKey(digest("sealing")).public_key
IDENTITIES = [Identity.from_private_bytes(digest("identity", i)) for i in range(13)]
CONFIGURATION = sha256(b"configuration").digest()


def roster_with(domains: list[int]) -> Roster:
    entries = [(f"clinic-{i}", IDENTITIES[i], SEALING, domain) for i, domain in enumerate(domains, start=1)]
    return roster_of(IDENTITIES[0].public_key, entries)


rosters = st.lists(st.integers(0, 4), min_size=1, max_size=12).map(roster_with)
hashes = st.binary(min_size=32, max_size=32)


@given(rosters, hashes, st.integers(1, 2**31))
def test_a_cohort_has_one_of_each_domain_in_roster_order(roster, configuration, number) -> None:
    cohort = round_roster(roster, ONE_PER_DOMAIN, configuration, number)
    assert sorted(m.domain_index for m in cohort.members) == sorted({m.domain_index for m in roster.members})
    assert len(cohort.members) == cohort_size(roster, ONE_PER_DOMAIN)
    assert [name for name in roster.names if name in cohort.names] == list(cohort.names)
    assert all(roster.member(m.name) == m for m in cohort.members)
    assert cohort.coordinator_key == roster.coordinator_key
    assert cohort == round_roster(roster, ONE_PER_DOMAIN, configuration, number)


@given(rosters, hashes, st.integers(1, 30))
def test_own_rounds_are_those_of_the_cohorts(roster, configuration, rounds) -> None:
    for name in roster.names:
        own = rounds_of(roster, ONE_PER_DOMAIN, configuration, rounds, name)
        members = {n: round_roster(roster, ONE_PER_DOMAIN, configuration, n) for n in range(1, rounds + 1)}
        assert own == tuple(number for number, cohort in members.items() if name in cohort.names)
        assert rounds_of(roster, EVERYBODY, configuration, rounds, name) == tuple(range(1, rounds + 1))


@given(rosters, hashes, st.integers(1, 30))
def test_everybody_is_everybody(roster, configuration, number) -> None:
    assert round_roster(roster, EVERYBODY, configuration, number) is roster
    assert cohort_size(roster, EVERYBODY) == len(roster.members)


def test_the_rule_is_the_one_in_the_documents() -> None:
    """docs/log-format.md: position D mod m, D the digest of label, configuration, round and domain."""
    roster = roster_with([0, 1, 0, 1, 0])
    for number in range(1, 20):
        chosen = []
        for domain, members in ((0, ("clinic-1", "clinic-3", "clinic-5")), (1, ("clinic-2", "clinic-4"))):
            drawn = int.from_bytes(digest("cohort", CONFIGURATION, number, domain), "big")
            chosen.append(members[drawn % len(members)])
        assert set(round_roster(roster, ONE_PER_DOMAIN, CONFIGURATION, number).names) == set(chosen)


def test_nobody_is_preferred() -> None:
    """3,000 rounds, three in each of two domains: 1,000 each, and six standard deviations are 155."""
    roster = roster_with([0, 0, 0, 1, 1, 1])
    counts = Counter(
        name
        for number in range(1, 3001)
        for name in round_roster(roster, ONE_PER_DOMAIN, CONFIGURATION, number).names
    )
    assert set(counts) == set(roster.names)
    assert all(abs(count - 1000) < 155 for count in counts.values())


def test_another_configuration_has_other_cohorts() -> None:
    roster = roster_with([0, 0, 0, 1, 1, 1])
    own = [rounds_of(roster, ONE_PER_DOMAIN, bytes([i]) * 32, 50, "clinic-1") for i in range(2)]
    assert own[0] != own[1]


def test_too_few_domains_are_refused_with_what_to_do() -> None:
    roster = roster_with([0, 1, 0, 1, 0, 1])
    with pytest.raises(InvalidInput, match="2 domains that have any make a round of 2, and 3 are needed"):
        check_size(roster, ONE_PER_DOMAIN, 3)
    check_size(roster, EVERYBODY, 3)
    check_size(roster_with([0, 1, 2, 2]), ONE_PER_DOMAIN, 3)


def test_a_stranger_has_no_rounds() -> None:
    with pytest.raises(InvalidInput, match="not on the roster"):
        rounds_of(roster_with([0, 1]), ONE_PER_DOMAIN, CONFIGURATION, 3, "clinic-9")
