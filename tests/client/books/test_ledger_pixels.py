"""A picture that was saved anew is the picture that was used before, also for ledgers of earlier versions."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fedapt_client.books.fingerprints import Fingerprinter, KnownImage
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import PlannedSession, Terms
from fedapt_client.books.ledger_file import SCHEMA_VERSION
from fedapt_crypto.errors import InvalidInput, PolicyRefused
from tests.client.books.ledgers import images, open_ledger, terms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def session(number: int) -> bytes:
    return number.to_bytes(16, "big")


def use(ledger: Ledger, number: int, shown: list[KnownImage]) -> PlannedSession:
    planned = ledger.record_plan(terms(session(number)), shown)
    ledger.reserve(session(number), 1, 4)
    return planned


def counted(ledger: Ledger, planned: PlannedSession) -> list[int]:
    return [int.from_bytes(one.terms.session, "big") for one in ledger.counted(planned)]


def test_saved_anew_it_is_the_same_data_set_and_what_was_spent_adds_up(path: Path) -> None:
    ledger = open_ledger(path)
    first = use(ledger, 1, images(1, 2, 3))
    anew = use(ledger, 2, images(1, 2, 3, files="png "))
    assert anew.dataset == first.dataset
    assert counted(ledger, anew) == [1]
    one_of_them = use(ledger, 3, images(3, files="bmp ") + images(8))
    assert counted(ledger, one_of_them) == [1, 2]


def test_other_pictures_are_other_data_sets(path: Path) -> None:
    ledger = open_ledger(path)
    first, other = use(ledger, 1, images(1)), use(ledger, 2, images(2))
    assert first.dataset != other.dataset
    assert counted(ledger, other) == []


def test_by_its_bytes_alone_it_is_known_as_well(path: Path) -> None:
    """Another version of a decoder may read other pixels out of the same file."""
    ledger = open_ledger(path)
    use(ledger, 1, images(1))
    (image,) = images(1)
    elsewhere = KnownImage(image.files, images(99)[0].pixels)
    assert counted(ledger, use(ledger, 2, [elsewhere])) == [1]


def test_each_of_several_files_of_a_picture_is_known(path: Path) -> None:
    ledger = open_ledger(path)
    one, two = images(1), images(1, files="copy ")
    use(ledger, 1, [KnownImage((*one[0].files, *two[0].files), one[0].pixels)])
    assert counted(ledger, use(ledger, 2, images(1, files="copy ", pixels=False))) == [1]


def test_a_session_goes_on_with_images_that_were_saved_anew_meanwhile(path: Path) -> None:
    ledger = open_ledger(path)
    planned = use(ledger, 1, images(1, 2))
    again = ledger.record_plan(terms(session(1)), images(1, 2, files="png "))
    assert again.images == planned.images
    with pytest.raises(InvalidInput, match="not those with which"):
        ledger.record_plan(terms(session(1)), images(1, 3))


def test_files_and_pixels_never_have_one_fingerprint() -> None:
    same = bytes(32)
    made = Fingerprinter(bytes(32)).fingerprints([KnownImage((same,), same)])
    assert len(made) == 2


class TestEarlierVersions:
    """Their ledgers know files alone."""

    @pytest.fixture
    def earlier(self, path: Path) -> Path:
        ledger = open_ledger(path)
        use(ledger, 1, images(1, 2, pixels=False))
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version=2")
        return path

    def test_it_is_taken_over_as_it_is(self, earlier: Path) -> None:
        ledger = open_ledger(earlier)
        assert [one.terms.session for one in ledger.sessions] == [session(1)]
        with closing(sqlite3.connect(earlier)) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,) == (3,)

    def test_its_session_goes_on(self, earlier: Path) -> None:
        assert open_ledger(earlier).record_plan(terms(session(1)), images(1, 2)).steps_taken == 4

    def test_what_it_knows_by_files_it_learns_by_pixels(self, earlier: Path) -> None:
        ledger = open_ledger(earlier)
        assert counted(ledger, use(ledger, 2, images(2, 5))) == [1]
        assert counted(ledger, use(ledger, 3, images(2, files="png "))) == [1, 2]
        assert counted(ledger, use(ledger, 4, images(1, files="png "))) == [], "nobody has shown it since"

    def test_a_refused_session_makes_them_known_too(self, earlier: Path) -> None:
        """Else saving them anew would be the way past a refusal."""

        def refuse(before: list[PlannedSession], asked: Terms) -> None:
            if before:
                raise PolicyRefused("no", rule="max_epsilon")

        ledger = Ledger(earlier, refuse)
        for shown in (images(1, 2), images(1, 2, files="png ")):
            with pytest.raises(PolicyRefused):
                ledger.record_plan(terms(session(2)), shown)

    def test_looking_alone_puts_nothing_on_record(self, earlier: Path) -> None:
        ledger = open_ledger(earlier)
        with closing(sqlite3.connect(earlier)) as database:
            before = database.execute("SELECT count(*) FROM images").fetchone()
            with suppress(PolicyRefused):
                ledger.judge_plan(terms(session(2)), images(1, 2))
            assert database.execute("SELECT count(*) FROM images").fetchone() == before
