"""What one user may not open for another goes by standard input and output; and what must not be typed."""

import os
import subprocess
from pathlib import Path

import pytest

from fedapt_client.membership.enrolment import load_federation
from fedapt_secure.protocol.joining import enrolment as e
from tests.support import warm
from tests.support.offices import Office

pytestmark = pytest.mark.integration


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def fedapt(*arguments: str, given: bytes = b"", status: int = 0) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run(
        [*warm.program(), *arguments], input=given, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr.decode()
    return done


def test_requests_answers_and_rosters_go_through_pipes(office: Office, tmp_path: Path) -> None:
    here, there = ("--dir", str(office.folder.path)), ("--dir", str(tmp_path / "clinic-1"))
    join = office.invite().to_text().encode()
    asked = fedapt("client", "csr", "-", "--request", "-", *there, given=join)
    assert b"send it to the coordinator's operator" in asked.stderr
    e.from_file(asked.stdout, e.Request, "output")  # nothing else stands in it
    answered = fedapt("server", "sign", "-", "--answer", "-", *here, given=asked.stdout)
    assert b"'clinic-1' is a member now" in answered.stderr
    installed = fedapt("client", "install-cert", "-", *there, given=answered.stdout)
    assert b"'clinic-1' is enrolled" in installed.stdout
    roster = fedapt("server", "roster", "--export", "-", *here).stdout
    shown = fedapt("client", "roster", "show", "--file", "-", *there, given=roster)
    assert b"not approved yet" in shown.stdout
    renewal = fedapt("client", "csr", "--request", "-", *there).stdout
    answer = fedapt("server", "sign", "-", "--answer", "-", *here, given=renewal).stdout
    fedapt("client", "install-cert", "-", *there, given=answer)
    assert load_federation(office.institution()).name == "clinic-1"


def test_a_join_string_as_an_argument_is_warned_of_and_never_repeated(office: Office, tmp_path: Path) -> None:
    join = office.invite().to_text()
    done = fedapt("client", "csr", join, "--request", "-", "--dir", str(tmp_path / "clinic-1"))
    assert b"can be read by everybody on this machine" in done.stderr
    assert join.encode() not in done.stderr + done.stdout
    done = fedapt(
        "client", "csr", "-", "--request", "-", "--dir", str(tmp_path / "clinic-1"), given=join.encode()
    )
    assert b"warning" not in done.stderr


def test_enrolling_takes_it_from_standard_input_by_itself(tmp_path: Path) -> None:
    done = fedapt("client", "enroll", "--dir", str(tmp_path / "x"), given=b"rubbish", status=2)
    assert b"not a join string: it begins with 'fedapt1-'" in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could do harm")
def test_root_leaves_nothing_in_another_user_s_folder(office: Office) -> None:
    folder = office.enrol()
    before = {path.name for path in folder.path.iterdir()}
    for path in (folder.path, *folder.path.iterdir()):
        os.chown(path, 12_345, 12_345)
    for command in (("status",), ("renew",), ("roster", "show"), ("csr",), ("passwd", "--remove"), ("run",)):
        said = fedapt("client", *command, "--dir", str(folder.path), status=2).stderr.decode()
        assert len(said.splitlines()) == 1
        assert "belongs to the user '#12345'" in said
        assert "run the command as that user" in said
    assert {path.name for path in folder.path.iterdir()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_names_the_way_out(office: Office, tmp_path: Path) -> None:
    office.enrol()
    (tmp_path / "locked").mkdir(mode=0o500)
    target = str(tmp_path / "locked" / "request")
    done = fedapt("client", "csr", "--request", target, "--dir", str(tmp_path / "clinic-1"), status=2)
    assert b"Permission denied; for the user" in done.stderr
    assert b"give - with --request" in done.stderr
