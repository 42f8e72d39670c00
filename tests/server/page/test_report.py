"""The coordinator's page of a session that has ended."""

import logging
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.log.writer import LogWriter
from fedapt_server.page.report import write_session_report
from fedapt_server.page.session_story import FIRST_PHASE, SessionStory
from fedapt_server.running import _Reports
from fedapt_server.standing import report_path
from tests.support.offices import Office

SESSION, OTHER = "ab" * 16, "cd" * 16
NAMES = ["clinic-1", "clinic-2", "clinic-3"]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def log_of(office: Office) -> LogWriter:
    path = office.folder.path / office.settings.log
    return LogWriter(path, party="coordinator", role="coordinator", identity=office.folder.identity())


def attempt(log: LogWriter, number: int, which: int = 1, **changes: Any) -> None:
    log.write("round_started", {"round": number, "attempt": which, "participants": NAMES})
    log.write("phase", {"round": number, "phase": "unmask"})
    about = {"round": number, "attempt": which, "status": "completed", "detail": "", "bytes_up": 1 << 20}
    about |= {"bytes_down": 2 << 20, "participants": NAMES, "contributors": NAMES, "dropped": []}
    log.write("round_ended", about | changes)


def session(log: LogWriter, name: str, rounds: int) -> None:
    log.write("session_started", {"session": name, "institutions": NAMES, "rounds": rounds})
    for number in range(1, rounds + 1):
        attempt(log, number)


def end(log: LogWriter, name: str, done: list[str]) -> None:
    log.write("closing", {"completed_rounds": 1, "model": "00"})
    log.write("session_ended", {"session": name, "done": done, "completed_rounds": 1, "rounds": 1})


def story_of(office: Office, name: str = SESSION) -> SessionStory:
    found = SessionStory(office.folder.path / office.settings.log, name)
    found.read_on()
    return found


def test_a_session_among_others(office: Office) -> None:
    log = log_of(office)
    session(log, OTHER, 2)
    end(log, OTHER, NAMES)
    session(log, SESSION, 1)
    log.write("declined", {"name": "clinic-3", "reason": "data_changed", "round": 2, "final": False})
    few = {"status": "aborted", "detail": f"too few: {HOSTILE}", "contributors": [], "dropped": ["clinic-3"]}
    attempt(log, 2, **few)
    log.write("session_resumed", {"session": SESSION})
    attempt(log, 2, 2, contributors=NAMES[:2], dropped=["clinic-3"])
    attempt(log, 3, status="aborted", contributors=[], detail="")
    end(log, SESSION, NAMES[:2])
    session(log, OTHER, 3)
    log.close()
    found = story_of(office)
    assert (found.completed, found.attempts, found.restarts) == (2, 4, 1)
    assert (found.bytes_up, found.bytes_down) == (4 << 20, 8 << 20)
    assert found.signed == ("clinic-1", "clinic-2")
    assert [one.split(":")[0] for one in found.without_sum] == ["round 2, attempt 1", "round 3, attempt 1"]
    assert {FIRST_PHASE, "unmask"} < found.seconds.keys()
    grid = found.participation()
    assert [one.label for one in grid.columns] == ["1", "2", "3"]
    assert grid.columns[1].contributed == {"clinic-1": 1, "clinic-2": 1}
    assert grid.columns[2].dropped == dict.fromkeys(NAMES, 1)
    path = write_session_report(office.folder, office.settings, SESSION)
    assert path == report_path(office.folder.path, SESSION)
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text()
    assert "<b>2 of 1 rounds</b> completed, by 4 attempts; 4.0 MiB came" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "data_changed (1): its images are not those with which it began" in text
    assert "resumed 1 times" in text
    assert "signed by 2 institutions" in text


def test_three_hundred_rounds_fit_onto_paper(office: Office) -> None:
    log = log_of(office)
    session(log, SESSION, 300)
    end(log, SESSION, NAMES)
    log.close()
    grid = story_of(office).participation()
    assert [grid.columns[0].label, grid.columns[-1].label] == ["1–5", "296–300"]
    assert all(one.contributed == dict.fromkeys(NAMES, 5) for one in grid.columns)
    path = write_session_report(office.folder, office.settings, SESSION)
    assert len(path.read_bytes()) < 100_000


def test_a_log_that_was_changed_is_said_so(office: Office) -> None:
    log = log_of(office)
    session(log, SESSION, 1)
    end(log, SESSION, NAMES)
    log.close()
    path = office.folder.path / office.settings.log
    path.write_text(path.read_text().replace('"bytes_up":1048576', '"bytes_up":1048577'))
    text = write_session_report(office.folder, office.settings, SESSION).read_text()
    assert "The coordinator&#39;s log: TAMPERED" in text or "The coordinator's log: TAMPERED" in text
    assert "What an audit of the log finds" in text


def test_a_session_that_the_log_does_not_have(office: Office) -> None:
    log = log_of(office)
    log.write("connected", {"name": "clinic-1"})
    log.close()
    text = write_session_report(office.folder, office.settings, SESSION).read_text()
    assert "0 of ? rounds" in text


def test_reports_are_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []

    def write(name: str) -> Path:
        written.append(name)
        if name == "cannot":
            raise InvalidInput("the disk is full")
        if name == "breaks":
            raise RuntimeError("a fault of ours")
        return Path(f"{name}.html")

    caplog.set_level(logging.INFO, "fedapt_server")
    reports = _Reports(write)
    for name in ("cannot", "breaks", "fine"):
        reports.note("session_ended", {"session": name})
    reports.note("round_ended", {"session": "other"})
    reports.close()
    assert written == ["cannot", "breaks", "fine"]
    assert [record.event for record in caplog.records] == ["no_report", "no_report", "report"]  # type: ignore[attr-defined]
    assert "fine.html" in caplog.text
    _Reports(None).note("session_ended", {"session": "nobody"})
