"""Enrolment as people do it: the real command, in processes of its own, from founding to revocation."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedapt_secure.cli.app import run
from fedapt_secure.process.exit_status import ExitStatus
from tests.support.people import COMMAND, Desk, at_their_desks

pytestmark = pytest.mark.integration
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def people(tmp_path: Path) -> Desk:
    return at_their_desks(tmp_path)


def test_the_whole_story(people: Desk) -> None:
    with people.serving() as server:
        # Three institutions; two share a domain. The fingerprints on both sides are the same.
        for name, domain in (("clinic-1", "ink"), ("clinic-2", "chalk"), ("clinic-3", "ink")):
            said = people.run("client", "enroll", people.join_string(name, domain), "--dir", name)
            known = {m["name"]: m for m in people.json("server", "roster", "--dir", "coordinator")["members"]}
            assert f"own fingerprint          {known[name]['fingerprint']}" in said
            assert known[name]["domain"] == domain
        coordinator = people.json("server", "roster", "--dir", "coordinator")
        assert f"coordinator fingerprint  {coordinator['coordinator_fingerprint']}" in said
        assert coordinator["domains"] == ["ink", "chalk"]

        # Approval: asked for with the right fingerprint only; all hold the same roster.
        shown = people.json("client", "roster", "show", "--dir", "clinic-1")
        assert shown["roster_fingerprint"] == coordinator["roster_fingerprint"]
        assert not shown["approved"]
        refused = people.run(
            "client", "roster", "approve", "--dir", "clinic-1", "--fingerprint", "0000", status=2
        )
        assert "not approved: the current roster has the fingerprint" in refused
        assert "nobody can be asked" in people.run(
            "client", "roster", "approve", "--dir", "clinic-1", status=2
        )
        for name in ("clinic-1", "clinic-2", "clinic-3"):
            people.approve(name)
        rosters = {
            (people.path / name / "roster.json").read_bytes()
            for name in ("clinic-1", "clinic-2", "coordinator")
        }
        assert len(rosters) == 1

        # Renewal with the current certificate.
        before = (people.path / "clinic-1" / "tls.crt").read_bytes()
        assert "not due" in people.run("client", "renew", "--if-due", "--dir", "clinic-1")
        assert "certificate renewed" in people.run("client", "renew", "--dir", "clinic-1")
        assert (people.path / "clinic-1" / "tls.crt").read_bytes() != before

        # Revocation: without a restart, and the others see what changed.
        people.run("server", "revoke", "clinic-2", "--reason", "left", "--dir", "coordinator")
        assert "revoked" in people.run("client", "roster", "show", "--dir", "clinic-2", status=1)
        assert "revoked" in people.run("client", "renew", "--dir", "clinic-2", status=1)
        shown = people.json("client", "roster", "show", "--dir", "clinic-1")
        assert shown["changes"] == [{"name": "clinic-2", "what": "left"}]
        assert not shown["approved"]
        people.approve("clinic-1")
        table = people.run("server", "roster", "--dir", "coordinator")
        assert "revoked" in table
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


def test_without_a_connection(people: Desk) -> None:
    join = people.join_string("clinic-1", "ink")
    people.run("client", "csr", "-", "--dir", "clinic-1", text=join)
    signed = people.run("server", "sign", "clinic-1.request", "--dir", "coordinator")
    said = people.run(
        "client", "install-cert", "clinic-1.answer", "--dir", "clinic-1", "--data", "/srv/images"
    )
    fingerprints = re.findall(r"fingerprint +([0-9a-f ]+)$", signed, re.M)
    assert len(fingerprints) == 2
    assert all(fingerprint in said for fingerprint in fingerprints)
    people.run("server", "roster", "--dir", "coordinator", "--export", "roster.txt")
    shown = people.json("client", "roster", "show", "--dir", "clinic-1", "--file", "roster.txt")
    people.run(
        "client", "roster", "approve", "--dir", "clinic-1", "--file", "roster.txt",
        "--fingerprint", shown["roster_fingerprint"],
    )  # fmt: skip
    # The certificate is renewed on paper too; an answer counts once.
    people.run("client", "csr", "--dir", "clinic-1", "--request", "again.request")
    people.run("server", "sign", "again.request", "--dir", "coordinator", "--answer", "again.answer")
    people.run("client", "install-cert", "again.answer", "--dir", "clinic-1")
    assert "waits for no answer" in people.run(
        "client", "install-cert", "again.answer", "--dir", "clinic-1", status=2
    )


@pytest.mark.slow
def test_under_a_passphrase(people: Desk) -> None:
    secret, other = people.path / "passphrase", people.path / "other"
    secret.write_text(PASSPHRASE + "\n")
    other.write_text("another good passphrase\n")
    for path in (secret, other):
        path.chmod(0o600)
    people.run("server", "passwd", "--dir", "coordinator", "--new-passphrase-file", secret)
    assert b"ENCRYPTED" in (people.path / "coordinator" / "ca.key").read_bytes()
    refused = people.run("server", "invite", "clinic-1", "--domain", "ink", "--dir", "coordinator", status=2)
    assert "is protected by a passphrase: give it in FEDAPT_PASSPHRASE" in refused
    join = people.join_string("clinic-1", "ink", "--passphrase-file", str(secret))
    wrong = people.run(
        "server",
        "invite",
        "x",
        "--domain",
        "ink",
        "--dir",
        "coordinator",
        "--passphrase-file",
        other,
        status=2,
    )
    assert "the passphrase is wrong" in wrong
    with people.serving("--passphrase-file", str(secret)):
        people.environment["FEDAPT_PASSPHRASE"] = PASSPHRASE  # from here on by the environment
        people.run("client", "enroll", join, "--dir", "clinic-1")
        assert len((people.path / "clinic-1" / "identity.key").read_bytes()) > 32
        people.run("client", "renew", "--dir", "clinic-1")
        people.approve("clinic-1")
    people.run("client", "passwd", "--dir", "clinic-1", "--new-passphrase-file", other)
    del people.environment["FEDAPT_PASSPHRASE"]
    people.run("client", "passwd", "--dir", "clinic-1", "--passphrase-file", other, "--remove")
    assert len((people.path / "clinic-1" / "identity.key").read_bytes()) == 32
    for path in people.path.rglob("*"):
        if path.is_file() and path not in (secret, other):
            assert PASSPHRASE.encode() not in path.read_bytes()


@pytest.mark.slow  # many processes
def test_killed_while_it_enrols_the_command_is_run_again(people: Desk) -> None:
    """Kill the institution at random moments of its enrolment; the same command finishes it."""
    join = people.join_string("clinic-1", "ink")
    arguments = [*COMMAND, "client", "enroll", join, "--dir", "clinic-1"]
    with people.serving():
        for pause in (0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3):
            process = subprocess.Popen(
                arguments,
                cwd=people.path,
                env=people.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(pause)
            process.kill()
            process.wait()
        said = people.run("client", "enroll", join, "--dir", "clinic-1")
    [member] = people.json("server", "roster", "--dir", "coordinator")["members"]
    assert member["fingerprint"] in said


def test_the_coordinator_is_killed_and_started_again(people: Desk) -> None:
    join = people.join_string("clinic-1", "ink")
    with people.serving() as server:
        people.run("client", "enroll", join, "--dir", "clinic-1")
        server.kill()
        server.wait()
    assert "nothing listens there" in people.run("client", "roster", "show", "--dir", "clinic-1", status=1)
    with people.serving("--once") as server:
        people.approve("clinic-1")
        people.run("client", "enroll", people.join_string("clinic-2", "ink"), "--dir", "clinic-2")
        assert server.wait(20) == 0  # after one


INVITE = ("server", "invite", "x", "--dir", "coordinator")
MISTAKES = [
    (("server", "init", "--dir", "coordinator"), "is a coordinator's folder already; nothing was changed"),
    (("server", "init", "--dir", "new", "--port", "0x50"), "--port"),
    (("server", "init", "--dir", "new", "--address", "bad address"), "--addresses"),
    (("server", "invite", "bad name", "--domain", "ink", "--dir", "coordinator"), "cannot be a name"),
    ((*INVITE, "--domain", ""), "--domain"),
    ((*INVITE, "--domain", "ink", "--expires", "soon"), "is not a duration"),
    ((*INVITE, "--domain", "ink", "--expires", "99w"), "at most 90 days"),
    (("server", "invite", "coordinator", "--domain", "ink", "--dir", "coordinator"), "own name"),
    (("server", "invite", "x", "--domain", "ink"), "is not a coordinator's folder"),
    (("server", "revoke", "nobody", "--dir", "coordinator"), "nobody named 'nobody'"),
    (("server", "sign", "nothing", "--dir", "coordinator"), "nothing: No such file"),
    (("server", "sign", "coordinator/server.yaml", "--dir", "coordinator"), "expected one block"),
    (("server", "roster", "--dir", "coordinator", "--export", "roster.txt"), "there is no roster yet"),
    (("server", "enroll", "--for", "never", "--dir", "coordinator"), "is not a duration"),
    (("server", "passwd", "--dir", "coordinator"), "nobody can be asked"),
    (("client", "enroll", "rubbish"), "not a join string"),
    (("client", "enroll", "fedapt1-AAAA"), "incomplete or mistyped"),
    (("client", "csr",), "is not an enrolled institution's folder"),
    (("client", "install-cert", "nothing"), "nothing: No such file"),
    (("client", "renew"), "is not an enrolled institution's folder"),
    (("client", "roster", "show"), "is not an enrolled institution's folder"),
    (("client", "passwd", "--remove"), "holds no keys"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    arguments: tuple[str, ...],
    said: str,
    people: Desk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(people.path)
    monkeypatch.delenv("FEDAPT_PASSPHRASE", raising=False)
    before = {
        path: path.read_bytes()
        for path in people.path.rglob("*")
        if path.is_file() and path.suffix != ".sqlite"
    }
    assert run(arguments) == ExitStatus.BAD_INPUT
    out, err = capsys.readouterr()
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    for path, content in before.items():
        assert path.read_bytes() == content


@pytest.mark.parametrize("file", ["identity.key", "ca.key", "membership.sqlite"])
def test_wrong_permissions_are_refused_with_the_fix(people: Desk, file: str) -> None:
    path = people.path / "coordinator" / file
    path.chmod(0o644)
    refused = people.run("server", "invite", "clinic-1", "--domain", "ink", "--dir", "coordinator", status=2)
    assert f"run 'chmod 600 coordinator/{file}'" in refused
    path.chmod(0o600)
    people.join_string("clinic-1", "ink")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("server", "--help"), ("client", "--help"), ("client", "doctor", "--help")]
)
def test_help_is_quick_and_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        f"import sys; from fedapt_secure.cli.app import run; status = run({list(arguments)!r})\n"
        "heavy = ('torch', 'cryptography', 'websockets', 'numpy', 'sqlite3', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules], status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[] 0"
