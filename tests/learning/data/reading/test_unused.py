"""Every file of a source is either a record or named with the reason why it is not."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedapt_secure.learning.data.reading.records import read_records, read_unlabelled
from fedapt_secure.learning.data.reading.unused import unused_files

PLACES = (
    "cat/1.png",
    "cat/2.JPG",
    "cat/3.txt",
    "cat/noend",
    "cat/.hidden.png",
    "cat/deeper/4.png",
    "cat/deeper/still/5.png",
    ".secret/6.png",
    "loose.png",
    "notes.md",
    "dog/7.tiff",
)


def reasons(source: Path, *, labelled: bool = True) -> dict[str, str]:
    records = (read_records if labelled else read_unlabelled)(source)
    found = unused_files(source, records, labelled=labelled)
    assert len({one.name for one in found}) == len(found)
    return {one.name: one.reason.split(":")[0] for one in found}


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.sampled_from(PLACES)), st.booleans())
def test_every_file_is_used_or_named(tmp_path_factory, places: set[str], labelled: bool) -> None:
    source = tmp_path_factory.mktemp("images")
    for place in {*places, "cat/always.png"}:
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        (source / place).touch()
    used = {one.name for one in (read_records if labelled else read_unlabelled)(source).records}
    assert {*reasons(source, labelled=labelled), *used} == {*places, "cat/always.png"}
    assert not {*reasons(source, labelled=labelled)} & used


def test_the_reasons(tmp_path: Path) -> None:
    for place in PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "cat" / "folder.png").mkdir()
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    expected = {
        ".secret/6.png": "hidden",
        "cat/.hidden.png": "hidden",
        "cat/3.txt": "not an image's suffix",
        "cat/noend": "not an image's suffix",
        "cat/deeper/4.png": "too deep",
        "cat/deeper/still/5.png": "too deep",
        "cat/folder.png": "a folder, not a file",
        "cat/gone.png": "no such file or directory",
        "loose.png": "in no class",
        "notes.md": "not an image's suffix",
    }
    assert reasons(tmp_path) == expected
    assert "loose.png" not in reasons(tmp_path, labelled=False)


@pytest.mark.parametrize("inside", [True, False])
def test_beside_a_manifest_what_it_does_not_name_is_named(tmp_path: Path, inside: bool) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (2, 2)).save(folder / name)
    (folder / "notes.txt").touch()
    manifest = (tmp_path if inside else folder) / "list.csv"
    manifest.write_text(f"path,label\n{'scans/' if inside else ''}a.png,cat\n")
    prefix = "scans/" if inside else ""
    assert reasons(manifest) == {f"{prefix}b.png": "the manifest does not name it"}
