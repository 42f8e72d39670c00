"""What refuses or fails before a round's steps are reserved leaves the ledger as it was; the audit agrees.

Over the closed list of reasons: one that can come before the first release and is not provoked here fails the
last test. What comes after the reservation (an error in training itself) is not refunded, for noise may have
been drawn: an attempt of the same round runs under the same reservation (docs/decisions/0005-attempts.md).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from fedapt_client.books.ledger import Ledger
from fedapt_client.session.requirements import Requirements
from fedapt_client.training import space
from fedapt_client.training.learner import Learner
from fedapt_crypto.errors import Unavailable
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.masking import parties
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import audit
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.reading.records import is_test
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from tests.protocol.federation import Federation
from tests.protocol.memory_log import MemoryLog
from tests.protocol.sessions.stage import IMAGES, MARKER, POLICY, Stage, stranger, write_images
from tests.protocol.sessions.test_marker import FAILURES, policy
from tests.support.examples import often

AFTER: dict[Reason, str] = {
    Reason.ALREADY_RELEASED: "there is a release before it",
    Reason.MODEL_UNUSABLE: "the first model follows from the session's seed",
    Reason.TRAINING_DIVERGED: "the steps of a round are reserved before it is trained",
    Reason.BUDGET_SPENT: "a plan covers all rounds of its session, each reserved once",
}
"""Reasons that cannot come before the first release."""
NEXT = bytes(range(1, 17))
FREE = f"{POLICY}session_epsilon: 2.0\ncomposition: sum\n"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    write_images(root)
    return root


@pytest.fixture
def stage(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, digits, monkeypatch)


def accepted_before(stage: Stage) -> None:
    """The session was accepted, and the institution is started again before the first round."""
    company, stage.company = stage.company, False
    error, federation = stage.play()
    assert error is None
    federation._begin(federation.configuration.session)
    stage.company = company
    stage.sent.clear()


def a_session_before(stage: Stage) -> None:
    """A session on the same images was played to its end; another is offered."""
    error, federation = stage.play()
    assert error is None
    assert stage.spent() == [(federation.configuration.session, 1)]
    stage.federation = federation.next_session(NEXT)
    stage.sent.clear()


def at_start(stage: Stage, happens: Callable[[], None]) -> None:
    """Let something happen when the first round begins, before the institution hears of it."""

    def arriving(data: bytes, federation: Federation) -> None:
        if b"round start" in data:
            happens()

    stage.arriving = arriving


def started_with(stage: Stage, **changes: object) -> None:
    changed_once: list[bytes] = []

    def changed(data: bytes, federation: Federation) -> bytes:
        if b"round start" not in data or changed_once:
            return data
        changed_once.append(data)
        return m.RoundStart.from_bytes(data).model_copy(update=changes).to_bytes()

    stage.changed = changed


def a_shorter_roster(stage: Stage) -> None:
    def approve(federation: Federation) -> None:
        shorter = federation.roster.only(federation.roster.names[:2])
        stage.monkeypatch.setattr(PartyFolder, "roster", lambda folder: shorter)

    stage.before_play.append(approve)


def no_privacy(stage: Stage) -> None:
    stage.plan["differential_privacy"] = False
    stage.of_the_others = Requirements(
        differential_privacy=False, aggregation=("masking",), minimum_participants=2
    )


def more_delta_than_a_session_may(stage: Stage) -> None:
    stage.settings["dp_delta"] = 0.003


def fewer_than_the_policy_asks_for(stage: Stage) -> None:
    stage.write_policy(POLICY.replace("minimum_records: 0", f"minimum_records: {IMAGES}"))


def a_policy_that_asks_for_more(stage: Stage) -> None:
    at_start(stage, lambda: fewer_than_the_policy_asks_for(stage))


def another_rule(stage: Stage) -> None:
    stage.write_policy(f"{POLICY}composition: sum\n")
    a_session_before(stage)
    stage.write_policy(f"{POLICY}composition: rdp-filter\n")


def a_budget_that_earlier_sessions_have_used_up(stage: Stage) -> None:
    stage.write_policy(FREE)
    stage.settings["dp_epsilon"] = 1.9
    a_session_before(stage)


def another_image(stage: Stage) -> None:
    accepted_before(stage)
    first = next(path for path in sorted(stage.data.glob("*/*.png")) if not is_test(path.read_bytes()))
    for shade in range(256):
        Image.new("L", (28, 28), shade).save(first)
        if not is_test(first.read_bytes()):
            return


def fewer_images(stage: Stage) -> None:
    accepted_before(stage)
    for image in sorted(stage.data.glob("*/*.png"))[::2]:
        image.unlink()


def no_such_device(stage: Stage) -> None:
    if torch.cuda.is_available():
        pytest.skip("here there is one")
    stage.settings["device"] = "cuda"


def no_memory(stage: Stage) -> None:
    def too_much(learner: Learner) -> float:
        raise MemoryError(MARKER)

    stage.monkeypatch.setattr(Learner, "check_possible", too_much)


def no_memory_says_the_system(stage: Stage) -> None:
    def too_much(learner: Learner) -> float:
        error = Unavailable(f"{stage.data} cannot be read")
        error.code = "no_memory"
        raise error

    stage.monkeypatch.setattr(Learner, "check_possible", too_much)


def a_log_that_was_lost(stage: Stage) -> None:
    a_session_before(stage)
    (stage.folder / "log.jsonl").unlink()


def a_coordinator_whose_log_was_lost(stage: Stage) -> None:
    a_session_before(stage)
    federation = stage.prepare()
    federation.logs = federation.logs | {COORDINATOR: MemoryLog(COORDINATOR, federation.coordinator_identity)}
    stage.federation = federation.next_session(NEXT)


def another_start(stage: Stage) -> None:
    started_with(stage, model_id=bytes(32))


def too_few_on_our_key(stage: Stage) -> None:
    stage.write_policy(POLICY.replace("per_key: 1", "per_key: 2"))
    started_with(stage, participants=parties.pack([0, 1]))


def too_few_begin(stage: Stage) -> None:
    started_with(stage, participants=parties.pack([0]))


def an_offer_that_a_stranger_signed(stage: Stage) -> None:
    def changed(data: bytes, federation: Federation) -> bytes:
        if b"session offer" not in data:
            return data
        signature = stranger().sign("session offer", federation.configuration.hash)
        return m.SessionOffer.from_bytes(data).model_copy(update={"signature": signature}).to_bytes()

    stage.changed = changed


def approvals_that_cannot_be_read(stage: Stage) -> None:
    (stage.folder / "approvals.json").write_text(MARKER)
    (stage.folder / "approvals.json").chmod(0o600)


def a_stricter_policy(stage: Stage) -> None:
    at_start(stage, lambda: policy(max_epsilon=0.1, session_epsilon=0.1)(stage))


def a_policy_that_breaks(stage: Stage) -> None:
    at_start(stage, lambda: stage.write_policy(MARKER))


def no_space_to_reserve(stage: Stage) -> None:
    def full(*arguments: object) -> None:
        error = Unavailable(f"{stage.folder} is full")
        error.code = "no_space"
        raise error

    at_start(stage, lambda: stage.monkeypatch.setattr(Ledger, "reserve", full))


def no_disk_to_join(stage: Stage) -> None:
    def broken(*arguments: object) -> None:
        raise Unavailable(f"{stage.folder} is broken")

    at_start(stage, lambda: stage.monkeypatch.setattr(Ledger, "join", broken))


def no_room_for_the_model(stage: Stage) -> None:
    stage.monkeypatch.setattr(space.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))


def a_file_where_models_go(stage: Stage) -> None:
    (stage.folder / "models").write_text(MARKER)


def images_gone_before_a_restart(stage: Stage) -> None:
    accepted_before(stage)
    shutil.rmtree(stage.data)


CAUSES: dict[str, tuple[Callable[[Stage], None], Reason]] = FAILURES | {
    "a shorter roster": (a_shorter_roster, Reason.ROSTER_DIFFERS),
    "no privacy": (no_privacy, Reason.POLICY_PRIVACY),
    "the policy's delta": (more_delta_than_a_session_may, Reason.POLICY_DELTA),
    "fewer than the policy asks for": (fewer_than_the_policy_asks_for, Reason.POLICY_RECORDS),
    "a policy that asks for more": (a_policy_that_asks_for_more, Reason.POLICY_RECORDS),
    "the policy's rule": (another_rule, Reason.POLICY_COMPOSITION),
    "a budget used up": (a_budget_that_earlier_sessions_have_used_up, Reason.POLICY_EPSILON),
    "another image": (another_image, Reason.DATA_CHANGED),
    "fewer images": (fewer_images, Reason.LEDGER_DIFFERS),
    "images gone": (images_gone_before_a_restart, Reason.DATA_UNREADABLE),
    "no such device": (no_such_device, Reason.DEVICE_UNUSABLE),
    "no memory": (no_memory, Reason.NO_MEMORY),
    "no memory, says the system": (no_memory_says_the_system, Reason.NO_MEMORY),
    "the own log lost": (a_log_that_was_lost, Reason.OWN_LOG_BEHIND),
    "the coordinator's log lost": (a_coordinator_whose_log_was_lost, Reason.YOUR_LOG_BEHIND),
    "another start": (another_start, Reason.OTHER_START),
    "too few begin": (too_few_begin, Reason.POLICY_PARTICIPANTS),
    "too few on our key": (too_few_on_our_key, Reason.POLICY_KEY),
    "a stranger's offer": (an_offer_that_a_stranger_signed, Reason.MESSAGE_REFUSED),
    "broken approvals": (approvals_that_cannot_be_read, Reason.OTHER),
    "a stricter policy": (a_stricter_policy, Reason.POLICY_EPSILON),
    "a policy that breaks at the start": (a_policy_that_breaks, Reason.POLICY_INVALID),
    "no room for the model": (no_room_for_the_model, Reason.NO_SPACE),
    "a file where models go": (a_file_where_models_go, Reason.OTHER),
    "no space to reserve": (no_space_to_reserve, Reason.NO_SPACE),
    "no disk to join": (no_disk_to_join, Reason.DISK_ERROR),
}


def counted_by_audit(stage: Stage) -> set[str]:
    """Return the sessions that the audit of the institution's logs counts; nothing may be found wrong."""
    judgement = audit([stage.folder / "log.jsonl"])
    wrong = [one for one in judgement.findings if one.verdict in (Verdict.VIOLATED, Verdict.TAMPERED)]
    assert not wrong, wrong
    (party,) = judgement.parties
    return {one.record.session for spend in party.spends for one in spend.counted}


@pytest.mark.parametrize("cause", often(CAUSES, 2))
def test_nothing_is_spent_before_the_first_release(cause: str, stage: Stage) -> None:
    provoke, reason = CAUSES[cause]
    stage.company = True
    before: list[tuple[bytes, int]] = []
    stage.before_play.append(lambda federation: before.extend(stage.spent()))
    provoke(stage)
    before.clear()
    _, federation = stage.play()
    assert stage.told()[:1] == [reason.value]
    assert stage.spent() == before, "the ledger has changed"
    assert all(session != federation.configuration.session for session, _ in stage.spent())
    if cause != "the own log lost":  # the sessions that it showed are lost with it
        assert counted_by_audit(stage) == {session.hex() for session, _ in before}
    stage.assert_nothing_left(federation)


def test_every_reason_that_can_come_before_the_first_release_is_provoked() -> None:
    assert {reason for _, reason in CAUSES.values()} == set(Reason) - set(AFTER)
