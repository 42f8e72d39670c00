"""Data sets by their images: renamed, grown, merged, split; and whose spend counts for whom."""

import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.books.fingerprints import KEY_FILE, Fingerprinter
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import PlannedSession, Terms
from fedapt_client.books.ledger_file import SCHEMA_VERSION
from fedapt_crypto.errors import InvalidInput, PolicyRefused
from tests.client.books.ledgers import MINE, OTHER, allow, images, open_ledger, terms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def session(number: int) -> bytes:
    return number.to_bytes(16, "big")


def run(ledger: Ledger, number: int, *shown: int, begin: bool = True) -> PlannedSession:
    """Accept session ``number`` on these images and take a step."""
    planned = ledger.record_plan(terms(session(number)), images(*shown))
    if begin:
        ledger.reserve(session(number), 1, 4)
    return ledger.plan(session(number)) if begin else planned


def counted(ledger: Ledger, planned: PlannedSession) -> list[int]:
    return [int.from_bytes(one.terms.session, "big") for one in ledger.counted(planned)]


class TestRecognition:
    def test_the_same_images_are_the_same_data_set_and_others_are_not(self, path: Path) -> None:
        ledger = open_ledger(path)
        first, same, other = run(ledger, 1, 1, 2), run(ledger, 2, 2, 1), run(ledger, 3, 8, 9)
        assert first.dataset == same.dataset != other.dataset
        assert len(first.dataset) == len(other.dataset) == 16
        assert (first.overlaps, same.overlaps, other.overlaps) == ((), (), ())
        assert counted(ledger, same) == [1]
        assert counted(ledger, other) == []

    def test_identifiers_are_random(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        first, second = (run(open_ledger(tmp_path / name / "l"), 1, 1, 2) for name in ("a", "b"))
        assert first.dataset != second.dataset
        assert first.images != second.images, "fingerprints of one ledger mean nothing in another"

    def test_a_grown_data_set_keeps_its_name_and_spend(self, path: Path) -> None:
        ledger = open_ledger(path)
        small, grown = run(ledger, 1, 1), run(ledger, 2, *range(1, 50))
        assert grown.dataset == small.dataset
        assert counted(ledger, grown) == [1]
        only_new = run(ledger, 3, 40, 41)  # never seen by session 1; it counts all the same, as documented
        assert only_new.dataset == small.dataset
        assert counted(ledger, only_new) == [1, 2]

    def test_one_shared_image_is_enough(self, path: Path) -> None:
        ledger = open_ledger(path)
        first = run(ledger, 1, *range(100))
        shifted = run(ledger, 2, *range(99, 300))
        assert shifted.dataset == first.dataset
        assert counted(ledger, shifted) == [1]

    def test_merged_data_sets_keep_the_name_of_the_larger_part_and_carry_both_spends(
        self, path: Path
    ) -> None:
        ledger = open_ledger(path)
        one, two = run(ledger, 1, 1, 2), run(ledger, 2, 11, 12, 13)
        merged = run(ledger, 3, 1, 2, 11, 12, 13)
        assert merged.dataset == two.dataset
        assert merged.overlaps == (one.dataset,)
        assert counted(ledger, merged) == [1, 2]
        again = run(ledger, 4, 1, 2)
        assert again.dataset in (one.dataset, two.dataset)
        assert counted(ledger, again) == [1, 2, 3]

    def test_equal_overlap_goes_to_the_older(self, path: Path) -> None:
        ledger = open_ledger(path)
        one, two = run(ledger, 1, 1, 2), run(ledger, 2, 3, 4)
        merged = run(ledger, 3, 1, 3)
        assert (merged.dataset, merged.overlaps) == (one.dataset, (two.dataset,))

    def test_a_session_that_never_began_costs_nothing(self, path: Path) -> None:
        ledger = open_ledger(path)
        run(ledger, 1, 1, 2, begin=False)
        second = run(ledger, 2, 1, 2, begin=False)
        assert counted(ledger, second) == []
        ledger.reserve(session(1), 1, 4)
        assert counted(ledger, second) == [1]

    def test_an_overlap_that_came_later_counts_as_well(self, path: Path) -> None:
        """Session 2 merges 1's images with others' under another name, and begins first."""
        ledger = open_ledger(path)
        waiting = run(ledger, 1, 1, begin=False)
        run(ledger, 5, 11, 12)
        merged = run(ledger, 2, 1, 11, 12)
        assert merged.dataset != waiting.dataset
        assert counted(ledger, waiting) == [2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(1, 8), min_size=1, max_size=4), st.booleans()), max_size=8))
