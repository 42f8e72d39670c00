"""The revocation list in use: newest good one, read again when it changes, never a worse one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedapt_crypto.errors import CertificateRefused, InvalidInput
from fedapt_crypto.pki import CertificateAuthority, Revocation
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.protocol.joining.revocation import Revocations

NOW = datetime(2026, 3, 1, tzinfo=UTC)
AUTHORITY = CertificateAuthority.create("test")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "crl.pem", 0)
    return tmp_path / "crl.pem"


def write(path: Path, number: int, *serials: int, by: CertificateAuthority = AUTHORITY) -> None:
    write_atomically(path, by.revocation_list([Revocation(serial, NOW) for serial in serials], number))


def opened(path: Path) -> Revocations:
    return Revocations(path, AUTHORITY.certificate_pem)


def test_a_change_takes_effect_at_the_next_look(path: Path) -> None:
    revocations = opened(path)
    revocations.check(7, "clinic-1", pytest.fail)
    write(path, 1, 7)
    with pytest.raises(CertificateRefused, match=r"clinic-1: this certificate was revoked: ask"):
        revocations.check(7, "clinic-1", pytest.fail)
    revocations.check(8, "clinic-2", pytest.fail)
    write(path, 2, 7, 8)
    assert revocations.refresh() == {8}
    assert revocations.refresh() == frozenset()
    assert revocations.serials == {7, 8}


@pytest.mark.parametrize("harm", ["rubbish", "another authority", "older", "readable by others", "gone"])
def test_a_worse_one_does_not_replace_the_one_in_use(path: Path, harm: str) -> None:
    write(path, 3, 7)
    revocations = opened(path)
    match harm:
        case "rubbish":
            path.write_bytes(b"rubbish")
        case "another authority":
            write(path, 4, by=CertificateAuthority.create("test"))
        case "older":
            write(path, 2)
        case "readable by others":
            write(path, 4)
            path.chmod(0o644)
        case "gone":
            path.unlink()
    with pytest.raises(InvalidInput, match=str(path)):
        revocations.refresh()
    assert revocations.refresh() == frozenset()  # said once
    assert revocations.serials == {7}
    with pytest.raises(CertificateRefused):
        revocations.check(7, "clinic-1", pytest.fail)
    write(path, 4, 7, 9)
    assert revocations.refresh() == {9}


def test_without_a_good_list_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        opened(tmp_path / "crl.pem")
    write(tmp_path / "crl.pem", 1, by=CertificateAuthority.create("test"))
    with pytest.raises(InvalidInput, match="not signed by this federation's authority"):
        opened(tmp_path / "crl.pem")
