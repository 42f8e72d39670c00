"""Wrong clocks, with real processes: nothing useless is certified, and people hear whose clock it is."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fedapt_client.membership import rosters
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.transport import server_context
from tests.support import warm
from tests.support.issuing import certify
from tests.support.offices import HOST, Office, free_port, run
from tests.support.other_clock import COMMAND, environment, fedapt, needs_faketime

pytestmark = [pytest.mark.integration, needs_faketime, pytest.mark.timeout(300)]

AHEAD = 400
REPAIR = "run 'fedapt-secure server renew --clock-is-right'"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    settings = office.folder.path / "server.yaml"
    settings.write_text(settings.read_text().replace("# health_port: 9090", f"health_port: {free_port()}"))
    return office


def server(office: Office, command: str, *arguments: str, days: float = 0):
    return fedapt("server", command, *arguments, "--dir", str(office.folder.path), days=days)


@contextmanager
def serving(office: Office, command: str = "run", *, days: float = 0) -> Iterator[None]:
    """The coordinator's process, from when it listens."""
    begun = {"run": "listening for rounds", "enroll": "enrolment_listening"}[command]
    process = subprocess.Popen(
        [*COMMAND, "server", command, "--dir", str(office.folder.path)],
        env=environment(days), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    try:
        while begun not in said:
            line = process.stderr.readline()
            assert line, f"ended with {process.wait()}: {said}"
            said += line
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def run_once(office: Office) -> None:
    """So that there is a log with a line of today."""
    with serving(office):
        pass


def refused(done: "subprocess.CompletedProcess[str]", status: int = 2) -> str:
    """The one line of a command that did not do it."""
    assert done.returncode == status, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "failed: "))]
    assert len(said) == 1, done.stderr
    return said[0]


def state(folder: PartyFolder) -> dict[str, bytes]:
    """What a start that is refused must leave as it is."""
    kept = ("tls.crt", "tls.key", "log.jsonl", "crl.pem")
    return {name: (folder.path / name).read_bytes() for name in kept if (folder.path / name).exists()}


def from_the_future(office: Office) -> None:
    """Give the coordinator the certificate that a wrong clock would once have made."""
    later = datetime.now(UTC) + timedelta(days=AHEAD)
    certify(office.folder.authority(), office.folder, "coordinator", server_addresses=(HOST,), now=later)


class TestTheCoordinator:
    def test_a_second_start_under_a_clock_ahead_changes_nothing(self, office: Office) -> None:
        with serving(office):
            before = state(office.folder)
            assert "in use by another process" in refused(server(office, "run", days=AHEAD))
            assert state(office.folder) == before

    @pytest.mark.slow  # processes under another clock
    def test_a_start_under_a_clock_ahead_changes_nothing_and_says_what_to_do(self, office: Office) -> None:
        run_once(office)
        before = state(office.folder)
        for command in ("run", "renew"):
            said = refused(server(office, command, days=AHEAD))
            assert f"{AHEAD} days after the log's last line" in said
            assert REPAIR in said
            assert "timedatectl set-ntp true" in said
            assert state(office.folder) == before
        run_once(office)

    def test_enrolment_alone_is_as_careful(self, office: Office) -> None:
        before = state(office.folder)
        said = refused(server(office, "enroll", "--for", "1m", days=AHEAD))
        assert f"{AHEAD} days after the beginning of the certificate in use" in said
        assert state(office.folder) == before

    def test_a_clock_that_has_gone_back_renews_nothing(self, office: Office) -> None:
        run_once(office)
        before = state(office.folder)
        said = refused(server(office, "run", days=-AHEAD))
        assert "is valid only from" in said
        assert f"{AHEAD} days before" in refused(server(office, "renew", days=-AHEAD))
        assert state(office.folder) == before

    @pytest.mark.slow  # processes under another clock
    def test_a_year_of_rest_is_one_command(self, office: Office) -> None:
        run_once(office)
        assert server(office, "renew", "--clock-is-right", days=AHEAD).returncode == 0
        with serving(office, days=AHEAD):
            pass

    @pytest.mark.slow  # processes under another clock
    def test_one_from_the_future_is_not_served_and_can_be_repaired(self, office: Office) -> None:
        run_once(office)
        from_the_future(office)
        for command in ("run", "enroll"):
            said = refused(server(office, command))
            assert "is valid only from" in said
            assert "no institution would accept it" in said
            assert REPAIR in said
        assert server(office, "renew", "--clock-is-right").returncode == 0
        assert office.folder.certificate().valid(datetime.now(UTC))
        run_once(office)

    def test_a_clock_that_is_a_little_ahead_makes_nothing_that_begins_later(self, office: Office) -> None:
        run_once(office)
        for days in (20, -1):
            assert server(office, "renew", days=days).returncode == (0 if days > 0 else 2)
        assert office.folder.certificate().valid(datetime.now(UTC))

    def test_nothing_is_signed_under_a_clock_ahead(self, office: Office, tmp_path: Path) -> None:
        request, answer, folder = tmp_path / "request", tmp_path / "answer", office.institution()
        options = ("--request", str(request), "--dir", str(folder.path))
        done = fedapt("client", "csr", "-", *options, given=office.invite(days=30).to_text())
        assert done.returncode == 0, done.stderr
        said = refused(server(office, "sign", str(request), "--answer", str(answer), days=AHEAD))
        assert "nothing was signed: the coordinator's own certificate is valid from" in said
        assert not answer.exists()
        # A clock that its own certificate does not contradict: the institution's does.
        install = ("client", "install-cert", str(answer), "--dir", str(folder.path))
        assert server(office, "sign", str(request), "--answer", str(answer), days=6).returncode == 0
        before = state(folder)
        said = refused(fedapt(*install))
        assert "is valid only from" in said
        assert "was not installed" in said
        assert state(folder) == before
        assert server(office, "sign", str(request), "--answer", str(answer)).returncode == 0
        done = fedapt(*install)
        assert done.returncode == 0, done.stderr
        assert folder.certificate().valid(datetime.now(UTC))


