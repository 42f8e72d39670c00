"""A coordinator that shows another key for a member who is not there: it is not approved, nor run with.

Each attack is also tried with the check taken out, where it must succeed: what refuses it is that check.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fedapt_client.membership import rosters
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_secure.cli.app import run as command
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_server.membership.registrar import MEMBERSHIP_FILE
from tests.support.offices import Office

MEMBERS = ("clinic-1", "clinic-2", "clinic-3")
ABSENT = "clinic-3"
THIEF = {"sealing_key": SealingKey.fresh().public_key, "identity_key": Identity.generate().public_key}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    for name in MEMBERS:
        office.enrol(name)
    return office


def swapped(office: Office, column: str) -> e.RosterFile:
    """What the coordinator's own program signs and publishes once its records have another key."""
    with closing(sqlite3.connect(office.folder.path / MEMBERSHIP_FILE)) as records, records:
        records.execute(f"UPDATE members SET {column} = ? WHERE name = ?", (THIEF[column], ABSENT))
        records.execute("INSERT INTO revisions SELECT max(revision) + 1, 0, '', NULL FROM revisions")
    signed = office.reopened().roster_file()
    assert signed is not None
    assert getattr(signed.content.member(ABSENT), column) == THIEF[column]
    return signed


def approve(folder: PartyFolder, offered: e.RosterFile, path: Path) -> ExitStatus:
    """``client roster approve``, with the fingerprint that the coordinator's victims would compare."""
    path.write_bytes(e.to_file(offered))
    fingerprint = rosters.roster_fingerprint(offered.content)
    arguments = ["client", "roster", "approve", "--dir", str(folder.path), "--file", str(path)]
    return command([*arguments, "--fingerprint", fingerprint])


@pytest.fixture
def without_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the check of entries out, until the test says `monkeypatch.undo`."""
    return lambda: monkeypatch.setattr(Roster, "check_entries", lambda roster: None)


@pytest.mark.parametrize("column", THIEF)
class TestApproval:
    def test_it_is_refused_while_its_victim_is_away(
        self, office: Office, column: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = office.institution("clinic-1")
        rosters.approve(folder, office.roster())
        before = folder.roster_file.read_bytes(), (folder.path / rosters.APPROVED_FILE).read_bytes()
        assert approve(folder, swapped(office, column), tmp_path / "roster.txt") == ExitStatus.FAILED
        said = capfd.readouterr().err.strip()
        assert said == (
            "failed: clinic-3: its roster entry is not signed by itself: the keys in it may be somebody"
            " else's; do not go on, and tell the other institutions"
        )
        assert before == (folder.roster_file.read_bytes(), (folder.path / rosters.APPROVED_FILE).read_bytes())

    def test_also_as_the_first_that_is_ever_shown(self, office: Office, column: str, tmp_path: Path) -> None:
        folder = office.institution("clinic-2")
        assert approve(folder, swapped(office, column), tmp_path / "roster.txt") == ExitStatus.FAILED
        assert not folder.roster_file.exists()

    def test_without_the_check_it_would_be_in_use(
        self, office: Office, column: str, tmp_path: Path, without_check: Callable[[], None]
    ) -> None:
        folder = office.institution("clinic-1")
        without_check()
        assert approve(folder, swapped(office, column), tmp_path / "roster.txt") == ExitStatus.DONE
        assert getattr(folder.roster().member(ABSENT), column) == THIEF[column]


@pytest.mark.parametrize("column", THIEF)
def test_a_session_does_not_begin_with_it(
    office: Office,
    column: str,
    tmp_path: Path,
    without_check: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """However it came to be the approved one: ``client run`` ends in one line that says what to do."""
    folder = office.institution("clinic-1")
    without_check()
    approve(folder, swapped(office, column), tmp_path / "roster.txt")
    monkeypatch.undo()
    (folder.path / "policy.yaml").write_text("max_epsilon: 8\n")
    (tmp_path / "images").mkdir()
    capfd.readouterr()
    arguments = ["client", "run", "--dir", str(folder.path), "--data", str(tmp_path / "images"), "--json"]
    assert command(arguments) == ExitStatus.BAD_INPUT
    assert capfd.readouterr().err.strip() == (
        f"error: {folder.roster_file} cannot be relied on: clinic-3: its roster entry is not signed by"
        " itself: the keys in it may be somebody else's; get it again, compare its fingerprint with what the"
        " others read out, and approve it"
    )
