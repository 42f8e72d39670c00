"""Each pair (X, T) that is looked at is a guess at the tag's key: one an execution, however late."""

import numpy as np
import pytest

from fedapt_client.session.own_model import OwnModel
from fedapt_client.session.states import State
from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import SumCheckFailed
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, announce
from fedapt_secure.protocol import messages as m
from tests.protocol.federation import Federation
from tests.protocol.sessions.test_verified_sums import FIVE, announced, tampered


def withheld(federation: Federation) -> tuple[dict[str, bytes], m.TaggedMessage]:
    """Play a round whose sum reaches nobody; returns it as it was for each, and what carried it."""
    sums: dict[str, bytes] = {}
    carried: list[m.TaggedMessage] = []

    def change(name: str, message: TaggedMessage) -> TaggedMessage | None:
        if announced(message) is not None:
            sums[name] = message.payload
            carried.append(message)
            return None
        return message

    tampered(federation, change)
    federation._server(federation.coordinator.start())
    for name in FIVE:
        federation.connect(name)
    federation.play(timers=False)
    return sums, carried[0]


def signed_forgery(federation: Federation, payload: bytes) -> bytes:
    """Another sum of the same execution, under the coordinator's signature."""
    genuine = SumAnnouncement.from_bytes(payload)
    words = np.frombuffer(genuine.total, "<u4") + np.uint32(1)
    about = (genuine.execution, genuine.survivors_hash, words, int.from_bytes(genuine.sum_tag))
    return announce(federation.coordinator_identity, *about)


class TestOneGuessAnExecution:
    @pytest.mark.parametrize("restarted", [False, True])
    def test_a_sum_that_comes_late_is_looked_at_once(self, restarted: bool) -> None:
        federation = Federation(5, rounds=1)
        sums, _ = withheld(federation)
        party = federation.parties["clinic-2"]
        party.machine._state = State.READY
        genuine = m.MissedSum(round=1, attempt=1, payload=sums["clinic-2"])
        forged = signed_forgery(federation, genuine.payload)
        [refused] = party.machine.receive(genuine.model_copy(update={"payload": forged}).to_bytes())
        assert isinstance(refused.error, SumCheckFailed)
        if restarted:
            party.machine._own = OwnModel(
                federation.configuration, federation.identities["clinic-2"], party.past
            )
        taken = party.machine.receive(genuine.to_bytes())
        assert bool(taken) == restarted, "the record says nothing of it: a restart is one more guess"

    def test_nor_after_one_that_failed_in_its_round(self) -> None:
        federation = Federation(5, rounds=1)
        sums, carried = withheld(federation)
        party = federation.parties["clinic-3"]
        forged = signed_forgery(federation, sums["clinic-3"])
        party.machine.receive(carried.model_copy(update={"payload": forged}).to_bytes())
        party.machine._state = State.READY
        genuine = m.MissedSum(round=1, attempt=1, payload=sums["clinic-3"])
        assert party.machine.receive(genuine.to_bytes()) == []
        assert party.machine._own.kept.round == 0
