"""What operators are told while images are encoded, and how that is stopped."""

import logging

import pytest

from fedapt_client.training.encoding_watch import EncodingWatch
from fedapt_crypto.errors import RunFailed
from fedapt_secure.learning.data.features.merging import Duplicates


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[object, object]]:
    found = [record for record in caplog.records if vars(record).get("event") == "encoding"]
    return [(vars(record).get("done"), vars(record)["images"]) for record in found]


def test_a_tenth_at_a_time_and_the_end(caplog: pytest.LogCaptureFixture) -> None:
    shown = []
    watch = EncodingWatch("clinic-1", lambda done, total: shown.append((done, total)))
    with caplog.at_level(logging.INFO, "fedapt_client"):
        for done in range(1, 1001):
            watch(done, 1000)
    assert told(caplog) == [(done, 1000) for done in (*range(1, 1000, 100), 1000)]
    assert len(shown) == 1000


def test_what_comes_from_the_cache_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fedapt_client"):
        EncodingWatch("clinic-1")(30, 30)
    assert told(caplog) == [(None, 30)]
    assert "in the cache" in caplog.text


def test_how_many_are_copies_goes_to_people_and_into_no_journal(caplog: pytest.LogCaptureFixture) -> None:
    watch, told = EncodingWatch("clinic-1"), []
    with caplog.at_level(logging.DEBUG):
        watch.prepared(Duplicates(merged=3))  # nobody is there
        watch.on_duplicates = told.append
        watch.prepared(Duplicates(merged=3))
    assert told == [Duplicates(merged=3)]
    assert not caplog.records


def test_what_is_told_of_copies() -> None:
    assert Duplicates().in_words() == ()
    merged, contradictory, alike = Duplicates(3, 4, 5).in_words()
    assert merged.startswith("3 image files are copies of another picture here")
    assert contradictory.startswith("4 image files show a picture that is in several classes")
    assert alike.startswith("5 image files look like another one")


def test_once_stopped_it_ends_the_work() -> None:
    watch = EncodingWatch("clinic-1")
    watch(1, 10)
    watch.stop()
    with pytest.raises(RunFailed, match="the next run goes on from there"):
        watch(2, 10)
