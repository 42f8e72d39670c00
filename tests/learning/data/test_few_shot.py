"""Few-shot: N a class, tests untouched, and one image more changes at most one other's fate."""

import pytest

from fedapt_secure.learning.data.few_shot import keep_few
from fedapt_secure.learning.data.reading.records import Record, is_test, read_records
from tests.learning.data.trees import write_classes


@pytest.fixture
def records(tmp_path) -> list[Record]:
    write_classes(tmp_path, ("cat", "dog"), images=20)
    return list(read_records(tmp_path).records)


def for_tests(record: Record) -> bool:
    return is_test(record.path.read_bytes())


@pytest.mark.parametrize("shots", [1, 4, 100])
def test_n_training_images_a_class_and_all_tests(records: list[Record], shots: int) -> None:
    kept = keep_few(records, shots)
    assert [one for one in kept if for_tests(one)] == [one for one in records if for_tests(one)]
    for label in (0, 1):
        there = sum(one.label == label and not for_tests(one) for one in records)
        assert sum(one.label == label and not for_tests(one) for one in kept) == min(shots, there)
    assert [one for one in records if one in kept] == kept


def test_one_image_more_pushes_out_at_most_one(records: list[Record]) -> None:
    before = set(keep_few(records[1:], 4))
    after = set(keep_few(records, 4))
    assert len(before - after) <= 1
    moved = 0
    for out in range(len(records)):
        without = set(keep_few(records[:out] + records[out + 1 :], 4))
        assert len(without - after) <= 1
        moved += len(without - after)
    assert moved > 0  # one image does decide on another: this is why it is refused under privacy


def test_names_and_order_do_not_matter(records: list[Record], tmp_path) -> None:
    kept = {one.path.read_bytes() for one in keep_few(records, 3)}
    assert {one.path.read_bytes() for one in keep_few(records[::-1], 3)} == kept


def test_broken_images_take_no_place(records: list[Record]) -> None:
    first = [one for one in keep_few(records, 2) if not for_tests(one)]
    first[0].path.write_bytes(b"")
    first[1].path.unlink()
    kept = keep_few(records, 2)
    usable = [one for one in kept if one.path.exists() and one.path.stat().st_size and not for_tests(one)]
    assert sorted(one.label for one in usable) == [0, 0, 1, 1]


def test_the_source_may_say_what_is_for_tests(records: list[Record]) -> None:
    said = [
        Record(one.path, one.label, one.name, "test" if index % 2 else "train")
        for index, one in enumerate(records)
    ]
    kept = keep_few(said, 2)
    assert sum(one.split == "test" for one in kept) == 20
    assert sum(one.split == "train" for one in kept) == 4
