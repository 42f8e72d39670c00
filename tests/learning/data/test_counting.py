"""Training images and persons, counted from files alone."""

from pathlib import Path

import pytest

from fedapt_secure.learning.data.counting import TrainingCount, count_training, most_training
from fedapt_secure.learning.data.reading.records import Record, is_test

FILES = 40


def record(path: Path, **fields: object) -> Record:
    return Record(path, 0, path.name, **fields)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / str(number) for number in range(FILES)]
    for number, path in enumerate(found):
        path.write_bytes(b"picture %d" % number)
    return found


def test_files_tell_themselves_which_are_for_tests(files: list[Path]) -> None:
    training = [path for path in files if not is_test(path.read_bytes())]
    assert 0 < len(training) < FILES
    records = [record(path) for path in files]
    assert count_training(records) == TrainingCount(len(training), None)
    assert most_training(records) == TrainingCount(FILES, None)


def test_equal_files_count_once_and_lost_ones_never(files: list[Path]) -> None:
    records = [record(path, split="train") for path in files]
    files[1].write_bytes(files[0].read_bytes())
    files[2].unlink()
    assert count_training(records) == TrainingCount(FILES - 2, None)
    assert most_training(records) == TrainingCount(FILES, None)


def test_what_a_source_keeps_for_tests_does_not_train(files: list[Path]) -> None:
    records = [record(path, split="test" if number % 4 else "train") for number, path in enumerate(files)]
    assert count_training(records) == most_training(records) == TrainingCount(FILES // 4, None)


def test_persons_are_those_with_training_images(files: list[Path]) -> None:
    names = [f"person {number}" for number in range(8)]
    held_out = {name for name in names if is_test(name.encode())}
    assert held_out
    records = [record(path, subject=names[number % 8]) for number, path in enumerate(files)]
    expected = TrainingCount(FILES // 8 * (8 - len(held_out)), 8 - len(held_out))
    assert count_training(records) == most_training(records) == expected
