"""What an institution's page shows and does, on the side that may read the folder."""

import json
from typing import Any

import pytest
import yaml

from fedapt_client.books.approval import APPROVED, Approvals, Declined, NotApproved
from fedapt_client.books.ledger import Ledger
from fedapt_client.page.desk import VERIFY_EVERY_S, InstitutionDesk
from fedapt_client.page.offer_file import read_offer, roster_changes
from fedapt_client.page.rounds import FollowedLog
from fedapt_client.page.site import AGREE, DECLINE, SITE
from fedapt_client.page.state import REASONS, TYPED_DIGITS
from fedapt_client.settings import read_settings
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.log.line import LogEntry
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.web.access import Doors, Role, Visit
from fedapt_secure.web.application import Application, Where
from fedapt_secure.web.pipe import plain
from tests.client.page.conftest import HOSTILE, SESSION, Party, accepted, write_rounds


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pages(desk: InstitutionDesk, role: Role = Role.DECIDES) -> dict[str, str]:
    """Return every page as it would be sent."""
    state = json.loads(json.dumps(plain(desk.look(None))))
    application = Application(SITE, None, Doors(), Where(("x",)))  # type: ignore[arg-type]
    visit = Visit(role, "the-token", 0.0)
    return {path: application._filled(path, state, visit) for path in SITE.pages}


def test_an_institution_that_has_seen_nothing(party: Party) -> None:
    found = pages(InstitutionDesk(party.folder))
    assert "No session has been offered" in found["/"]
    assert "No session is on record" in found["/budget"]
    assert "max_epsilon" in found["/policy"]
    assert "Start it with: fedapt-secure client run" in found["/"]


def test_an_offer_is_all_there_and_can_be_decided(party: Party) -> None:
    fields = party.offer()
    page = pages(InstitutionDesk(party.folder))["/"]
    for one in fields["institutions"]:
        assert one["fingerprint"] in page
        assert one["name"] in page
    assert "ε 0 of 8 spent, this session adds at most 8" in page
    assert "3 rounds of" in page
    digits = fields["hash"][:TYPED_DIGITS]
    assert " ".join(digits[i : i + 4] for i in range(0, TYPED_DIGITS, 4)) in page
    assert page.count("<form") == 3
    assert page.count('value="the-token"') == 3
    read = pages(InstitutionDesk(party.folder), Role.READS)["/"]
    assert "/do/" not in read
    assert digits[:4] in read


def test_agreeing_needs_the_fingerprint_and_does_what_approve_does(party: Party) -> None:
    fields, desk = party.offer(), InstitutionDesk(party.folder)
    wanted = fields["hash"]
    for typed in ("", "0" * TYPED_DIGITS, wanted[: TYPED_DIGITS - 1], wanted[1 : TYPED_DIGITS + 1], wanted):
        with pytest.raises(InvalidInput, match="is not the session's fingerprint"):
            desk.act(AGREE, {"hash": wanted, "typed": typed})
    with pytest.raises(InvalidInput, match="not the session that waits any more"):
        desk.act(AGREE, {"hash": "0" * 64, "typed": "0" * TYPED_DIGITS})
    assert not (party.folder / "approvals.json").exists()
    spaced = " ".join(wanted[i : i + 4] for i in range(0, TYPED_DIGITS, 4)).upper()
    desk.act(AGREE, {"hash": wanted, "typed": spaced})
    assert Approvals(party.folder).decision(wanted) == APPROVED
    with pytest.raises(InvalidInput, match="has been agreed to"):
        desk.act(DECLINE, {"hash": wanted, "reason": "not_approved"})
    assert "A session is offered" not in pages(desk)["/"]


def test_declining_says_a_code_and_can_be_taken_back(party: Party) -> None:
    fields, desk = party.offer(), InstitutionDesk(party.folder)
    wanted = fields["hash"]
    for reason in ("", "other", "a sentence of ours", Reason.NO_MEMORY.value):
        with pytest.raises(InvalidInput, match="choose a reason"):
            desk.act(DECLINE, {"hash": wanted, "reason": reason})
    for reason in REASONS:
        assert reason.value in desk.act(DECLINE, {"hash": wanted, "reason": reason.value})
        assert Approvals(party.folder).decision(wanted) == reason.value
    page = pages(desk)["/"]
    assert "A session was declined here" in page
    assert "classes_differ" in page
    desk.act(AGREE, {"hash": wanted, "typed": wanted[:TYPED_DIGITS]})
    assert Approvals(party.folder).decision(wanted) == APPROVED
    with pytest.raises(InvalidInput, match="no such action"):
        desk.act("invite", {"hash": wanted})


def test_what_people_decided_is_what_the_process_does(party: Party) -> None:
    """Declined on a page, it is refused with its code where pages decide, and asked about elsewhere."""
    configuration = party.configuration()
    wanted = configuration.hash.hex()
    shown: list[Any] = []
    waits = Approvals(party.folder, show=shown.append, elsewhere=True)
    for _ in range(3):
        with pytest.raises(NotApproved):
            waits.check(configuration, unattended=False)
    assert shown == [configuration], "shown once"
    waits.decline(wanted, Reason.POLICY_PRIVACY)
    with pytest.raises(Declined) as refused:
        waits.check(configuration, unattended=False)
    assert refused.value.code == "policy_privacy"
    asked: list[Any] = []
    there = Approvals(party.folder, ask=lambda one: bool(asked.append(one)) or True)
    there.check(configuration, unattended=False)
    assert asked == [configuration]
    waits.check(configuration, unattended=False)