def test_every_begun_session_that_saw_an_image_counts(history: list[tuple[set[int], bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(Path(folder) / "ledger.sqlite")
        for number, (shown, begin) in enumerate(history, start=1):
            planned = run(ledger, number, *shown, begin=False)
            truth = {
                earlier
                for earlier, (seen, begun) in enumerate(history[: number - 1], start=1)
                if begun and seen & shown
            }
            found = counted(ledger, planned)
            assert truth <= set(found)
            assert len(found) == len(set(found))
            if begin:
                ledger.reserve(session(number), 1, 4)


class Limit:
    """A policy of so many sessions on a data set, and a record of what it was asked."""

    def __init__(self, sessions: int) -> None:
        self.sessions = sessions
        self.asked: list[int] = []

    def __call__(self, earlier: Sequence[PlannedSession], new: Terms) -> None:
        self.asked.append(len(earlier))
        if len(earlier) >= self.sessions:
            raise PolicyRefused("no more", rule="max_epsilon")


class TestAdmission:
    def test_a_refused_session_leaves_nothing_behind(self, path: Path) -> None:
        ledger = Ledger(path, Limit(1))
        run(ledger, 1, 1, 2)
        with pytest.raises(PolicyRefused):
            ledger.record_plan(terms(session(2)), images(2, 3))
        assert [one.terms.session for one in ledger.sessions] == [session(1)]
        assert run(ledger, 3, 3).dataset != ledger.plan(session(1)).dataset, "image 3 was not recorded"

    def test_of_two_accepted_sessions_only_the_first_to_begin_passes(self, path: Path) -> None:
        first, second = Ledger(path, Limit(1)), Ledger(path, Limit(1))
        run(first, 1, 1, 2, begin=False)
        run(second, 2, 1, 2, begin=False)
        second.reserve(session(2), 1, 4)
        with pytest.raises(PolicyRefused):
            first.reserve(session(1), 1, 4)
        assert first.steps_spent(session(1)) == 0
        second.reserve(session(2), 2, 4)

    def test_it_is_asked_at_acceptance_and_before_the_first_step_alone(self, path: Path) -> None:
        limit = Limit(5)
        ledger = Ledger(path, limit)
        run(ledger, 1, 1, 2)
        ledger.reserve(session(1), 2, 4)
        ledger.record_plan(terms(session(1)), images(1, 2))
        assert limit.asked == [0, 0]


class TestKey:
    def test_renaming_plays_no_role_and_no_plain_hash_is_stored(self, path: Path) -> None:
        open_ledger(path, [MINE])
        stored = path.read_bytes()
        for image in images(1, 2, 3):
            assert not any(one in stored for one in (*image.files, image.pixels))
        key = (path.parent / KEY_FILE).read_bytes()
        assert key not in stored
        assert all(one in stored for one in Fingerprinter(key).fingerprints(images(1, 2, 3)))

    def test_the_key_is_private_made_once_and_never_shown(self, path: Path) -> None:
        open_ledger(path)
        key_file = path.parent / KEY_FILE
        key = key_file.read_bytes()
        assert (len(key), key_file.stat().st_mode & 0o777) == (32, 0o600)
        open_ledger(path)
        assert key_file.read_bytes() == key
        assert key.hex() not in repr(Fingerprinter(key))

    @pytest.mark.parametrize("change", ["lost", "another", "short", "open"])
    def test_without_its_key_a_ledger_is_refused(self, path: Path, change: str) -> None:
        open_ledger(path, [MINE])
        key_file = path.parent / KEY_FILE
        key = key_file.read_bytes()
        match change:
            case "lost":
                key_file.unlink()
            case "another":
                key_file.write_bytes(bytes(32))
            case "short":
                key_file.write_bytes(key[:31])
            case "open":
                key_file.chmod(0o644)
        with pytest.raises(InvalidInput, match=f"{key_file}"):
            open_ledger(path)
        key_file.unlink(missing_ok=True)
        key_file.touch(mode=0o600)
        key_file.write_bytes(key)
        assert open_ledger(path).plan(MINE)

    def test_a_key_that_waits_for_its_ledger_is_used(self, path: Path) -> None:
        """What a crash between making the key and noting it leaves behind."""
        (path.parent / KEY_FILE).touch(mode=0o600)
        (path.parent / KEY_FILE).write_bytes(bytes(32))
        planned = run(open_ledger(path), 1, 1)
        assert run(open_ledger(path), 2, 1).dataset == planned.dataset


class TestImmutable:
    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE plans SET noise_multiplier = 100",
            "UPDATE reservations SET steps = 0",
            "DELETE FROM reservations",
            "DELETE FROM plans",
            "DELETE FROM images",
            "DELETE FROM facts",
            "UPDATE datasets SET time = 'never'",
            "DELETE FROM overlaps",
            "UPDATE executions SET round = 9",
            "DELETE FROM releases",
            "INSERT OR REPLACE INTO reservations VALUES (zeroblob(16), 1, 1, 'now', x'00')",
        ],
    )
    def test_sqlite_itself_refuses_a_change(self, path: Path, change: str) -> None:
        ledger = open_ledger(path)
        run(ledger, 0, 1, 2)
        run(ledger, 1, 7, 8)
        run(ledger, 2, 1, 7)
        from tests.client.books.ledgers import context  # noqa: PLC0415

        ledger.join(context(1))
        ledger.release(context(1))
        before = (ledger.sessions, ledger.history())
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE counts as a deletion
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                database.execute(change)
        assert (ledger.sessions, ledger.history()) == before

    def test_a_row_that_was_changed_on_disk_is_noticed(self, path: Path) -> None:
        ledger = open_ledger(path)
        run(ledger, 1, 1, 2)
        with closing(sqlite3.connect(path)) as database:
            database.execute("DROP TRIGGER reservations_no_update")
            database.execute("UPDATE reservations SET steps = 1")
            database.commit()
        with pytest.raises(InvalidInput, match="damaged, an entry of reservations"):
            ledger.steps_spent(session(1))
        with pytest.raises(InvalidInput, match="tables are not what we made"):
            Ledger(path, allow)


class TestHistory:
    def test_it_lists_what_happened(self, path: Path) -> None:
        from tests.client.books.ledgers import context  # noqa: PLC0415

        ledger = open_ledger(path, [MINE])
        ledger.reserve(MINE, 1, 4)
        ledger.release(context(1))
        ledger.record_plan(terms(OTHER, noise="insecure-deterministic"), images(1))
        found = [(event.kind, event.session, event.round) for event in ledger.history()]
        assert found == [
            ("plan", MINE, None),
            ("reservation", MINE, 1),
            ("release", MINE, 1),
            ("plan", OTHER, None),
        ]
        assert "σ 1.234, at most 60 steps at q = 0.1" in ledger.history()[0].detail
        assert ledger.history()[3].detail.startswith("NOT PRIVATE")

    def test_a_clock_set_back_changes_no_figure(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger = open_ledger(path)
        run(ledger, 1, 1, 2)
        monkeypatch.setattr("fedapt_client.books.ledger.now", lambda: "1970-01-01T00:00:00.000000+00:00")
        second = run(ledger, 2, 2, 3)
        monkeypatch.undo()
        third = run(open_ledger(path), 3, 3)
        assert counted(ledger, second) == [1, 3]
        assert counted(ledger, third) == [1, 2]
        assert [one.terms.session for one in ledger.sessions] == [session(number) for number in (1, 2, 3)]


class TestVersions:
    def test_a_newer_schema_is_refused_and_left_alone(self, path: Path) -> None:
        open_ledger(path, [MINE])
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        before = path.read_bytes()
        with pytest.raises(
            InvalidInput,
            match=f"written by a newer version \\(schema {SCHEMA_VERSION + 1}.*update fedapt-secure",
        ):
            open_ledger(path)
        assert path.read_bytes() == before

    def test_the_schema_before_data_sets_is_refused_and_left_alone(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE reservations (session BLOB, round INTEGER, steps INTEGER) STRICT")
            database.execute("INSERT INTO reservations VALUES (zeroblob(16), 1, 4)")
            database.commit()
        with pytest.raises(InvalidInput, match="earlier version.*keep it as evidence"):
            open_ledger(path)
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT steps FROM reservations").fetchall() == [(4,)]
