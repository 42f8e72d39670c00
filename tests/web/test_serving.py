"""A page as it is served: two processes, real sockets, and what each of them cannot do."""

import http.client
import re
import socket
import ssl
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto.errors import InvalidInput, Unavailable
from fedapt_crypto.pki import CertificateAuthority
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.web import landlock
from fedapt_secure.web.access import Role
from fedapt_secure.web.address import PageAddress
from fedapt_secure.web.application import Where
from fedapt_secure.web.serving import SOCKET_FILE, PageServer, ask_for_link
from tests.support.issuing import issue

pytest.importorskip("starlette", reason="the extra 'page' is not installed")
pytestmark = pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock")
ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>"


class Desk:
    def __init__(self) -> None:
        self.state: dict[str, Any] = {"who": HOSTILE, "problem": None, "count": 1, "word": HOSTILE}
        self.acted: list[tuple[str, dict[str, str]]] = []
        self.looked = 0

    def look(self, known: str | None) -> Mapping[str, Any]:
        self.looked += 1
        version = str(self.state["count"])
        return {"same": True} if known == version else {**self.state, "version": version}

    def act(self, action: str, fields: Mapping[str, str]) -> str:
        if fields["word"] == "break":
            raise ValueError("broken")
        if fields["word"] == "wrong":
            raise InvalidInput(f"that is wrong: {HOSTILE}")
        self.acted.append((action, dict(fields)))
        return f"done: {fields['word']}"


