"""Hosts of their own, the runbooks word for word: what goes wrong is mended, and all end with the model.

Coordinator and institutions each have a network namespace, users, sudo, a service manager and the installed
program. Sessions go one after another: one institution says no and is persuaded; one has a typo in a class
name; the disk of one is full for a while. After each, all have the same model of all completed rounds, and
the audit of all logs says VERIFIED.
"""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.process.exit_status import ExitStatus
from tests.deploy import machine, networks
from tests.deploy.hosts import Federation, Host, federation, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

DISK_MB = 32
FIRST_ROUNDS, SECOND_ROUNDS = 6, 12
FULL_AFTER, EMPTIED_AT = 3, 5
"""The disk fills up once the one round is completed, and is emptied when the other one is to begin."""
MANY_ROUNDS, LONGER = 40, 60
"""Where rounds go on meanwhile there must be enough of them, and each must take a while: steps of a round."""


def made(folder: Path, institutions: int) -> AbstractContextManager[Federation]:
    reason = machine.why_not() or networks.why_not()
    if reason is not None:
        pytest.skip(reason)
    deal_dataset("digits", institutions, 0, None, lambda name: folder / "images" / name)
    return federation(folder, sorted((folder / "images").iterdir()), DISK_MB)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three institutions: no round can take place without one of them, and a session waits."""
    with made(tmp_path_factory.mktemp("hosts"), 3) as hosts:
        yield hosts


@pytest.fixture
def more_hosts(tmp_path: Path) -> Iterator[Federation]:
    """Four: a session goes on without one."""
    with made(tmp_path / "hosts", 4) as hosts:
        yield hosts


def hears(hosts: Federation, host: Host, reason: str) -> None:
    """Wait until the coordinator has been told that somebody is out."""

    def heard() -> bool:
        return {"name": host.name, "reason": reason} in hosts.coordinator.bodies("left")

    until(heard, f"the coordinator hears of {host.name}")


def serve(hosts: Federation) -> None:
    """Let the institutions' policies agree to sessions, and start their services."""
    for host in hosts.institutions:
        allow = f"sed -i 's/^unattended: .*/unattended: true/' {host.folder}/policy.yaml"
        host.does(f"{allow} && systemctl start fedapt-client")


def mistype(hosts: Federation, host: Host) -> None:
    """Begin with a typo in the name of a class; it is heard of, and does not leave the institution."""
    host.does("mv /srv/images/seven /srv/images/sevn")
    serve(hosts)
    hears(hosts, host, "classes_differ")
    assert "sevn" in host.machine.journal(host.unit)
    assert "sevn" not in hosts.coordinator.machine.journal(hosts.coordinator.unit)


def repair(host: Host, session: str) -> int:
    """Put the name right; return in which round it is first."""
    host.does("mv /srv/images/sevn /srv/images/seven && systemctl restart fedapt-client")
    until(lambda: host.bodies("round_joined", session), "it is back")
    number: int = host.bodies("round_joined", session)[0]["round"]
    return number


def fill(hosts: Federation, host: Host) -> str:
    """Fill its disk, and return what does it. The service ends with 75, and is started again and again."""
    filler = f"{host.folder}/filler"
    host.does(f"dd if=/dev/zero of={filler} bs=4k 2> /dev/null", status=1)
    hears(hosts, host, "no_space")
    until(lambda: host.machine.statuses(host.unit).count(ExitStatus.UNAVAILABLE) >= 2, "it ends twice")
    assert "free disk space" in host.machine.journal(host.unit)
    return filler


def close(hosts: Federation, session: str) -> None:
    """Wait for the end, however long the rounds take: on a busy machine their fixed time is long."""
    for host in hosts.institutions:
        until(
            lambda: host.bodies("session_closed", session),  # noqa: B023
            f"{host.name} ends",
            goes_on=lambda: len(hosts.rounds(session)),
        )
    until(lambda: hosts.coordinator.status()["state"] == "ended", "the session ends")
    for host in hosts.institutions:
        host.does("systemctl stop fedapt-client")
        assert host.machine.statuses(host.unit)[-1] == ExitStatus.TERMINATED


def check(hosts: Federation, session: str, rounds: int, folder: Path) -> None:
    """Everybody has the model of all completed rounds, and the audit verifies everything."""
    told = hosts.coordinator.status()
    assert (told["session"], told["state"], told["completed"]) == (session, "ended", rounds)
    assert len(hosts.rounds(session)) == rounds
    models = set()
    for host in hosts.institutions:
        [mine] = [one for one in host.status()["sessions"] if one["session"] == session]
        assert mine["closed"]
        described = json.loads("\n".join(host.does("institution model --json")))
        assert described["session"] == session
        host.does(f"test -s {host.folder}/models/{session}.safetensors")
        models.add(described["sha256"])
        assert "Traceback" not in host.machine.journal(host.unit)
    assert len(models) == 1
    report = hosts.audit(folder)
    assert report[0] == "VERIFIED"
    verdicts = re.findall(r"^ *(clinic-\d|coordinator) +([A-Z]+) ", "\n".join(report), re.MULTILINE)
    names = [host.name for host in (*hosts.institutions, hosts.coordinator)]
    assert verdicts == [(name, "VERIFIED") for name in names], report


