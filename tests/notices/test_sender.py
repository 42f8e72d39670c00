"""People are told: by real commands and a real server, again where it fails, and never in anybody's way."""

import json
import logging
import stat
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any

import pytest

from fedapt_crypto.certificates import CertificateFacts
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import build
from fedapt_secure.notices import sender
from fedapt_secure.notices.sender import MAX_WAITING, Notifier
from fedapt_secure.notices.settings import Event, NotifySettings
from fedapt_server.notices import CoordinatorNotices

SESSION = "ab" * 16
QUICK = (0.01, 0.01, 0.01)


class Hook(ThreadingHTTPServer):
    """Takes what is posted; answers with the statuses that it was given, then with 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.hold = Signal()
        self.hold.set()
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret-path"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.hold.wait(30)
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    yield found
    found.hold.set()
    found.shutdown()
    found.server_close()


def notifier(**settings: Any) -> Notifier:
    return Notifier(NotifySettings(**settings), "clinic-1", pauses_s=QUICK)


def test_a_webhook_gets_event_session_and_code_and_nothing_else(hook: Hook) -> None:
    told = notifier(webhook=hook.url)
    told.tell(Event.OFFER, SESSION)
    told.tell(Event.REFUSAL, SESSION, "policy_epsilon")
    told.close()
    first, second = hook.posted
    assert first.pop("time")
    assert first == {"event": "offer", "party": "clinic-1", "session": SESSION, "code": None}
    assert (second["event"], second["code"]) == ("refusal", "policy_epsilon")
    assert second.keys() == {"event", "party", "session", "code", "time"}


def test_the_same_is_told_once_and_only_what_was_asked_for(hook: Hook) -> None:
    told = notifier(webhook=hook.url, on=(Event.OFFER,))
    for _ in range(5):
        told.tell(Event.OFFER, SESSION)
        told.tell(Event.END, SESSION)
    told.tell(Event.OFFER, "cd" * 16)
    told.close()
    assert [one["session"] for one in hook.posted] == [SESSION, "cd" * 16]


def test_it_is_tried_again_and_given_up_in_words_without_the_address(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.statuses = [500, 503]
    told = notifier(webhook=hook.url)
    told.tell(Event.END, SESSION)
    while len(hook.posted) < 3:
        time.sleep(0.01)
    told.close()
    assert not caplog.records
    hook.statuses = [500] * 10
    told = notifier(webhook=hook.url)
    told.tell(Event.END, SESSION)
    while not caplog.records:
        time.sleep(0.01)
    told.close()
    [record] = caplog.records
    assert record.getMessage() == (
        "people are not told of end: the webhook of notify was answered with status 500"
    )
    assert len(hook.posted) == 3 + len(QUICK) + 1


def test_nobody_is_sent_elsewhere(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.statuses = [302] * 10
    told = notifier(webhook=hook.url)
    told.tell(Event.END, SESSION)
    while not caplog.records:
        time.sleep(0.01)
    told.close()
    assert "status 302" in caplog.text
    assert "secret-path" not in caplog.text


def test_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    told = notifier(webhook="http://127.0.0.1:9/secret-path")
    told.tell(Event.END, SESSION)
    while not caplog.records:
        time.sleep(0.01)
    told.close()
    assert "cannot be posted: ConnectionRefusedError" in caplog.text
    assert "secret-path" not in caplog.text


def test_a_hook_that_hangs_is_in_nobody_s_way(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    hook.hold.clear()
    monkeypatch.setattr(sender, "LAST_S", 0.05)
    told = notifier(webhook=hook.url)
    began = time.monotonic()
    for number in range(3 * MAX_WAITING):
        told.tell(Event.END, f"{number:032x}")
    told.close()
    assert time.monotonic() - began < 10, "nothing of it waits for the hook's 30 s"


def test_a_command_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDAPT_PASSPHRASE", "secret words")
    program = tmp_path / "tell"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "seen = {k: v for k, v in os.environ.items() if k.startswith('FEDAPT')}\n"
        "json.dump([seen, json.load(sys.stdin), sys.argv[1:]], open(sys.argv[1], 'w'))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    told = notifier(command=(str(program), str(tmp_path / "out"), "$(reboot); *"))
    told.tell(Event.FAILURE, SESSION, "no_space")
    told.close()
    environment, given, arguments = json.loads((tmp_path / "out").read_text())
    assert arguments[1] == "$(reboot); *", "no shell reads it"
    assert given["code"] == environment["FEDAPT_CODE"] == "no_space"
    assert environment["FEDAPT_EVENT"] == "failure"
    assert environment["FEDAPT_SESSION"] == SESSION
    assert "FEDAPT_PASSPHRASE" not in environment


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/nowhere/at/all",), "cannot be run: No such file or directory"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "ended with status 3"),
    ],
)
def test_a_command_that_does_not_work(
    command: tuple[str, ...], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = notifier(command=command)
    told.tell(Event.END, SESSION)
    while not caplog.records:
        time.sleep(0.01)
    told.close()
    assert words in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_nothing_to_do_is_nothing() -> None:
    told = Notifier(None, "clinic-1")
    told.tell(Event.END, SESSION)
    told.close()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "say what is done"),
        ({"webhook": "ftp://x/y"}, "webhook: write it as https"),
        ({"webhook": "file:///etc/passwd"}, "webhook: write it as https"),
        ({"webhook": "https:///y"}, "webhook: write it as https"),
        ({"command": []}, "command"),
        ({"command": ["x"], "on": ["rumour"]}, "on"),
    ],
)
def test_what_cannot_be_used_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        build(NotifySettings, fields, source="client.yaml")


def test_an_address_is_in_no_repr() -> None:
    assert "secret-path" not in repr(NotifySettings(webhook="https://x.example/secret-path"))


def test_what_the_coordinator_s_people_hear_of(hook: Hook) -> None:
    told = CoordinatorNotices(NotifySettings(webhook=hook.url), "coordinator")
    for kind, body in (
        ("session_started", {"session": SESSION}),
        ("connected", {"name": "clinic-1"}),
        ("left", {"name": "clinic-1", "reason": "not_approved"}),
        ("cannot_continue", {"reason": "a sentence with clinic-1 in it"}),
        ("session_ended", {"session": SESSION}),
    ):
        told.note(kind, body)
    told.close()
    found = [(one["event"], one["session"], one["code"]) for one in hook.posted]
    assert found == [
        ("offer", SESSION, None),
        ("refusal", SESSION, "not_approved"),
        ("failure", SESSION, None),
        ("end", SESSION, None),
    ]
    assert "clinic-1" not in json.dumps(hook.posted)


def test_certificates_that_expire_are_told_of_once_each(hook: Hook) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    now = [start]
    told = CoordinatorNotices(NotifySettings(webhook=hook.url), "coordinator", lambda: now[0])

    def own(days: int) -> CertificateFacts:
        ends = start + timedelta(days=days)
        return CertificateFacts("coordinator", "ca", days, ends - timedelta(days=90), ends, b"", b"")

    def look(days: int, **members: int) -> None:
        ends = {name: start + timedelta(days=left) for name, left in members.items()}
        told.expiring(own(days), ends, timedelta(days=90))

    look(60, ada=60, ben=14)
    look(60, ada=60, ben=13)
    look(60, ada=60, ben=13)
    now[0] += timedelta(days=50)
    look(60, ada=60, ben=140)
    look(60, ada=60, ben=140)
    look(150, ada=150, ben=140)
    now[0] += timedelta(days=90)
    look(150, ada=150, ben=230)
    told.close()
    assert [(one["event"], one["session"], one["code"]) for one in hook.posted] == [
        ("certificate", None, "member"),  # ben
        ("certificate", None, None),
        ("certificate", None, "member"),  # ada
        ("certificate", None, None),
        ("certificate", None, "member"),
    ]
    assert "ada" not in json.dumps([one | {"time": ""} for one in hook.posted])
