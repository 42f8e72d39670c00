"""Each invariant catches a part that is broken on purpose; a green world would say little without."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedapt_client.books.ledger import Ledger
from fedapt_client.session.actions import RecordRelease
from fedapt_client.session.own_model import OwnModel
from fedapt_client.session.round_part import RoundPart
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.masking import coordinator as masking_coordinator
from fedapt_crypto.secagg.masking import institution as masking_institution
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.masking.messages import UnmaskShares
from fedapt_crypto.secagg.scheme import Outgoing, Phase
from fedapt_crypto.sum_tag import SumCheck
from fedapt_secure.log.line import parse_line
from fedapt_secure.log.writer import LogWriter
from fedapt_server.session.actions import SetTimer
from fedapt_server.session.machine import CoordinatorSession
from fedapt_server.session.round import CoordinatorRound
from tests.world.consortium import scratch_folder
from tests.world.invariants import Violation
from tests.world.operations import Kind, Operation, Schedule, parse
from tests.world.world import World

CALM: Schedule = ()


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def play(base: Path, schedule: Schedule = CALM, *, audited: bool = False) -> None:
    with World(base) as world:
        world.play(schedule)
        world.settle()
        world.check_end(audited=audited)


Patch = pytest.MonkeyPatch
Broken = Callable[[Patch], None]


def test_the_world_is_whole_without_a_broken_part(base: Path) -> None:
    play(base, audited=True)


def adds_an_input_twice(patch: Patch) -> None:
    right = MaskingCoordinator._take_masked

    def take(self: MaskingCoordinator, sender: str, message: Any) -> None:
        right(self, sender, message)
        self._masked.discard(sender)  # so that the protocol's own check does not see the second time
        right(self, sender, message)

    patch.setattr(MaskingCoordinator, "_take_masked", take)
    patch.setattr("fedapt_crypto.secagg.masking.coordinator._COLLECTING", _collecting(take))


def _collecting(take: Any) -> dict[Any, Any]:
    table = dict(masking_coordinator._COLLECTING)
    table[Phase.MASKED_INPUT] = (table[Phase.MASKED_INPUT][0], take)
    return table


def forgets_a_contributor(patch: Patch) -> None:
    """The sum is right, and the record of who is in it is not."""
    right = CoordinatorRound.completed

    def completed(self: CoordinatorRound) -> Any:
        outcome = right(self)
        return replace(outcome, contributors=outcome.contributors[1:])

    patch.setattr(CoordinatorRound, "completed", completed)


def takes_any_sum(patch: Patch) -> None:
    patch.setattr(SumCheck, "verify_parts", lambda *_, **__: None)


def adds_an_input_twice_unseen(patch: Patch) -> None:
    takes_any_sum(patch)
    adds_an_input_twice(patch)


def adds_what_nobody_sent(patch: Patch) -> None:
    right = masking_coordinator.announce

    def lie(identity: Any, execution: bytes, survivors: bytes, total: np.ndarray, tag: int) -> bytes:
        return right(identity, execution, survivors, total + np.uint32(1 << 20), tag)

    patch.setattr(masking_coordinator, "announce", lie)


def adds_what_nobody_sent_unseen(patch: Patch) -> None:
    takes_any_sum(patch)
    adds_what_nobody_sent(patch)


def goes_on_from_another_model(patch: Patch) -> None:
    right = OwnModel.take

    def take(self: OwnModel, *arguments: Any) -> list[Any]:
        actions = right(self, *arguments)
        self.kept = replace(self.kept, model=self.kept.model + np.float32(0.25))
        return actions

    patch.setattr(OwnModel, "take", take)


def answers_both_share_lists(patch: Patch) -> None:
    right = MaskingInstitution._unmask

    def unmask(self: MaskingInstitution, message: Any) -> Outgoing:
        outgoing = right(self, message)
        shares = UnmaskShares.from_bytes(outgoing.payload)
        both = shares.model_copy(update={"dropped": parties.pack([0])})
        return replace(outgoing, payload=both.signed_by(self._identity).to_bytes())

    patch.setattr(MaskingInstitution, "_unmask", unmask)
    table, signed = dict(masking_institution._TRANSITIONS), masking_institution.State.SIGNED
    patch.setattr(masking_institution, "_TRANSITIONS", table | {signed: (table[signed][0], unmask)})


def sends_an_update_twice(patch: Patch) -> None:
    right = RoundPart._answer

    def answer(self: Any, outgoing: Outgoing) -> list[Any]:
        actions = right(self, outgoing)
        return [*actions, actions[-1]] if outgoing.releases else actions

    patch.setattr(RoundPart, "_answer", answer)


def sends_before_it_records(patch: Patch) -> None:
    right = RoundPart._answer

    def answer(self: Any, outgoing: Outgoing) -> list[Any]:
        return [one for one in right(self, outgoing) if not isinstance(one, RecordRelease)]

    patch.setattr(RoundPart, "_answer", answer)


def forgets_reservations(patch: Patch) -> None:
    patch.setattr(Ledger, "reserve", lambda *_: None)


def forgets_releases(patch: Patch) -> None:
    patch.setattr(Ledger, "release", lambda *_: None)


def loses_its_last_line(patch: Patch) -> None:
    """A log that says a line is on disk and has not written it there."""
    patch.setattr(LogWriter, "check_holds", lambda *_: None)
    right = LogWriter.write

    def write(self: LogWriter, type: str, body: Any, *, durable: bool | None = None) -> None:
        if type != "spend":
            right(self, type, body, durable=durable)

    patch.setattr(LogWriter, "write", write)


def never_stops_waiting(patch: Patch) -> None:
    patch.setattr(CoordinatorSession, "timeout", lambda self: [SetTimer(30.0)])


def sets_no_timer(patch: Patch) -> None:
    patch.setattr(CoordinatorSession, "timeout", lambda self: [])


ONE_STAYS_AWAY = parse([("flow", 0, 16), ("crash", 0, 1), ("wait", 0, 0)])


@pytest.mark.parametrize(
    ("broken", "schedule", "complaint"),
    [
        (adds_an_input_twice_unseen, CALM, "another model than its contributors give"),
        (forgets_a_contributor, CALM, "another model than its contributors give"),
        (adds_what_nobody_sent_unseen, CALM, "another model than its contributors give"),
        (goes_on_from_another_model, CALM, "was given another model"),
        (answers_both_share_lists, CALM, "revealed both secrets"),
        (sends_an_update_twice, CALM, "sent a second update"),
        (sends_before_it_records, CALM, "does not know to be released"),
        (forgets_releases, CALM, "does not know to be released"),
        (forgets_reservations, CALM, "its ledger says"),
        (loses_its_last_line, CALM, "the audit says"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_part_is_caught(
    base: Path, monkeypatch: Patch, broken: Broken, schedule: Schedule, complaint: str
) -> None:
    broken(monkeypatch)
    with pytest.raises(Violation, match=complaint):
        play(base, schedule, audited=True)


@pytest.mark.parametrize("lie", [adds_an_input_twice, adds_what_nobody_sent])
def test_a_sum_that_is_none_moves_nobody(base: Path, monkeypatch: Patch, lie: Broken) -> None:
    """Each institution refuses it, says why, and what it revealed binds it; the audit of all logs agrees."""
    lie(monkeypatch)
    with World(base) as world:
        world.play(CALM)
        world.settle()
        world.check_end(audited=True)
        ended = world.coordinator.log_bodies("round_ended")
        assert ended
        assert {body["status"] for body in ended} == {"aborted"}
        assert "SumCheckFailed" in world.coordinator.log_bodies("sum_refused")[0]["detail"]


@pytest.mark.parametrize("broken", [never_stops_waiting, sets_no_timer])
def test_a_coordinator_that_waits_for_ever_is_caught(base: Path, monkeypatch: Patch, broken: Broken) -> None:
    broken(monkeypatch)
    with World(base) as world:
        # The first one's frames are lost with its power, and it is never switched on again.
        world.play(ONE_STAYS_AWAY)
        world.institutions["clinic-1"].start = lambda: None  # type: ignore[method-assign]
        with pytest.raises(Violation, match="comes to no end|nothing will ever happen"):
            world.settle()


def test_a_round_that_counts_twice_is_caught(base: Path) -> None:
    with World(base) as world:
        world.settle()
        log = (world.folder / COORDINATOR / "log.jsonl").read_bytes().splitlines()
        ends = [one.body for one in (parse_line(raw, "log") for raw in log) if one.type == "round_ended"]
        with pytest.raises(Violation, match="completed twice"):
            world.watch.ended(ends[0])


def test_a_changed_log_is_caught(base: Path) -> None:
    with World(base) as world:
        world.settle()
        log = world.folder / "clinic-2" / "log.jsonl"
        log.write_bytes(log.read_bytes().replace(b'"released"', b'"Released"'))
        with pytest.raises(Violation, match="TAMPERED"):
            world.check_audit()


def test_an_institution_that_gives_up_is_caught(base: Path, monkeypatch: Patch) -> None:
    def fails(*_: Any) -> None:
        raise InvalidInput("no more")

    monkeypatch.setattr(Ledger, "reserve", fails)
    with World(base) as world, pytest.raises(Violation, match="stopped: InvalidInput: no more"):
        world.settle()


def test_operations_without_occasion_do_nothing(base: Path) -> None:
    with World(base) as world:
        world.apply(Operation(Kind.RESTART, 0, 0))
        world.apply(Operation(Kind.NOTICE, 0, 0))
        assert not world.counts