def begin_by_hand(host: Host, approved: str) -> None:
    """Run the command in the background, as docs/deploy.md has it; its exit status goes to a file."""
    command = f"institution run --approve {approved} > ~/run.out 2> ~/run.err; echo $? > ~/run.status"
    host.does(f"rm -f ~/run.status; {{ {command}; }} &")


def ended_by_hand(host: Host) -> bool:
    return host.shell.run("cat ~/run.status")[0] == 0


class TestSessionsThatGoWrongAtFirst:
    def test_one_says_no_is_persuaded_and_all_train(self, hosts: Federation, tmp_path: Path) -> None:
        session = hosts.begin(FIRST_ROUNDS)
        # What is left of "Set up": the service starts, and ends at a session that nobody has approved.
        for host in hosts.institutions:
            host.follow()
        for host in hosts.institutions:
            until(lambda: host.machine.statuses(host.unit), "the service ends")  # noqa: B023
            assert host.machine.statuses(host.unit) == [ExitStatus.BAD_INPUT], "a person must put it right"
        [approved] = [body["configuration"] for body in hosts.coordinator.bodies("session_started", session)]
        assert all(f"--approve {approved}" in host.machine.journal(host.unit) for host in hosts.institutions)

        *willing, other = hosts.institutions
        for host in willing:
            begin_by_hand(host, approved)
        no = "printf 'n\\n' | SHELL=/bin/bash script --quiet --return --command 'institution run' /dev/null"
        said = "\n".join(other.does(f"export -f institution; {no}", status=ExitStatus.BAD_INPUT))
        assert "Does this institution take part?" in said
        assert "do not take part in the session" in said
        hears(hosts, other, "not_approved")
        shown = "\n".join(hosts.coordinator.does("coordinator status"))
        assert f"{other.name}: its people have not agreed to the session" in shown
        until(
            lambda: {host.name for host in willing} <= set(hosts.coordinator.status()["connected"]),
            "the others are there and wait",
        )
        assert hosts.rounds(session) == []

        begin_by_hand(other, approved)
        for host in hosts.institutions:
            until(lambda: ended_by_hand(host), f"{host.name} ends")  # noqa: B023
            assert host.does("cat ~/run.status") == ["0"], host.does("cat ~/run.err")
            model = f"{host.folder}/models/{session}.safetensors"
            assert f"session {session} has ended; the finished model: {model}" in host.does("cat ~/run.out")
        for host in hosts.institutions:
            [mine] = host.status()["sessions"]
            assert (mine["rounds_completed"], mine["closed"]) == (FIRST_ROUNDS, True)
        check(hosts, session, FIRST_ROUNDS, tmp_path)

    def test_a_typo_and_a_full_disk_are_mended_and_all_train(self, hosts: Federation, tmp_path: Path) -> None:
        session = hosts.begin(SECOND_ROUNDS)
        first, typo, full = hosts.institutions
        before = first.machine.statuses(first.unit)
        mistype(hosts, typo)
        assert hosts.rounds(session) == [], "it is waited for"
        assert repair(typo, session) == 1

        until(lambda: len(hosts.rounds(session)) >= FULL_AFTER, "some rounds")
        filler = fill(hosts, full)
        assert FULL_AFTER <= hosts.coordinator.status()["round"] <= EMPTIED_AT
        assert first.machine.statuses(first.unit) == before, "the others wait"
        full.does(f"rm {filler}")

        close(hosts, session)
        # The round in which the disk was full is lost where the others' updates had left: none leaves twice.
        completed = len(hosts.rounds(session))
        assert completed in (SECOND_ROUNDS - 1, SECOND_ROUNDS)
        check(hosts, session, completed, tmp_path)

    def test_of_four_three_go_on_without_the_one(self, more_hosts: Federation, tmp_path: Path) -> None:
        hosts, audited = more_hosts, tmp_path / "audited"
        audited.mkdir()
        session = hosts.begin(MANY_ROUNDS, local_steps=LONGER)
        typo, full = hosts.institutions[1], hosts.institutions[-1]
        mistype(hosts, typo)
        until(lambda: hosts.rounds(session), "the others begin")
        assert typo.name not in hosts.rounds(session)[0]["contributors"]
        assert 1 < repair(typo, session) < MANY_ROUNDS

        filler = fill(hosts, full)
        done = len(hosts.rounds(session))
        until(lambda: len(hosts.rounds(session)) > done, "the others go on")
        assert full.name not in hosts.rounds(session)[-1]["contributors"]
        full.does(f"rm {filler}")
        until(
            lambda: full.name in hosts.rounds(session)[-1]["contributors"],
            "it is in a round again",
            goes_on=lambda: len(hosts.rounds(session)),
        )

        close(hosts, session)
        completed = len(hosts.rounds(session))
        assert completed in (MANY_ROUNDS - 1, MANY_ROUNDS)
        check(hosts, session, completed, audited)
