"""Dealing within a domain: everything once, nobody empty-handed, persons whole, skewed as asked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.partition import dirichlet_shares, divide, even_shares
from fedapt_secure.learning.data.reading.records import Record


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[int], int]:
    labels = draw(st.lists(st.integers(0, 6), min_size=1, max_size=60))
    return labels, draw(st.integers(1, len(labels)))


@given(count=st.integers(0, 300), parts=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_even_shares_are_disjoint_complete_even_and_seeded(count: int, parts: int, seed: int) -> None:
    shares = even_shares(count, parts, np.random.default_rng(seed))
    assert sorted(np.concatenate(shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    again = even_shares(count, parts, np.random.default_rng(seed))
    assert [one.tolist() for one in again] == [one.tolist() for one in shares]


def test_another_seed_deals_otherwise() -> None:
    first, second = (even_shares(100, 5, np.random.default_rng(seed))[0].tolist() for seed in (0, 1))
    assert first != second


@given(labelled(), st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 100.0, 1e6]), st.integers(0, 2**32))
def test_skewed_shares_are_disjoint_complete_even_and_seeded(case, alpha: float, seed: int) -> None:
    labels, parts = case
    shares = dirichlet_shares(labels, parts, alpha, np.random.default_rng(seed))
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) >= 1
    again = dirichlet_shares(labels, parts, alpha, np.random.default_rng(seed))
    assert [one.tolist() for one in again] == [one.tolist() for one in shares]


def test_alpha_says_how_skewed() -> None:
    labels = np.repeat(np.arange(10), 200)

    def largest_class_share(alpha: float) -> float:
        found = []
        for seed in range(10):
            for share in dirichlet_shares(labels, 4, alpha, np.random.default_rng(seed))[:3]:
                found.append(np.bincount(labels[share], minlength=10).max() / len(share))
        return float(np.mean(found))

    # 0.4 is all that a class of 200 can be of a share of 500.
    assert largest_class_share(1e-3) > 0.36
    assert 0.15 < largest_class_share(20.0) < 0.3
    assert largest_class_share(1e5) < 0.15


def test_a_tiny_alpha_uses_up_one_class_after_the_other() -> None:
    labels = np.repeat(np.arange(10), 50)
    (first, *_) = dirichlet_shares(labels, 5, 1e-6, np.random.default_rng(0))
    assert np.count_nonzero(np.bincount(labels[first], minlength=10)) == 2


def test_the_shares_follow_the_prior() -> None:
    labels = np.repeat([0, 1], [1800, 200])
    firsts = [dirichlet_shares(labels, 2, 1e5, np.random.default_rng(seed))[0] for seed in range(5)]
    assert np.mean([(labels[one] == 1).mean() for one in firsts]) == pytest.approx(0.1, abs=0.02)


def records(subjects: list[str | None]) -> list[Record]:
    return [Record(Path(f"{n}.png"), n % 3, f"{n}.png", None, one) for n, one in enumerate(subjects)]


@given(
    st.lists(st.none() | st.sampled_from("abcdefgh"), min_size=1, max_size=40),
    st.sampled_from([None, 0.1, 10.0]),
    st.integers(0, 2**32),
    st.data(),
)
def test_a_person_lies_at_one_institution(subjects, alpha, seed: int, data: st.DataObject) -> None:
    units = len(set(subjects) - {None}) + subjects.count(None)
    parts = data.draw(st.integers(1, units))
    given_records = records(subjects)
    shares = divide(given_records, parts, alpha, np.random.default_rng(seed))
    assert sorted(one.path for share in shares for one in share) == sorted(one.path for one in given_records)
    assert all(shares)
    for name in set(subjects) - {None}:
        assert sum(any(one.subject == name for one in share) for share in shares) == 1


def test_too_few_for_so_many() -> None:
    with pytest.raises(InvalidInput, match="3 images are too few for 4 institutions"):
        divide(records([None] * 3), 4, None, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="2 subjects are too few for 3 institutions"):
        divide(records(["a", "b", "a", "b"]), 3, None, np.random.default_rng(0))
