"""What a coordinator's page shows and does, on the side that may read the folder."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol.joining.join_string import JoinString
from fedapt_secure.web.access import Doors, Role, Visit
from fedapt_secure.web.application import Application, Where
from fedapt_secure.web.pipe import plain
from fedapt_server.page.desk import CoordinatorDesk
from fedapt_server.page.rounds import LAST_ROUNDS, FollowedCoordinator
from fedapt_server.page.site import INVITE, REVOKE, SITE
from tests.support.offices import Office

NAMES = ["clinic-1", "clinic-2", "clinic-3"]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    found = Office(tmp_path)
    for name in NAMES:
        found.enrol(name, "ink")
    return found


def desk_of(office: Office) -> CoordinatorDesk:
    return CoordinatorDesk(office.registrar, now=office.clock)


def pages(desk: CoordinatorDesk, role: Role = Role.DECIDES) -> dict[str, str]:
    state = json.loads(json.dumps(plain(desk.look(None))))
    application = Application(SITE, None, Doors(), Where(("x",)))  # type: ignore[arg-type]
    visit = Visit(role, "the-token", 0.0)
    return {path: application._filled(path, state, visit) for path in SITE.pages}


def log_of(office: Office) -> LogWriter:
    path = office.folder.path / office.settings.log
    identity = office.folder.identity()
    return LogWriter(path, party="coordinator", role="coordinator", identity=identity)


def ended(number: int, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    about = {"round": number, "attempt": attempt, "status": "completed", "detail": "", "bytes_up": 1 << 20}
    return about | {"bytes_down": 2 << 20, "contributors": NAMES, "dropped": []} | changes


def a_session(log: LogWriter, rounds: int) -> None:
    log.write("session_started", {"institutions": NAMES})
    for number in range(1, rounds + 1):
        log.write("round_started", {"round": number, "attempt": 1, "participants": NAMES})
        log.write("phase", {"round": number, "phase": "unmask"})
        log.write("round_ended", ended(number))


def test_before_any_session(office: Office) -> None:
    found = pages(desk_of(office))
    assert "The service does not run" in found["/"]
    assert all(name in found["/members"] for name in NAMES)
    assert found["/members"].count("/do/") == 2
    assert "/do/" not in pages(desk_of(office), Role.READS)["/members"]


def test_institutions_by_rounds_as_they_happen(office: Office) -> None:
    log = log_of(office)
    a_session(log, 2)
    log.write("round_started", {"round": 3, "attempt": 1, "participants": NAMES})
    log.write("declined", {"name": "clinic-3", "reason": "data_changed", "round": 3, "final": False})
    log.write(
        "round_ended", ended(3, status="aborted", detail="too few", contributors=[], dropped=["clinic-2"])
    )
    log.write("round_started", {"round": 3, "attempt": 2, "participants": NAMES[:2]})
    log.write("phase", {"round": 3, "phase": "share"})
    log.close()
    desk = desk_of(office)
    columns = desk.look(None)["grid"]["columns"]
    assert [(one["label"], one["said"]) for one in columns] == [
        ("1", "completed"), ("2", "completed"), ("3", "aborted"), ("3.2", "share"),
    ]  # fmt: skip
    assert columns[2]["marks"] == dict.fromkeys(NAMES, "out")
    assert columns[3]["marks"] == {"clinic-1": "part", "clinic-2": "part"}
    page = pages(desk)["/"]
    assert page.count('class="in"') == 6
    assert "round 3, attempt 1" in page
    assert "too few" in page
    assert "its images are not those with which it began" in page
    state = desk.look(None)
    assert (state["mib_up"], state["mib_down"]) == (3.0, 6.0)


def test_three_hundred_rounds_stay_readable_and_are_read_once(office: Office) -> None:
    log = log_of(office)
    a_session(log, 300)
    log.close()
    desk = desk_of(office)
    state = desk.look(None)
    assert len(state["grid"]["columns"]) == LAST_ROUNDS
    assert state["grid"]["columns"][-1]["label"] == "300"
    assert len(pages(desk)["/"]) < 100_000
    followed = FollowedCoordinator(office.folder.path / office.settings.log)
    followed.read_on()
    before = followed.lines
    read: list[str] = []
    followed._take = lambda entry: read.append(entry.type)  # type: ignore[method-assign]
    log = log_of(office)
    log.write("connected", {"name": "clinic-1"})
    log.close()
    followed.read_on()
    assert read == ["connected"]
    assert before > 900


def test_inviting_is_server_invite(office: Office) -> None:
    desk = desk_of(office)
    for fields, words in (
        ({"name": "", "domain": "ink", "days": "7"}, "is no name"),
        ({"name": HOSTILE, "domain": "ink", "days": "7"}, "is no name"),
        ({"name": "clinic-9", "domain": "", "days": "7"}, "a domain has 1 to 256"),
        ({"name": "clinic-9", "domain": "ink", "days": "0"}, "1 to 60 days"),
        ({"name": "clinic-9", "domain": "ink", "days": "61"}, "1 to 60 days"),
        ({"name": "clinic-9", "domain": "ink", "days": "x"}, "1 to 60 days"),
        ({}, "is no name"),
        ({"name": "clinic-9", "domain": "ink", "days": "7"}, "nothing was changed"),
        ({"name": "clinic-9", "again": "clinic-8", "domain": "ink", "days": "7"}, "nothing was changed"),
        ({"name": "clinic-1", "again": "clinic-1", "domain": "ink", "days": "7"}, "clinic-1"),
    ):
        with pytest.raises(InvalidInput, match=words):
            desk.act(INVITE, fields)
    assert not office.registrar.membership.open_invitations
    wanted = {"name": "clinic-9", "again": " clinic-9 ", "domain": "chalk", "days": "7"}
    said = desk.act(INVITE, wanted)
    join = JoinString.from_text(said.rpartition(" ")[2])
    assert join.name == "clinic-9"
    assert office.registrar.membership.open_invitations[0].name == "clinic-9"
    page = pages(desk)["/members"]
    assert "clinic-9" in page
    assert said.rpartition(" ")[2] not in page, "a join string is shown once"
    again = desk.act(INVITE, wanted)
    assert "earlier invitation is void" in again


def test_revoking_needs_the_name_again(office: Office) -> None:
    desk = desk_of(office)
    for again in ("", "clinic-2", "clinic"):
        with pytest.raises(InvalidInput, match="nothing was changed"):
            desk.act(REVOKE, {"name": "clinic-1", "again": again, "reason": ""})
    assert len(office.roster().content.members) == 3
    said = desk.act(REVOKE, {"name": "clinic-1", "again": "clinic-1", "reason": HOSTILE})
    assert "off the roster" in said
    assert office.roster().content.names == ("clinic-2", "clinic-3")
    page = pages(desk)["/members"]
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    desk.act(INVITE, {"name": "clinic-9", "again": "clinic-9", "domain": "ink", "days": "1"})
    assert "withdrawn" in desk.act(REVOKE, {"name": "clinic-9", "again": "clinic-9"})
    with pytest.raises(InvalidInput):
        desk.act(REVOKE, {"name": "nobody", "again": "nobody"})
    with pytest.raises(InvalidInput, match="no such action"):
        desk.act("agree", {"name": "x"})


def test_certificates_that_expire_are_named(office: Office) -> None:
    assert "Certificates that expire" not in pages(desk_of(office))["/"]
    office.clock.pass_(days=80)
    page = pages(desk_of(office))["/"]
    assert re.search(r"Certificates that expire.*clinic-1", page, re.DOTALL)


def test_hostile_text_stays_text(office: Office) -> None:
    log = log_of(office)
    log.write("session_started", {"institutions": [*NAMES, HOSTILE]})
    log.write("round_started", {"round": 1, "attempt": 1, "participants": [HOSTILE]})
    log.write("phase", {"round": 1, "phase": HOSTILE})
    log.write("refused", {"name": HOSTILE, "detail": HOSTILE, "error": "x"})
    log.close()
    found = pages(desk_of(office))
    for page in found.values():
        assert "<script>" not in page
    assert "&lt;script&gt;" in found["/"]
    assert "&lt;script&gt;" in found["/log"]


def test_nothing_is_read_again_while_nothing_changes(office: Office) -> None:
    desk = desk_of(office)
    version = desk.look(None)["version"]
    for _ in range(3):
        assert desk.look(version) == {"same": True}
    office.invite("clinic-7", "ink")
    assert "same" not in desk.look(version)
