"""A coordinator that cheats in a running session: the refusal stands in both logs, the next round works."""

from collections.abc import Callable, Mapping

import pytest

from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.log.reader import read_log

pytestmark = pytest.mark.integration

VICTIM = "clinic-1"


def an_invented_institution(message: m.AdvertiseList) -> m.AdvertiseList:
    return message.model_copy(
        update={"participants": parties.pack(range(6)), "digests": message.digests + bytes(32)}
    )


def another_transcript(message: m.ShareDelivery) -> m.ShareDelivery:
    return message.model_copy(update={"digests": bytes(32) + message.digests[32:]})


def another_survivor_set(message: m.SurvivorAnnouncement) -> m.SurvivorAnnouncement:
    return message.model_copy(update={"survivors": parties.pack([1, 2, 3, 4])})


def both_secrets(message: m.UnmaskRequest) -> m.UnmaskRequest:
    return message.model_copy(update={"dropped": parties.pack([2])})


ATTACKS: Mapping[str, tuple[Phase, type[TaggedMessage], Callable, str]] = {
    "an invented institution": (
        Phase.ADVERTISE,
        m.AdvertiseList,
        an_invented_institution,
        "MalformedMessage",
    ),
    "another transcript": (Phase.SHARE, m.ShareDelivery, another_transcript, "ContextMismatch"),
    "another survivor set": (
        Phase.MASKED_INPUT,
        m.SurvivorAnnouncement,
        another_survivor_set,
        "ContextMismatch",
    ),
    "both secrets": (Phase.CONSISTENCY, m.UnmaskRequest, both_secrets, "OverlappingUnmaskLists"),
}


OFTEN = "another transcript"  # tests/hostile has more of the kind, in less time


@pytest.mark.parametrize(
    "attack", [pytest.param(one, marks=() if one == OFTEN else pytest.mark.slow) for one in ATTACKS]
)
def test_a_cheating_coordinator_is_on_record(simulate, monkeypatch: pytest.MonkeyPatch, attack: str) -> None:
    phase, kind, forge, error = ATTACKS[attack]
    honest = MaskingCoordinator.close_phase
    forged: list[bytes] = []

    def cheat(machine: MaskingCoordinator) -> Mapping[str, bytes]:
        closed = machine.phase
        deliveries = dict(honest(machine))
        if closed is phase and not forged:
            forged.append(forge(kind.from_bytes(deliveries[VICTIM])).to_bytes())
            deliveries[VICTIM] = forged[0]
        return deliveries

    monkeypatch.setattr(MaskingCoordinator, "close_phase", cheat)
    run = simulate("--rounds", "2", "--no-dp")
    assert forged, "the attack took place"
    assert run.status == 0
    first, *_, last = run.summary["rounds"]
    assert (first["round"], first["status"]) == (1, "aborted")
    assert (last["round"], last["status"]) == (2, "completed")

    mine = [
        entry.body for entry in read_log(run.folder / "logs" / f"{VICTIM}.jsonl") if entry.type == "refused"
    ]
    assert [(body["round"], body["error"]) for body in mine] == [(1, error)]
    theirs = [
        entry.body
        for entry in read_log(run.folder / "logs" / "coordinator.jsonl")
        if entry.type == "round_ended"
    ]
    assert theirs[0]["detail"].startswith(f"{VICTIM} aborted ({error})")