@pytest.fixture
def member(office: Office) -> PartyFolder:
    """An enrolled institution whose log has a line of today."""
    folder = office.enrol()
    rosters.approve(folder, office.roster())
    return folder


def client(folder: PartyFolder, *command: str, days: float = 0) -> "subprocess.CompletedProcess[str]":
    return fedapt("client", *command, "--dir", str(folder.path), days=days)


def findings(folder: PartyFolder, *checks: str, days: float = 0) -> list[str]:
    lines = client(folder, "doctor", days=days).stdout.splitlines()
    return [line for check in checks for line in lines if line.split(maxsplit=1)[1].startswith(check)]


class TestAnInstitution:
    @pytest.mark.slow  # many processes under another clock
    @pytest.mark.parametrize("days", [AHEAD, -AHEAD])
    def test_its_own_clock_is_named(self, office: Office, member: PartyFolder, days: int) -> None:
        where = "after" if days > 0 else "before"
        with serving(office):
            for command in (("roster", "show"), ("renew",), ("run",)):
                said = refused(client(member, *command, days=days))
                assert "this machine's clock is wrong" in said
                assert f"{AHEAD} days {where} the coordinator's clock" in said
            assert not (member.path / "log.jsonl").exists(), "or its lines would bear that time"
            found = findings(member, "clock", "enrolment port", days=days)
            assert len(found) == 2
            for said in found:
                assert said.startswith("wrong")
                assert "this machine's clock is wrong" in said
            assert client(member, "roster", "show").returncode == 0

    def test_a_certificate_of_the_coordinator_from_the_future_is_not_laid_on_it(
        self, office: Office, member: PartyFolder
    ) -> None:
        from_the_future(office)

        async def story() -> None:
            rounds = serve(quiet, HOST, office.settings.port, ssl=server_context(office.folder))
            async with office.serving(), rounds:  # as a coordinator does that does not look
                said = await asyncio.to_thread(lambda: refused(client(member, "roster", "show"), 1))
                assert "its clock was wrong when the certificate was made" in said
                assert REPAIR in said
                checks = ("clock", "enrolment port", "rounds port")
                clock, *ports = await asyncio.to_thread(findings, member, *checks)
                assert clock.startswith("ok")
                assert len(ports) == 2
                assert all("its clock was wrong when the certificate was made" in port for port in ports)
                said = await asyncio.to_thread(first_trouble, member)
                assert "its clock was wrong when the certificate was made" in said

        run(story())

    @pytest.mark.slow  # processes under another clock
    def test_what_a_coordinator_ahead_certifies_is_not_installed(self, office: Office) -> None:
        join, folder = office.invite(days=30).to_text(), office.institution()
        enroll = ("client", "enroll", "-", "--dir", str(folder.path))
        with serving(office, "enroll", days=5):
            said = refused(fedapt(*enroll, given=join))
            assert "is valid only from" in said
            assert "was not installed" in said
            assert not folder.certificate_file.exists()
        with serving(office, "enroll"):
            done = fedapt(*enroll, given=join)
            assert done.returncode == 0, done.stderr
            before = state(folder)
        with serving(office, "enroll", days=5):
            said = refused(client(folder, "renew"))
            assert "5 days after this one's: compare both with a third one" in said
            assert state(folder) == before
        with serving(office, "enroll"):
            assert client(folder, "renew").returncode == 0
        assert folder.certificate().valid(datetime.now(UTC))


async def quiet(connection: ServerConnection) -> None:
    await connection.wait_closed()


def first_trouble(folder: PartyFolder) -> str:
    """What ``client run`` says first of a coordinator that it does not get through to."""
    process = subprocess.Popen(
        [*warm.program(), "client", "run", "--dir", str(folder.path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        return next(line for line in process.stderr if "the coordinator is away" in line)
    finally:
        process.kill()
        process.communicate()
