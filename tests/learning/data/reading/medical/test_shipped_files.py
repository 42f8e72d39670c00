"""Every file that pydicom ships is read, or refused with a reason; the page says which."""

from tests.learning.data.reading.medical.shipped_files import on_the_page, outcomes, table


def test_each_is_read_or_refused_with_the_reason_on_the_page() -> None:
    assert table() == on_the_page(), "run python -m tests.learning.data.reading.medical.shipped_files"


def test_most_are_read() -> None:
    found = outcomes()
    read = sum(len(names) for what, names in found.items() if what.startswith("read"))
    assert read > 80
    assert sum(map(len, found.values())) > 180
