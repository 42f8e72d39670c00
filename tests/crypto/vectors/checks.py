"""What must hold of each file of vectors; raises where it does not."""

import hashlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from fedapt_crypto import errors
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.masking import keys as masking_keys
from fedapt_crypto.secagg.scheme import RoundContext
from tests.crypto.vectors import (
    package,
    package_enrolment,
    recorded,
    reference,
    reference_enrolment,
    reference_graph,
    reference_group,
)
from tests.crypto.vectors.recorded import PHASES, RecordedInstitution, freeze
from tests.crypto.vectors.reference_round import ReferenceRound

IMPLEMENTATIONS = {
    "package": SimpleNamespace(**{**vars(package), **vars(package_enrolment)}),
    "reference": SimpleNamespace(
        **{
            **vars(reference),
            **vars(reference_enrolment),
            **vars(reference_graph),
            **vars(reference_group),
        }
    ),
}
CASES = (
    "derivation.json",
    "domain_keys.json",
    "enrolment.json",
    "fixed_point.json",
    "group_secret.json",
    "keystream.json",
    "merkle.json",
    "neighbour_graph.json",
    "seal.json",
    "shamir.json",
    "sum_tag.json",
)
"""Files whose cases are a function, its arguments and its result."""


def check_case(implementation: SimpleNamespace, case: Mapping[str, Any]) -> None:
    result = getattr(implementation, case["function"])(**case["arguments"])
    assert freeze(result) == freeze(case["result"]), case["function"]


def check_context(round_: Mapping[str, Any]) -> tuple[Roster, RoundContext]:
    roster, context = recorded.roster_of(round_), recorded.context_of(round_)
    assert context.roster_hash == roster.hash
    assert round_["derived"]["context"] == context.hash
    assert context.model_hash == package.digest("model", [round_["model"]])
    return roster, context


def check_institutions(round_: Mapping[str, Any]) -> None:
    """Give each institution what was delivered to it: it answers what was recorded."""
    check_context(round_)
    late = round_["late"]
    for party in round_["parties"]:
        name = party["name"]
        machine = RecordedInstitution(round_, name, recorded.sent_in(round_, "share")[name])
        answer = machine.start()
        for phase in PHASES:
            assert answer.phase == phase
            assert answer.releases == (phase == "masked_input")
            if (phase, name) == ("masked_input", late["sender"]):
                assert answer.payload == late["payload"]
                break
            assert answer.payload == recorded.sent_in(round_, phase)[name]
            assert (answer.opening is not None) == (phase == "unmask")
            following = machine.receive(recorded.delivered_after(round_, phase)[name])
            if following is None:
                assert phase == "unmask"
                check_verified(machine, round_)
            else:
                answer = following
        assert machine.machine.saturated == party["saturated"]


def check_verified(party: RecordedInstitution, round_: Mapping[str, Any]) -> None:
    """Check the sum that an institution holds, and the model that it goes on with."""
    verified = party.machine.verified
    assert verified is not None
    assert (verified.sum_hash, verified.tag) == (round_["derived"]["sum_hash"], round_["sum_tag"])
    assert list(verified.aggregate.contributors) == round_["contributors"]
    assert verified.aggregate.total.tolist() == round_["sum"]
    model = np.frombuffer(round_["model"], "<f4")
    assert verified.aggregate.next_model(model).astype("<f4").tobytes() == round_["next_model"]


def check_coordinator(round_: Mapping[str, Any]) -> None:
    """Give the coordinator what was sent: it delivers what was recorded and arrives at the recorded sum."""
    roster, context = check_context(round_)
    assert [step["phase"] for step in round_["steps"]] == list(PHASES)
    coordinator = recorded.coordinator_in(round_, "unmask")
    derived, survivors = round_["derived"], [roster.index(name) for name in round_["contributors"]]
    packed = package.pack_parties(survivors)
    assert (derived["execution"], derived["transcript"]) == (coordinator._execution, coordinator._transcript)
    assert derived["survivors"] == masking_keys.survivors_id(
        derived["execution"], derived["transcript"], packed
    )
    for name, payload in recorded.sent_in(round_, "unmask").items():
        coordinator.receive(name, payload)
    announced = coordinator.close_phase()
    assert announced == recorded.delivered_after(round_, "unmask")
    assert list(announced) == round_["contributors"]
    assert coordinator.aggregate is not None
    assert coordinator.aggregate.total.tolist() == round_["sum"]
    assert list(coordinator.aggregate.contributors) == round_["contributors"]
    words = np.array(round_["sum_words"], np.uint32)
    assert context.fixed_point.decode(words).tolist() == round_["sum"]


def check_reference(round_: Mapping[str, Any]) -> None:
    ReferenceRound(round_).run()


def check_failing_case(case: Mapping[str, Any], round_: Mapping[str, Any]) -> None:
    """Check that a failing case fails with the error it names, and as recorded.

    What fails would still fail with another wrong byte, so the bytes themselves are under a hash.
    """
    body = {key: value for key, value in case.items() if key not in ("what", "sha256")}
    assert case["sha256"] == hashlib.sha256(package.encode(body)).digest()
    if "function" in case:
        for implementation in IMPLEMENTATIONS.values():
            expect(case["error"], getattr(implementation, case["function"]), **case["arguments"])
    elif "institution" in case:
        check_institution_refuses(case, round_)
    else:
        check_coordinator_refuses(case, round_)


def expect(error: str, call: Any, *arguments: Any, **named: Any) -> None:
    """Check that a call raises exactly the named error."""
    assert hasattr(errors, error) or error == "ValueError", f"no error is called {error}"
    raised = "nothing"
    try:
        call(*arguments, **named)
    except (FedaptError, ValueError) as refusal:
        raised = type(refusal).__name__
    assert raised == error


def payload_of(case: Mapping[str, Any], genuine: bytes | None) -> bytes:
    """Return what arrives: whole, or the recorded message with bytes replaced (offset, how many, by what)."""
    if "repeat" in case:
        byte, times = case["repeat"]
        return byte * times
    if "payload" in case:
        return case["payload"]
    assert genuine is not None
    changed = b""
    done = 0
    for offset, removed, inserted in case["replace"]:
        changed += genuine[done:offset] + inserted
        done = offset + removed
    return changed + genuine[done:]


def check_institution_refuses(case: Mapping[str, Any], round_: Mapping[str, Any]) -> None:
    name, after = case["institution"], case["after"]
    party = recorded.institution_after(round_, name, after)
    genuine = recorded.due_after(round_, name, after)
    was_over = party.machine.finished
    expect(case["error"], party.receive, payload_of(case, genuine))
    assert party.machine.finished == (was_over or case["aborts"])
    assert (party.machine.abort_payload() is not None) == case["aborts"]
    if not case["aborts"] and genuine is not None:
        party.receive(genuine)  # nothing has changed: the message that is due is still taken


def check_coordinator_refuses(case: Mapping[str, Any], round_: Mapping[str, Any]) -> None:
    phase, sender = case["phase"], case["sender"]
    coordinator = recorded.coordinator_in(round_, phase)
    genuine = recorded.sent_in(round_, phase)
    for name, payload in genuine.items():
        if name != sender:
            coordinator.receive(name, payload)
    payload = payload_of(case, genuine.get(sender))
    if case["on"] == "close":
        coordinator.receive(sender, payload)
        expect(case["error"], coordinator.close_phase)
        assert coordinator.phase is None
        assert coordinator.aggregate is None
        return
    expect(case["error"], coordinator.receive, sender, payload)
    if sender in genuine:
        coordinator.receive(sender, genuine[sender])  # nothing has changed
    coordinator.close_phase()
