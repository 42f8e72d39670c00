"""Without protection: a sum is taken as the coordinator states it, if it signed it and it is one."""

import copy
from collections.abc import Mapping

import numpy as np
import pytest

from fedapt_crypto.errors import ContextMismatch, MalformedMessage, UnexpectedMessage, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.plain import PlainInstitution, PlainSum
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World


class Stated:
    """A round of three up to the stated sum, which nobody has yet."""

    def __init__(self) -> None:
        self.world = World(3, registry.NONE)
        stated: dict[str, bytes] = {}

        def keep(phase: Phase | None, receiver: str, payload: bytes) -> None:
            stated[receiver] = payload

        self.world.run(tamper=keep)
        assert tuple(stated) == self.world.roster.names
        assert len(set(stated.values())) == 1
        self.payload = stated["clinic-1"]
        self.message = PlainSum.from_bytes(self.payload)

    def waiting(self) -> PlainInstitution:
        machine = copy.copy(self.world.institutions["clinic-1"])
        assert isinstance(machine, PlainInstitution)
        return machine

    def signed(self, fields: Mapping[str, object], by: Identity = COORDINATOR_IDENTITY) -> bytes:
        changed = self.message.model_copy(update=dict(fields))
        signature = by.sign("plain sum", changed.hash)
        return changed.model_copy(update={"signature": signature}).to_bytes()


@pytest.fixture(scope="module")
def stated() -> Stated:
    return Stated()


def test_what_the_coordinator_states_is_taken_whatever_it_is(stated: Stated) -> None:
    """It makes no claim: there is no tag, and a false sum looks like a true one."""
    for total in (np.frombuffer(stated.message.total, "<f8"), np.arange(stated.world.length, dtype="<f8")):
        machine = stated.waiting()
        machine.receive(stated.signed({"total": total.tobytes()}))
        assert machine.finished
        assert np.array_equal(machine.aggregate.total, total)
        assert machine.verified.tag == b""
        assert len(machine.verified.sum_hash) == 32


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param({"context": bytes(32)}, ContextMismatch, id="another-round"),
        pytest.param({"total": bytes(8 * 36)}, MalformedMessage, id="a-value-less"),
        pytest.param({"total": bytes(8 * 38)}, MalformedMessage, id="a-value-more"),
        pytest.param({"total": bytes(8 * 37 - 1)}, MalformedMessage, id="half-a-value"),
        pytest.param({"total": np.full(37, np.nan).tobytes()}, MalformedMessage, id="no-numbers"),
        pytest.param({"total": np.full(37, np.inf).tobytes()}, MalformedMessage, id="infinite"),
        pytest.param({"contributors": ("clinic-2", "clinic-1")}, MalformedMessage, id="out-of-order"),
        pytest.param({"contributors": ("clinic-1", "clinic-1")}, MalformedMessage, id="twice"),
        pytest.param({"contributors": ("clinic-1", "clinic-9")}, MalformedMessage, id="a-stranger"),
    ],
)
def test_what_is_no_sum_of_the_round_is_refused(stated: Stated, fields: dict, error: type[Exception]) -> None:
    machine = stated.waiting()
    with pytest.raises(error):
        machine.receive(stated.signed(fields))
    assert machine.aggregate is machine.verified is None
    assert not machine.finished
    machine.receive(stated.payload)
    assert machine.finished


def test_only_the_coordinator_states_it(stated: Stated) -> None:
    for by in (Identity.generate(), stated.world.identities["clinic-2"]):
        machine = stated.waiting()
        with pytest.raises(VerificationFailed) as refusal:
            machine.receive(stated.signed({}, by))
        assert refusal.value.peer == COORDINATOR
        assert machine.verified is None


def test_the_signature_covers_all_of_it(stated: Stated) -> None:
    total = np.arange(37, dtype="<f8").tobytes()
    for fields in ({"total": total}, {"contributors": ("clinic-1",)}, {"context": bytes(32)}):
        machine = stated.waiting()
        with pytest.raises(VerificationFailed):
            machine.receive(stated.message.model_copy(update=fields).to_bytes())


def test_it_comes_once_and_not_before_the_update_has_left(stated: Stated) -> None:
    machine = stated.waiting()
    machine.receive(stated.payload)
    fresh = stated.world.institution("clinic-1", stated.world.context)
    for each in (machine, fresh):
        with pytest.raises(UnexpectedMessage):
            each.receive(stated.payload)
    assert fresh.verified is None
