"""A folder from before members signed their entries: it says what to do, and doing it is enough."""

from pathlib import Path

import pytest

from fedapt_client.membership import rosters
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity, fingerprint
from fedapt_crypto.seal import SealingKey
from fedapt_secure.cli.app import run as command
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.joining import enrolment as e
from tests.support.offices import Office
from tests.support.rosters import changed, former_encoding, former_json

KEYS = {"identity_key": Identity.generate().public_key, "sealing_key": SealingKey.fresh().public_key}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    for name, domain in (("clinic-1", "ink"), ("clinic-2", "ink"), ("clinic-3", "chalk")):
        office.enrol(name, domain)
    return office


def with_former_roster(office: Office, **keys: bytes) -> PartyFolder:
    """The folder of clinic-1 with the roster that it approved then; ``keys`` are those clinic-2 had."""
    folder = office.institution("clinic-1")
    offered = office.roster()
    former = changed(offered.content, "clinic-2", **keys)
    file = offered.model_copy(update={"revision": 1, "roster": former_encoding(former)})
    (folder.path / rosters.APPROVED_FILE).write_bytes(e.to_file(e.signed(office.folder.identity(), file)))
    folder.roster_file.write_text(former_json(former))
    for path in (folder.roster_file, folder.path / rosters.APPROVED_FILE):
        path.chmod(0o600)
    return folder


def said(folder: PartyFolder, office: Office) -> list[str]:
    return [f"{one.name} {one.what}" for one in rosters.changes(rosters.approved(folder), office.roster())]


@pytest.mark.parametrize("arguments", [["status"], ["run"], ["run", "--json"]], ids=" ".join)
def test_commands_that_need_it_end_in_one_line(
    office: Office, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = with_former_roster(office)
    (folder.path / "policy.yaml").write_text("max_epsilon: 8\n")
    (folder.path / "images").mkdir()
    data = ["--data", str(folder.path / "images")] if arguments[0] == "run" else []
    assert command(["client", *arguments, *data, "--dir", str(folder.path)]) == ExitStatus.BAD_INPUT
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line == (
        f"error: {folder.roster_file} is from before members signed their entries: at each institution run"
        " 'fedapt-secure client renew', then 'fedapt-secure client roster show' and approve the new one"
    )


def test_showing_and_approving_the_new_one_works(office: Office, tmp_path: Path) -> None:
    folder, path = with_former_roster(office), tmp_path / "roster.txt"
    path.write_bytes(e.to_file(office.roster()))
    assert not rosters.is_approved(folder, office.roster())
    arguments = ["--dir", str(folder.path), "--file", str(path)]
    assert command(["client", "roster", "show", *arguments]) == ExitStatus.DONE
    actual = rosters.roster_fingerprint(office.roster().content)
    assert command(["client", "roster", "approve", *arguments, "--fingerprint", actual]) == ExitStatus.DONE
    assert folder.roster() == office.roster().content
    assert rosters.is_approved(folder, office.roster())
    assert said(folder, office) == []


def test_what_changed_is_said_against_the_former_one(office: Office) -> None:
    signed = [f"clinic-{i} has signed its entry" for i in (1, 2, 3)]
    assert said(with_former_roster(office), office) == signed
    office.registrar.revoke("clinic-3", "")
    assert said(with_former_roster(office), office) == signed[:2]
    office.enrol("clinic-4", "chalk")
    assert said(with_former_roster(office), office)[:2] == signed[:2]


def test_other_keys_under_the_same_name_are_not_hidden_by_the_change(office: Office) -> None:
    """Whoever may swap keys has its best chance when all entries change: people are told all the same."""
    assert said(with_former_roster(office, **KEYS), office) == [
        "clinic-1 has signed its entry",
        f"clinic-2 has another identity key (was {fingerprint(KEYS['identity_key'])})",
        "clinic-2 has another sealing key",
        "clinic-2 has signed its entry",
        "clinic-3 has signed its entry",
    ]


def test_who_is_not_on_it_is_told_to_renew(office: Office) -> None:
    """As one that has not renewed sees it when others have, and the roster came as a file."""
    folder = with_former_roster(office)
    offered = office.roster()
    others = offered.content.only(("clinic-2", "clinic-3"))
    file = e.signed(office.folder.identity(), offered.model_copy(update={"roster": others.to_bytes()}))
    with pytest.raises(InvalidInput, match="run 'fedapt-secure client renew' if it enrolled before members"):
        rosters.check(folder, file)


def test_an_approved_one_that_was_edited_can_be_replaced(office: Office) -> None:
    folder = office.institution("clinic-1")
    rosters.approve(folder, office.roster())
    folder.roster_file.write_text(folder.roster_file.read_text().replace("clinic-2", "clinic-9"))
    with pytest.raises(InvalidInput, match="was edited; get it again and approve it"):
        folder.roster()
    assert not rosters.is_approved(folder, office.roster())
    rosters.approve(folder, office.roster())
    assert folder.roster() == office.roster().content
