"""A coordinator that forges sum or tag itself, signature and all: everybody refuses, under every scheme."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks.coordinator import CkksCoordinator
from fedapt_crypto.secagg.ckks.parameters import SLOTS, UNIT
from fedapt_crypto.secagg.masking import coordinator as masking
from fedapt_crypto.sum_tag import PRIME
from tests.crypto.secagg.harness import SCHEMES
from tests.protocol.federation import Federation

FIVE = tuple(f"clinic-{i}" for i in range(1, 6))
TAGGED = [scheme for scheme in SCHEMES if scheme != registry.NONE]


class Sealed:
    """Ciphertexts of a sum, as far as whoever cannot open them can calculate with them."""

    def __init__(self, round_: CkksCoordinator, pieces: list[bytes]) -> None:
        self.round, self.pieces = round_, pieces

    def doubled(self) -> "Sealed":
        return Sealed(self.round, self.round._group.add(self.pieces, self.pieces, "clinic-1"))

    def negated(self) -> "Sealed":
        return self._changed(lambda vector: vector.neg_())

    def shifted(self) -> "Sealed":
        """One unit more in one slot, which holds a value, κ, or nothing."""
        return self._changed(lambda vector: vector.add_([UNIT, *[0.0] * (SLOTS - 1)]))

    def _changed(self, change: Callable[[Any], object]) -> "Sealed":
        import tenseal  # noqa: PLC0415 - an extra

        context = tenseal.context_from(self.round._group.public_context, n_threads=1)
        vectors = [tenseal.ckks_vector_from(context, piece) for piece in self.pieces]
        for vector in vectors:
            change(vector)
        return Sealed(self.round, [vector.serialize() for vector in vectors])


class Words:
    """The same of a sum that was unmasked."""

    def __init__(self, words: np.ndarray) -> None:
        self.words = words

    def doubled(self) -> "Words":
        return Words(2 * self.words)

    def shifted(self) -> "Words":
        return Words(self.words + (np.arange(self.words.size) == 0).astype(np.uint32))

    def negated(self) -> "Words":
        return Words(-self.words)


Pair = tuple[Words | Sealed, int]
Forge = Callable[[Pair, list[Pair]], Pair]
"""A true sum and its tag, and those of earlier rounds, to what the coordinator announces."""

FORGED: dict[str, Forge] = {
    "shifted by one unit": lambda true, past: (true[0].shifted(), true[1]),
    "scaled": lambda true, past: (true[0].doubled(), true[1]),
    "scaled with its tag": lambda true, past: (true[0].doubled(), 2 * true[1] % PRIME),
    "another round's": lambda true, past: past[0] if past else true,
    "another round's with this one's tag": lambda true, past: (past[0][0], true[1]) if past else true,
    "this one with another round's tag": lambda true, past: (true[0], past[0][1]) if past else true,
    "another tag": lambda true, past: (true[0], (true[1] + 1) % PRIME),
    "negated with its tag": lambda true, past: (true[0].negated(), -true[1] % PRIME),
}


def needs_past(name: str) -> bool:
    return "another round" in name


@pytest.fixture(params=FORGED)
def forged(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every coordinator made meanwhile forges, from the first round in which it can."""
    forge, past = FORGED[request.param], []
    announce_masked, announce_sealed = masking.announce, CkksCoordinator._announce

    def masked(identity, execution, survivors_hash, total, tag):
        true = (Words(total.copy()), tag)
        made = forge(true, past)
        past.append(true)
        return announce_masked(identity, execution, survivors_hash, made[0].words, made[1])

    def sealed(self: CkksCoordinator):
        true = (Sealed(self, list(self._sum)), self._sum_tag)
        made, self._sum_tag = forge(true, past)
        past.append(true)
        self._sum = made.pieces
        return announce_sealed(self)

    with (
        patch.object(masking, "announce", masked),
        patch.object(CkksCoordinator, "_announce", sealed),
    ):
        yield request.param


@pytest.mark.parametrize("scheme", TAGGED)
def test_everybody_refuses_it_and_nobody_moves(forged: str, scheme: str) -> None:
    federation = Federation(5, rounds=2, secure_aggregation=scheme)
    federation.run()
    held = 1 if needs_past(forged) else 0
    for party in federation.parties.values():
        kept = party.past.kept
        assert (0 if kept is None else kept.round) == held
        refused = [one for one in party.refused if "SumCheckFailed" in one]
        assert refused, party.refused
    ends = [body["status"] for body in federation.entries("round_ended")]
    assert ends[:held] == ["completed"] * held
    assert set(ends[held:]) == {"aborted"}
    assert {body["name"] for body in federation.entries("sum_refused")} == set(FIVE)
    for name in FIVE:
        assert [body["round"] for body in federation.logs[name].bodies("verified_sum")] == [1] * held


@pytest.mark.parametrize("scheme", TAGGED)
def test_an_honest_session_is_the_same_under_every_scheme(scheme: str) -> None:
    federation = Federation(5, rounds=2, secure_aggregation=scheme)
    federation.run()
    kept = [party.past.kept for party in federation.parties.values()]
    assert len({one.model.tobytes() for one in kept}) == 1
    assert {(one.round, one.attempt) for one in kept} == {(2, 1)}
    first, own = federation.logs["clinic-1"].bodies("verified_sum"), {"signature": ""}
    for name in FIVE:
        lines = federation.logs[name].bodies("verified_sum")
        assert [body["round"] for body in lines] == [1, 2]
        assert all(len(bytes.fromhex(body["tag"])) == 8 for body in lines)
        assert [line | own for line in lines] == [line | own for line in first]
