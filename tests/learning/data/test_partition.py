"""Dealing within a domain: everything once, nobody empty-handed, persons whole, skewed as asked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.paper_choices import OVER_CLIENTS
from fedapt_secure.learning.data.partition import (
    client_shares,
    dirichlet_shares,
    divide,
    even_shares,
    hold_out,
)
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


def as_the_scripts_deal(labels: np.ndarray, parts: int, alpha: float, rng: np.random.Generator) -> list:
    """The rule of the papers' scripts, as plainly as it goes: shares are cut off, not drawn anew."""
    while True:
        dealt: list[list[int]] = [[] for _ in range(parts)]
        for one in np.unique(labels):
            things = rng.permutation(np.flatnonzero(labels == one))
            shares = rng.dirichlet([alpha] * parts)
            for number in range(parts):
                if len(dealt[number]) >= len(labels) / parts:
                    shares[number] = 0.0
            begin, total = 0, 0.0
            for number in range(parts):
                total += shares[number] / shares.sum()
                end = len(things) if number == parts - 1 else int(total * len(things))
                dealt[number] += things[begin:end].tolist()
                begin = end
        if min(map(len, dealt)) >= 10:
            return dealt


def skew(labels: np.ndarray, shares: list) -> tuple[float, float, float]:
    """Mean largest share of a class; classes that a part lacks; largest part over the smallest."""
    counts = np.array([np.bincount(labels[np.array(one)], minlength=labels.max() + 1) for one in shares])
    sizes = counts.sum(axis=1)
    return (
        float((counts.max(axis=0) / counts.sum(axis=0)).mean()),
        float((counts == 0).mean()),
        float(sizes.max() / sizes.min()),
    )


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_skew_over_clients_is_that_of_the_scripts(alpha: float) -> None:
    labels = np.repeat(np.arange(100), np.random.default_rng(0).integers(20, 120, 100))
    ours, theirs = (
        np.array([skew(labels, deal(labels, 5, alpha, np.random.default_rng(seed))) for seed in range(20)])
        for deal in (client_shares, as_the_scripts_deal)
    )
    error = np.sqrt(ours.var(axis=0) / 20 + theirs.var(axis=0) / 20)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4 * error + 1e-9).all()
    if alpha == 0.5:
        assert ours[:, 0].mean() == pytest.approx(0.56, abs=0.02)


@settings(deadline=None)
@given(labelled(), st.sampled_from([0.1, 1.0, 100.0]), st.integers(0, 2**32))
def test_shares_over_clients_are_disjoint_complete_and_seeded(case, alpha: float, seed: int) -> None:
    labels, parts = case
    try:
        shares = client_shares(labels, parts, alpha, np.random.default_rng(seed))
    except InvalidInput:
        assert len(labels) < 20 * parts  # a part that gets nothing is rare only among many things
        return
    assert sorted(np.concatenate(shares)) == list(range(len(labels)))
    assert min(map(len, shares)) >= max(1, min(10, len(labels) // (2 * parts)))
    again = client_shares(labels, parts, alpha, np.random.default_rng(seed))
    assert [one.tolist() for one in again] == [one.tolist() for one in shares]


def test_one_class_cannot_be_divided_by_a_tiny_alpha() -> None:
    with pytest.raises(InvalidInput, match="α = 1e-06 over the institutions gave each 10 of 100 images"):
        client_shares([0] * 100, 2, 1e-6, np.random.default_rng(0))


def test_what_is_held_out_is_divided_evenly() -> None:
    given_records = [
        Record(Path(f"{n}.png"), n % 4, f"{n}.png", "test" if n % 5 == 0 else "train", None)
        for n in range(400)
    ]
    shares = divide(given_records, 4, 0.1, np.random.default_rng(0), OVER_CLIENTS)
    assert sorted(one.path for share in shares for one in share) == sorted(one.path for one in given_records)
    assert [sum(one.split == "test" for one in share) for share in shares] == [20] * 4
    training = [sum(one.split == "train" for one in share) for share in shares]
    assert max(training) > 1.2 * min(training)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**32))
def test_a_share_of_each_class_is_held_out(sizes: list[int], seed: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    all_of_it = [Record(Path(f"{n}.png"), label, f"{n}.png") for n, label in enumerate(labels)]
    if max(sizes) < 3:
        with pytest.raises(InvalidInput, match="a share of 0.2 of each class is no image: the largest class"):
            hold_out(all_of_it, 0.2, np.random.default_rng(seed))
        return
    found = hold_out(all_of_it, 0.2, np.random.default_rng(seed))
    assert [one.path for one in found] == [one.path for one in all_of_it]
    held = [sum(one.split == "test" for one in found if one.label == label) for label in range(len(sizes))]
    assert held == [round(size * 0.2) for size in sizes]
    assert {one.split for one in found} <= {"train", "test"}


def test_a_person_is_held_out_whole() -> None:
    found = hold_out(
        records([name for name in "abcdefghij" for _ in range(3)]), 0.3, np.random.default_rng(0)
    )
    sides = {one.subject: one.split for one in found}
    assert all(one.split == sides[one.subject] for one in found)
    assert sorted(sides.values()).count("test") == 3


def test_a_split_of_the_source_stays() -> None:
    with pytest.raises(InvalidInput, match="says itself what is held out"):
        hold_out([Record(Path("a.png"), 0, "a.png", "train", None)], 0.2, np.random.default_rng(0))
