"""What a group key must remember over a restart, and what it may do again."""

import numpy as np
import pytest

from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks.group import GroupKey
from fedapt_crypto.secagg.ckks.journal import MemoryJournal
from fedapt_crypto.secagg.group_secret import GroupSecret
from tests.crypto.secagg.ckks.groups import TEST_SECRET, contexts, make_groups, secret_worker, summed
from tests.crypto.secagg.harness import World, make_context


class Restarting:
    """One institution's key, which can lose its memory and keep its journal."""

    def __init__(self, decryptions: int = 4) -> None:
        self.world = World(3, registry.CKKS)
        self.journal = MemoryJournal()
        self.decryptions = decryptions
        self.key = self.start()

    def start(self) -> GroupKey:
        secret_context, public_context = contexts()
        self.key = GroupKey(
            secret=GroupSecret(self.world.context.session, TEST_SECRET),
            decryptions=self.decryptions,
            public_context=public_context,
            secret_context=secret_context,
            worker=secret_worker(),
            journal=self.journal,
        )
        return self.key

    def sum(self, attempt: int = 1) -> tuple[list[bytes], bytes]:
        """A sum of all updates; every call encrypts anew, as only a dishonest party would."""
        context = self.context(attempt)
        keys, public = make_groups(self.world.roster, context.session)
        return summed(context, keys, public, self.world.updates)

    def context(self, attempt: int = 1):
        return make_context(self.world.roster, self.world.length, attempt=attempt)

    def open(self, total: tuple[list[bytes], bytes], attempt: int = 1) -> np.ndarray:
        return self.key.decrypt(self.context(attempt), self.world.roster.names, *total)


def test_the_same_sum_opens_again_and_says_the_same() -> None:
    party = Restarting()
    pieces = party.sum()
    first = party.open(pieces)
    party.start()
    assert np.array_equal(party.open(pieces), first), "the same noise: nothing new is learned"


def test_another_sum_of_the_same_execution_is_refused() -> None:
    party = Restarting()
    first, second = party.sum(), party.sum()
    assert first != second
    party.open(first)
    party.start()
    with pytest.raises(VerificationFailed, match="second, different sum"):
        party.open(second)


def test_another_tag_of_the_same_sum_is_refused() -> None:
    """A second guess at T would be one."""
    party = Restarting()
    pieces, tag = party.sum()
    party.open((pieces, tag))
    party.start()
    with pytest.raises(VerificationFailed, match="second, different sum"):
        party.open((pieces, bytes([tag[0] ^ 1]) + tag[1:]))


def test_an_update_is_encrypted_once() -> None:
    party = Restarting()
    values, _ = party.context().fixed_point.encode(party.world.updates["clinic-1"])
    party.key.encrypt(party.context(), "clinic-1", values)
    party.start()
    with pytest.raises(InvalidInput, match="served this round already"):
        party.key.encrypt(party.context(), "clinic-1", values)


def test_a_burned_key_is_not_opened_again() -> None:
    party = Restarting()
    party.key.discard()
    with pytest.raises(InvalidInput, match="discarded"):
        party.start()


def test_a_closed_key_can_be_opened_again() -> None:
    party = Restarting()
    party.key.close()
    with pytest.raises(InvalidInput, match="closed with its session"):
        party.open(party.sum())
    party.start()
    party.open(party.sum())


def test_a_sum_counts_once_however_often_it_is_opened() -> None:
    party = Restarting(decryptions=2)
    sums = {attempt: party.sum(attempt) for attempt in (1, 2, 3)}
    for _ in range(3):
        party.start()
        party.open(sums[1], 1)
        party.open(sums[2], 2)
    with pytest.raises(InvalidInput, match="sized for 2 decrypted pieces"):
        party.open(sums[3], 3)
