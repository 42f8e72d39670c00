"""Who holds which domain key: every key has a holder, and domains keep to their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.key_assignment import assign_keys, domains_of_keys, key_names

DOMAIN_COUNTS = st.integers(1, 6)


@st.composite
def rosters(draw: st.DrawFn) -> tuple[list[int], int]:
    """Draw institutions in which every domain has at least one."""
    domains = draw(DOMAIN_COUNTS)
    more = draw(st.lists(st.integers(0, domains - 1), max_size=8))
    return draw(st.permutations([*range(domains), *more])), domains


@given(rosters(), st.integers(1, 14))
def test_every_key_has_a_holder_and_nobody_a_foreign_one(roster: tuple[list[int], int], keys: int) -> None:
    members, domains = roster
    if keys > len(members):
        with pytest.raises(InvalidInput, match=f"{len(members)} at the most"):
            assign_keys(members, domains, keys)
        return
    held = assign_keys(members, domains, keys)
    assert set(held) == set(range(keys))
    served = domains_of_keys(members, domains, keys)
    assert len(served) == keys
    assert all(domain in served[key] for domain, key in zip(members, held, strict=True))
    if keys >= domains:  # then no two domains share one
        assert all(len(one) == 1 for one in served)
    else:  # shared as evenly as can be, and a domain has one only
        assert sorted(domain for one in served for domain in one) == list(range(domains))
        assert max(map(len, served)) - min(map(len, served)) <= 1


@given(rosters())
def test_one_a_domain_is_the_domain_s_place(roster: tuple[list[int], int]) -> None:
    members, domains = roster
    assert assign_keys(members, domains, domains) == tuple(members)


@given(rosters())
def test_as_many_as_institutions_is_one_each(roster: tuple[list[int], int]) -> None:
    members, domains = roster
    assert len(set(assign_keys(members, domains, len(members)))) == len(members)


def test_between_the_two_every_domain_gets_its_first_key_before_any_gets_a_second() -> None:
    assert assign_keys([0, 0, 0, 1, 1], 2, 3) == (0, 2, 0, 1, 1)
    assert domains_of_keys([0, 0, 0, 1, 1], 2, 3) == ((0,), (1,), (0,))


def test_a_domain_without_institutions_keeps_its_key() -> None:
    assert assign_keys([0, 2], 3, 3) == (0, 2)
    assert domains_of_keys([0, 2], 3, 3) == ((0,), (1,), (2,))


def test_keys_are_called_after_their_domains() -> None:
    names = ("ink", "chalk", "scan")
    assert key_names(names, ((0,), (1,), (2,))) == names
    assert key_names(names, ((0, 2), (1,))) == ("ink + scan", "chalk")
    assert key_names(names, ((0, 1, 2),)) == ("all domains",)
    assert key_names(names, ((0,), (1,), (2,), (0,))) == ("ink 1", "chalk", "scan", "ink 2")
    assert key_names(("ink",), ((0,),)) == ("ink",)