def test_what_changed_among_the_institutions_is_said(party: Party) -> None:
    before = party.offer()
    now = json.loads(json.dumps(before)) | {"hash": "1" * 64, "coordinator_fingerprint": "0000"}
    now["institutions"][0]["fingerprint"] = "1111"
    now["institutions"][1]["domain"] = HOSTILE
    now["institutions"][2]["name"] = HOSTILE
    said = roster_changes(before, now)
    assert said[0] == "clinic-3 is not among them any more"
    assert said[1].startswith("clinic-1 has another key: before it was")
    assert said[2] == f"clinic-2 was in the domain chalk, now it is in {HOSTILE}"
    assert said[3] == f"{HOSTILE} is new"
    assert said[4].startswith("the coordinator has another key")
    assert roster_changes(before, before) == []


def test_hostile_names_stay_text(party: Party) -> None:
    fields = party.offer()
    text = json.dumps(read_offer(party.folder)).replace("clinic-2", HOSTILE.replace('"', '\\"'))
    (party.folder / "offer.json").write_text(text.replace("zero", HOSTILE.replace('"', '\\"')))
    log = party.writer()
    log.write("session_accepted", accepted(3))
    log.write("refused", {"code": "other", "detail": HOSTILE, "error": "X", "round": 0, "session": SESSION})
    log.close()
    found = pages(InstitutionDesk(party.folder))
    assert fields["hash"] in found["/"]
    for page in found.values():
        assert "<script>" not in page
        assert "&lt;script&gt;" in page or "alert" not in page
    assert "&lt;script&gt;" in found["/"]


def test_three_hundred_rounds_stay_readable_and_are_read_once(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rounds(party, range(1, 301), 300)
    desk = InstitutionDesk(party.folder)
    page = pages(desk)["/"]
    assert "300 of 300 completed" in page
    assert "The 288 rounds before" in page
    assert len(page) < 200_000
    read: list[LogEntry] = []
    take = FollowedLog._take
    monkeypatch.setattr(FollowedLog, "_take", lambda self, one: (read.append(one), take(self, one))[1])
    log = party.writer()
    log.write("round_joined", {"session": SESSION, "round": 300, "attempt": 2})
    log.close()
    state = desk.look(None)
    assert len(read) == 1
    assert state["session"]["rounds"][0]["attempts"] == 2


def test_a_log_that_is_cut_or_replaced_is_read_anew(party: Party) -> None:
    write_rounds(party, range(1, 4), 5)
    followed = FollowedLog(party.log)
    followed.read_on()
    assert followed.current is not None
    assert len(followed.current.rounds) == 3
    data = party.log.read_bytes()
    party.log.write_bytes(b"".join(data.splitlines(keepends=True)[:3]))
    followed.read_on()
    assert followed.lines == 3
    party.log.unlink()
    followed.read_on()
    party.log.write_bytes(data)
    followed.read_on()
    assert followed.current is not None
    assert len(followed.current.rounds) == 3
    party.log.write_bytes(data + b'{"seq": 99, "type"')  # a line that is being written
    followed.read_on()
    assert len(followed.current.rounds) == 3


def test_a_log_that_does_not_verify_is_said_so(party: Party) -> None:
    write_rounds(party, range(1, 4), 3)
    clock = Clock()
    desk = InstitutionDesk(party.folder, clock)
    assert "lines verify" in pages(desk)["/log"]
    lines = party.log.read_bytes().splitlines(keepends=True)
    party.log.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    version = desk.look(None)["version"]
    assert "lines verify" in pages(desk)["/log"], "looked at again in a minute"
    clock.now += VERIFY_EVERY_S
    assert "same" not in desk.look(version)
    assert "The log does not verify" in pages(desk)["/log"]


def test_nothing_is_read_again_while_nothing_changes(party: Party) -> None:
    write_rounds(party, range(1, 3), 3)
    ledger = party.folder / read_settings(party.folder).ledger
    Ledger(ledger, lambda *_: None)
    desk = InstitutionDesk(party.folder)
    version = desk.look(desk.look(None)["version"])["version"]  # the first look touches the ledger
    for _ in range(3):
        assert desk.look(version) == {"same": True}
    write_rounds(party, range(3, 4), 3)
    changed = desk.look(version)
    assert changed["session"]["completed"] == 3
    party.offer()
    assert desk.look(changed["version"])["offer"]["decision"] is None


def test_what_cannot_be_read_is_a_sentence_on_every_page(party: Party) -> None:
    policy = party.folder / "policy.yaml"
    before = policy.read_text()
    try:
        policy.write_text("max_epsilon: [\n")
        for page in pages(InstitutionDesk(party.folder)).values():
            assert "policy.yaml" in page
        policy.write_text(yaml.safe_dump({"max_epsilon": -1}))
        assert "max_epsilon" in pages(InstitutionDesk(party.folder))["/budget"]
    finally:
        policy.write_text(before)


def test_a_broken_offer_is_no_offer(party: Party) -> None:
    for text in ("", "[]", "{}", '{"fields": 3}', "\0"):
        (party.folder / "offer.json").write_text(text)
        assert read_offer(party.folder) is None
        assert "No session has been offered" in pages(InstitutionDesk(party.folder))["/"]