class Browser:
    """One that keeps cookies, and says which host and origin it likes."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""
        self.host = f"127.0.0.1:{port}"

    def ask(self, path: str, body: str | None = None, **headers: str) -> tuple[int, str, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"Host": self.host, "Cookie": self.cookie, "Origin": f"http://{self.host}"} | headers
        if body is not None:
            given["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("GET" if body is None else "POST", path, body, given)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].partition(";")[0]
        return answer.status, text, found

    def enter(self, link: str) -> tuple[int, str, Mapping[str, str]]:
        return self.ask(link.partition(str(self.port))[2])

    def token(self) -> str:
        return re.findall(r'name="token" value="([^"]+)"', self.ask("/other")[1])[0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def folder(tmp_path: Path) -> PartyFolder:
    party = PartyFolder(tmp_path / "party")
    party.make()
    party.create()
    return party


@pytest.fixture
def served(desk: Desk, folder: PartyFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}")
    monkeypatch.setenv("FEDAPT_PASSPHRASE", "secret words")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        desk.state["files"] = [*map(str, folder.path.iterdir()), "/etc/passwd"]
        desk.state["port"] = other.getsockname()[1]
        server = PageServer("tests.web.probe", desk, PageAddress.parse("127.0.0.1:0"), folder.path)
        yield server
        server.stop()


@pytest.fixture
def browser(served: PageServer) -> Browser:
    found = Browser(served.port)
    assert found.enter(served.link(Role.DECIDES))[0] == 200
    return found


def test_the_process_that_faces_browsers_can_do_nothing_else(
    browser: Browser, folder: PartyFolder, desk: Desk
) -> None:
    assert folder.identity_file.exists()
    status, text, _ = browser.ask("/")
    assert status == 200
    found = dict(re.findall(r"<p>([^<=]+)=([^<]*)</p>", text))
    names = desk.state["files"]
    assert len(names) > 2
    assert str(folder.identity_file) in names
    assert {found[name] for name in names} == {"PermissionError"}
    assert found["list"] == found["write"] == found["connect"] == "PermissionError"
    assert "FEDAPT" not in found["environment"]
    assert "HOME" not in found["environment"]


def test_without_the_secret_there_is_nothing(served: PageServer) -> None:
    stranger = Browser(served.port)
    for path in ("/", "/other", "/events?page=/", "/enter/", "/enter/wrong", "/.env", "/..%2f"):
        status, text, _ = stranger.ask(path)
        assert status in (403, 404)
        assert HOSTILE not in text
        assert "script&gt;" not in text
    assert stranger.ask("/do/do", "word=x")[0] == 403


def test_a_link_is_used_once_and_its_cookie_is_for_this_page_alone(served: PageServer) -> None:
    link = served.link(Role.DECIDES)
    assert link.startswith(f"http://127.0.0.1:{served.port}/enter/")
    first, second = Browser(served.port), Browser(served.port)
    status, _, headers = first.enter(link)
    assert status == 200
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]
    assert link.rpartition("/")[2] not in headers["set-cookie"]
    assert second.enter(link)[0] == 403
    assert first.ask("/")[0] == 200


def test_every_answer_is_guarded(browser: Browser) -> None:
    for path in ("/", "/style.css", "/live.js", "/nothing", "/enter/x", "/do/do"):
        _, text, headers = browser.ask(path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*src=\"/live.js\")|\son\w+=|style=|https?://", text), path


def test_other_names_and_other_sites_are_refused(browser: Browser) -> None:
    token = browser.token()
    form = f"token={token}&word=x"
    for host in ("evil.example", f"evil.example:{browser.port}", "127.0.0.1", ""):
        assert browser.ask("/", Host=host)[0] in (400, 403)
        assert browser.ask("/do/do", form, Host=host)[0] in (400, 403)
    for origin in ("null", "https://evil.example", f"http://127.0.0.1:{browser.port + 1}", ""):
        assert browser.ask("/do/do", form, Origin=origin)[0] == 403
    assert browser.ask("/do/do", "word=x")[0] == 403
    assert browser.ask("/do/do", "token=&word=x")[0] == 403
    assert browser.ask("/do/do", f"token={token}x&word=x")[0] == 403
    assert browser.ask("/do/other", form)[0] == 403


def test_what_is_asked_for_is_done_or_refused_in_words(browser: Browser, desk: Desk) -> None:
    token = browser.token()
    status, text, _ = browser.ask("/do/do", f"token={token}&word=x&more=y")
    assert (status, desk.acted) == (200, [("do", {"word": "x"})])
    assert "done: x" in text
    status, text, _ = browser.ask("/do/do", f"token={token}&word=wrong")
    assert status == 422
    assert "that is wrong: &lt;script&gt;" in text
    status, text, _ = browser.ask("/do/do", f"token={token}&word=break")
    assert status == 422
    assert "broken" not in text
    assert browser.ask("/do/do", f"token={token}&word={'x' * 20_000}")[0] == 403
    assert browser.ask("/other")[0] == 200


def test_who_reads_cannot_decide(served: PageServer, desk: Desk) -> None:
    officer = Browser(served.port)
    officer.enter(served.link(Role.READS))
    status, text, _ = officer.ask("/other")
    assert status == 200
    assert "You may read here" in text
    status, text, _ = officer.ask("/do/do", f"token={officer.token()}&word=x")
    assert status == 403
    assert "not decide" in text
    assert not desk.acted


def test_leaving(browser: Browser) -> None:
    cookie, token = browser.cookie, browser.token()
    assert browser.ask("/leave", "token=wrong")[0] == 200
    browser.cookie = cookie
    assert browser.ask("/other")[0] == 200
    browser.ask("/leave", f"token={token}")
    browser.cookie = cookie
    assert browser.ask("/other")[0] == 403


def test_a_live_page_hears_of_changes_and_of_nothing_else(browser: Browser, desk: Desk) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=20)
    connection.request("GET", "/events?page=/other", headers={"Host": browser.host, "Cookie": browser.cookie})
    stream = connection.getresponse()
    assert stream.getheader("content-type", "").startswith("text/event-stream")

    def event() -> str:
        lines = []
        while (line := stream.readline()) not in (b"\n", b""):
            lines.append(line.decode())
        return "".join(lines)

    assert event() == "retry: 3000\n"
    assert '<p id="count">1</p>' in event()
    desk.state["count"] = 2
    assert '<p id="count">2</p>' in event()
    connection.close()
    looked = -1
    while looked != desk.looked:  # until nobody looks any more
        looked = desk.looked
        time.sleep(2.5)


def test_commands_of_the_same_user_get_links(served: PageServer, folder: PartyFolder) -> None:
    path = folder.path / SOCKET_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    link = ask_for_link(folder.path, Role.READS)
    assert link is not None
    officer = Browser(served.port)
    assert officer.enter(link)[0] == 200
    served.stop()
    assert ask_for_link(folder.path, Role.READS) is None
    assert not path.exists()


def test_it_ends_with_the_command_and_says_what_is_wrong(
    served: PageServer, desk: Desk, folder: PartyFolder
) -> None:
    taken = PageAddress.parse(f"127.0.0.1:{served.port}")
    with pytest.raises(
        Unavailable, match=f"cannot be served at 127.0.0.1 port {served.port}: Address already"
    ):
        PageServer("tests.web.probe", desk, taken, folder.path)
    with pytest.raises(Unavailable, match="ended at once"):
        PageServer("tests.web.no_such_package", desk, PageAddress.parse("127.0.0.1:0"), folder.path)
    process = Path(f"/proc/{served.process_id}")
    assert process.exists()
    served.stop()
    assert not process.exists()


def test_under_tls(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}")
    desk.state |= {"files": [], "port": 1}
    authority = CertificateAuthority.create("test")
    party = issue(authority, tmp_path / "page", "page", server_addresses=("127.0.0.1", "page.example.org"))
    address = PageAddress.parse(
        "127.0.0.1:0",
        certificate=party.certificate_file,
        key=party.private_key_file,
        allowed=("10.0.0.0/8",),
        names=("page.example.org",),
    )
    server = PageServer("tests.web.probe", desk, address, party.path)
    try:
        link = server.link(Role.DECIDES)
        assert link.startswith(f"https://page.example.org:{server.port}/enter/")
        trusting = ssl.create_default_context(cadata=authority.certificate_pem.decode())
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusting, timeout=20)
        host = f"page.example.org:{server.port}"
        connection.request("GET", link.partition(host)[2], headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        cookie = str(answer.getheader("set-cookie"))
        assert answer.status == 200
        assert "Secure" in cookie
        for origin, status in ((f"https://{host}", 403), (f"http://{host}", 403)):
            headers = {"Host": host, "Cookie": cookie.partition(";")[0], "Origin": origin}
            connection.request("POST", "/do/do", "word=x", headers)
            refused = connection.getresponse()
            assert refused.status == status
            assert ("another site" in refused.read().decode()) == origin.startswith("http:")
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        plain.request("GET", "/", headers={"Host": host})
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        plain.close()
    finally:
        server.stop()


def test_a_kernel_without_landlock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_call", lambda *_: -1)
    assert landlock.available() == 0
    with pytest.raises(Unavailable, match="has no Landlock"):
        landlock.confine()


def test_whom_an_address_takes() -> None:
    where = Where(("x",), "https", ("10.0.0.0/8", "2001:db8::/32"))
    assert all(where.takes(one) for one in ("127.0.0.1", "::1", "10.9.9.9", "2001:db8::5"))
    assert not any(where.takes(one) for one in ("11.0.0.1", "x", ""))
