"""What leaves and what stays of a rehearsal: coarse times, codes, and nothing in the ledger."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_client.rehearsal import coarse_s
from fedapt_crypto.errors import PeerError
from fedapt_secure.protocol import messages as m
from fedapt_server.session.rehearsal import Answer, CoordinatorRehearsal
from tests.protocol.federation import Federation


class TestCoarseTimes:
    @given(st.floats(1e-4, 1e8))
    def test_a_time_is_one_of_few(self, seconds: float) -> None:
        said = coarse_s(seconds)
        assert said >= seconds * (1 - 1e-9)
        assert said <= max(0.01, 2.5 * seconds * (1 + 1e-9))
        mantissa = said / 10 ** math.floor(math.log10(said) + 1e-9)
        assert min(abs(mantissa - one) for one in (1, 2, 5)) < 1e-6

    def test_what_is_not_known_is_nought(self) -> None:
        assert coarse_s(None) == 0.0


class TestCoordinator:
    def test_answers_are_to_the_question_that_was_asked(self) -> None:
        federation = Federation(3)
        rehearsal = CoordinatorRehearsal(federation.configuration, federation.coordinator_identity)
        asked = federation.configuration.hash
        ready = m.Rehearsed(configuration_hash=asked, reason=None, encoding_s=5.0, round_s=0.2)
        assert rehearsal.receive("clinic-1", ready.to_bytes()) == Answer(None, 5.0, 0.2)
        full = m.Rehearsed(configuration_hash=asked, reason="no_space")
        rehearsal.receive("clinic-2", full.to_bytes())
        other = m.Rehearsed(configuration_hash=bytes(32), reason=None)
        for bad in (other.to_bytes(), m.GroupReady(signature=bytes(64)).to_bytes(), b"nonsense"):
            with pytest.raises(PeerError):
                rehearsal.receive("clinic-3", bad)
        assert rehearsal.missing == {"clinic-3"}
        assert not rehearsal.all_ready
        assert rehearsal.body()["answers"] == {
            "clinic-1": "ready",
            "clinic-2": "no_space",
            "clinic-3": "no_answer",
        }

    def test_nobody_can_say_anything_but_a_code(self) -> None:
        with pytest.raises(ValueError, match="reason"):
            m.Rehearsed(configuration_hash=bytes(32), reason="DOE_JANE")


def test_a_question_that_the_coordinator_did_not_sign_is_not_worked_on() -> None:
    federation = Federation(3)
    rehearsal = CoordinatorRehearsal(federation.configuration, federation.coordinator_identity)
    machine = federation.machine("clinic-1")
    machine.wait_for_offer()
    [action] = machine.receive(rehearsal.question())
    assert action.configuration == federation.configuration
    offer = federation.coordinator_identity.sign("session offer", federation.configuration.hash)
    forged = m.Rehearse(configuration=federation.configuration.to_bytes(), signature=offer)
    with pytest.raises(PeerError):
        machine.receive(forged.to_bytes())
