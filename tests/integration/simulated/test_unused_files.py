"""`simulate` on a folder of which too much is of no use: one line, and nothing starts."""

import pytest

from tests.learning.data.trees import write_domains

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path):
    return write_domains(tmp_path / "data", ("a", "b", "c"), ("cat", "dog"), 10)


def test_files_that_are_no_images(simulate, folder, capsys) -> None:
    for number in range(20):
        (folder / "a" / "cat" / f"{number}.txt").write_text("no image")
    options = ("--dataset", "folder", "--data-root", str(folder), "--rounds", "1", "--no-dp")
    assert simulate(*options).status == 2
    said = capsys.readouterr().err
    assert (
        "20 of 80 files are not used: 20 not an image's suffix. That is more than 20% (--max-unused)" in said
    )
    assert said.count("\n") == 1


@pytest.mark.slow
def test_images_that_are_broken(simulate, folder, capsys) -> None:
    for number in range(9):
        (folder / "b" / "dog" / f"broken{number}.png").write_bytes(b"broken")
    options = ("--dataset", "folder", "--data-root", str(folder), "--rounds", "1", "--no-dp")
    assert simulate(*options).status != 0
    assert "9 of 29 files are not used: 9 not an image" in " ".join(capsys.readouterr().err.split())
    assert simulate(*options, "--max-unused", "0.4", out="again").status == 0
