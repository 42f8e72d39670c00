"""The group secret of a session is on record once, whatever comes later."""

import sqlite3
from pathlib import Path

import pytest

from fedapt_client.books import ledger_file
from fedapt_client.books.bindings import Bindings
from fedapt_client.books.ledger_file import LedgerFile
from fedapt_crypto.errors import ContextMismatch, InvalidInput

SESSION, OTHER = bytes(16), bytes(range(16))


def test_it_lasts_and_another_is_refused(tmp_path: Path) -> None:
    bindings = Bindings(LedgerFile(tmp_path / "ledger.sqlite"))
    assert bindings.group_of(SESSION) is None
    bindings.bind_group(SESSION, bytes(32))
    bindings.bind_group(SESSION, bytes(32))
    bindings.bind_group(OTHER, b"\x01" * 32)
    again = Bindings(LedgerFile(tmp_path / "ledger.sqlite"))
    assert (again.group_of(SESSION), again.group_of(OTHER)) == (bytes(32), b"\x01" * 32)
    with pytest.raises(ContextMismatch, match="another group secret"):
        again.bind_group(SESSION, b"\x02" * 32)
    assert again.group_of(SESSION) == bytes(32)


def earlier(path: Path, version: int) -> None:
    """Make a ledger as an earlier version made it."""
    with sqlite3.connect(path) as database:
        for statement in ledger_file._schema(version):
            database.execute(statement)
        database.execute(f"PRAGMA user_version={version}")
    database.close()


def test_a_ledger_from_before_gets_the_table_and_keeps_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    earlier(path, 1)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO facts VALUES ('kept', X'01')")
    database.close()
    Bindings(LedgerFile(path)).bind_group(SESSION, bytes(32))
    with LedgerFile(path).transaction() as opened:
        assert opened.execute("SELECT value FROM facts").fetchall() == [(b"\x01",)]
        assert opened.execute("PRAGMA user_version").fetchone() == (ledger_file.SCHEMA_VERSION,)


def test_what_only_looks_like_one_from_before_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    earlier(path, 1)
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER releases_no_delete")
    database.close()
    with pytest.raises(InvalidInput, match="not what we made"):
        LedgerFile(path)
