"""Class counts: what is there, what is absent, and a table that fits on the console."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from fedapt_secure.cli.work import balance_report
from fedapt_secure.learning.data.dealing import DealOptions, deal_dataset
from fedapt_secure.learning.data.reading.balance import count_classes, in_words
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.simulate.results.balance_table import print_balance
from tests.learning.data.trees import write_classes, write_domains

LONG = ("fire_truck_of_the_brigade", "fire truck of the brigade")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "images", ["cat"], 3)
    write_classes(tmp_path / "images", ["dog"], 1)
    return tmp_path / "images"


def console(width: int) -> Console:
    return Console(record=True, width=width, force_terminal=True)


def test_counts(folder: Path) -> None:
    balance = count_classes(read_records(folder, ["dog", "bird", "cat"]))
    assert (balance.counts, balance.total, balance.absent) == ((1, 0, 3), 4, ("bird",))
    assert balance.ranked == (("bird", 0), ("dog", 1), ("cat", 3))
    assert in_words("abcdefg", 5) == "a, b, c, d, e and 2 more"


def test_equal_files_are_told_before_anything_is_decoded(folder: Path) -> None:
    shown = console(120)
    (folder / "cat" / "again.png").write_bytes(b"not even an image")
    (folder / "dog" / "again.png").write_bytes(b"not even an image")
    balance_report.print_balance(shown, folder, None)
    assert "1 file is equal to another one here: each picture counts once" in shown.export_text()


@pytest.mark.parametrize("width", [40, 120])
def test_an_institution_sees_its_own(folder: Path, width: int, capsys) -> None:
    shown = console(width)
    (folder / "cat" / "x.png").mkdir()
    balance_report.print_balance(shown, folder, None)
    balance_report.print_balance(shown, folder, ("dog", "bird", "cat"))
    balance_report.print_balance(shown, folder, ("cat", "bird"))
    balance_report.print_balance(shown, folder / "nowhere", None)
    first, left_out, absent, unknown = shown.export_text().splitlines()
    assert first == "images here    4 of 2 classes: cat 3, dog 1"
    assert left_out == "1 of 5 files are not used: 1 a folder, not a file"
    assert absent == "of these classes there is no image here: bird"
    assert "unknown class 'dog'" in unknown


def test_a_simulation_shows_a_column_a_class_where_it_fits(tmp_path: Path) -> None:
    root = write_domains(tmp_path / "root", ("photo", "sketch"), LONG, images=3)
    (root / "photo" / LONG[1] / "x.png").mkdir()
    dealt = deal_dataset(
        "folder", None, 0, root, lambda name: tmp_path / name,
        DealOptions(institutions_per_domain=3, dirichlet=1e-3),
    )  # fmt: skip
    for width in (80, 120):
        shown = console(width)
        print_balance(shown, dealt)
        text = shown.export_text()
        assert "equal to another" not in text
        assert all(f"clinic-{number}" in text for number in range(1, 7))
        assert "has no image of: fire" in text
        assert "left out 1 files (1 because of: a folder, not a file)" in text
        assert "to keep them apart" in text
        # wide: a column a class, and 0 where there is none; narrow: how many of them are there
        assert ("1 of 2" in text) == (width == 80)
        assert ("most" in text) == (width == 80)


def test_a_simulation_tells_equal_files_of_one_institution_alone(tmp_path: Path) -> None:
    root = write_domains(tmp_path / "root", ("photo", "sketch"), ("cat", "dog"), images=3)
    first = sorted((root / "photo" / "cat").iterdir())[0]
    for place in (root / "photo" / "cat", root / "sketch" / "cat"):
        shutil.copy(first, place / f"again{first.suffix}")
    dealt = deal_dataset("folder", None, 0, root, lambda name: tmp_path / name, DealOptions())
    shown = console(120)
    print_balance(shown, dealt)
    text = " ".join(shown.export_text().split())
    assert "in the institutions' own images 1 file is equal to another one here" in text
