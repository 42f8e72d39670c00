"""What a database file says where the machine lacks something: a full disk is one, whatever SQLite says."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedapt_crypto.errors import Unavailable
from fedapt_secure.config.database import Database, unusable
from fedapt_secure.protocol.reasons import Reason, reason_of
from tests.support.disks import SmallDisk, small_disk

SCHEMA = "CREATE TABLE IF NOT EXISTS one (number INTEGER)"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "mounted", 1) as disk:
        yield disk


def test_a_full_disk_is_no_broken_one_where_sqlite_says_so(disk: SmallDisk) -> None:
    database = Database(disk.path / "one.sqlite", SCHEMA, "the file")
    disk.fill()
    with pytest.raises(Unavailable, match="free disk space") as refused, database.transaction() as connection:
        connection.execute("INSERT INTO one VALUES (1)")
    assert reason_of(refused.value) is Reason.NO_SPACE
    disk.empty()
    with database.transaction() as connection:
        connection.execute("INSERT INTO one VALUES (1)")


def test_a_broken_one_stays_one(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    said = unusable("it cannot be used", tmp_path / "one.sqlite", error)
    assert isinstance(said, Unavailable)
    assert reason_of(said) is Reason.DISK_ERROR
