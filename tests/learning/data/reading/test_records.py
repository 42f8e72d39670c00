import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.listing import Listed
from fedapt_secure.learning.data.reading.manifest import write_manifest
from fedapt_secure.learning.data.reading.records import is_test, is_test_record, read_records


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("cat/a.png", "cat/b.JPG", "dog/c.webp", "dog/d.tiff", "dog/e.bmp")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".webp": "WEBP", ".tiff": "TIFF", ".bmp": "BMP"}.get(
            path.suffix.lower(), "PNG"
        )
        Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(path, kind)
    (tmp_path / "images" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "dog" / ".hidden.png").write_bytes(b"")
    (tmp_path / "images" / ".cache").mkdir()
    return tmp_path / "images"


def test_a_folder_gives_its_images_with_sorted_classes(folder):
    found = read_records(folder)
    assert found.class_names == ("cat", "dog")
    assert [record.name for record in found.records] == [
        "cat/a.png",
        "cat/b.JPG",
        "dog/c.webp",
        "dog/d.tiff",
        "dog/e.bmp",
    ]
    assert [record.label for record in found.records] == [0, 0, 1, 1, 1]
    assert all(record.path.is_file() for record in found.records)


def test_given_classes_fix_the_labels(folder):
    found = read_records(folder, ["dog", "bird", "cat"])
    assert found.class_names == ("dog", "bird", "cat")
    assert [record.label for record in found.records] == [2, 2, 0, 0, 0]
    with pytest.raises(InvalidInput, match="unknown class 'dog'"):
        read_records(folder, ["cat"])


def test_a_manifest_gives_the_same_as_the_folder(folder, tmp_path):
    expected = read_records(folder)
    manifest = tmp_path / "list.csv"
    for base in (Path("images"), folder.resolve()):
        write_manifest(
            manifest,
            [Listed(base / one.name, expected.class_names[one.label], one.name) for one in expected.records],
        )
        found = read_records(manifest)
        assert found.class_names == expected.class_names
        assert [(one.path.resolve(), one.label) for one in found.records] == [
            (one.path.resolve(), one.label) for one in expected.records
        ]


def test_a_manifest_may_say_split_and_subject(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("subject,path,split,label,domain\np1,a.png,test,cat,ward\np2,b.png,,dog,ward\n")
    first, second = read_records(manifest).records
    assert (first.split, first.subject, second.split, second.subject) == ("test", "p1", None, "p2")
    assert is_test_record(first, bytes(32).replace(b"\0", b"\xff"))
    assert is_test_record(second, bytes(32)) == is_test(b"p2")


def test_an_institution_holds_one_domain(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label,domain\na.png,cat,ward-1\nb.png,dog,ward-2\n")
    with pytest.raises(InvalidInput, match="names 2 domains .* keep the lines of its own, or leave"):
        read_records(manifest)


def test_other_classes_than_the_sessions_are_listed(folder):
    with pytest.raises(InvalidInput) as caught:
        read_records(folder, ["Cats", "bird", *(f"class {n}" for n in range(400))])
    message = str(caught.value)
    assert "unknown class 'cat' (closest: 'Cats'), 'dog'" in message
    assert "missing 'Cats', 'bird', 'class 0'" in message
    assert "397 more" in message
    assert len(message) < 500


def test_a_folder_in_another_form_is_the_sessions_class(tmp_path):
    names = ("me\u0301lanome", "Naevus ")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    found = read_records(tmp_path, ["naevus", "m\u00e9lanome"])
    assert {one.path.parent.name: one.label for one in found.records} == dict(zip(names, (1, 0), strict=True))
    (tmp_path / "naevus").mkdir()
    (tmp_path / "naevus" / "b.png").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"'Naevus ' \(differs by .*'naevus' both stand for the session's"):
        read_records(tmp_path, ["naevus", "m\u00e9lanome"])
    with pytest.raises(InvalidInput, match="'Naevus ' and 'naevus' are one class"):
        read_records(tmp_path)


def test_labels_of_a_manifest_are_matched_alike(tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\na.png,me\u0301lanome\nb.png,NAEVUS\n")
    assert [one.label for one in read_records(manifest, ["naevus", "m\u00e9lanome"]).records] == [1, 0]
    manifest.write_text("path,label\na.png,naevus\nb.png,NAEVUS\n")
    with pytest.raises(
        InvalidInput, match=r"'NAEVUS' \(differs by capital letters\) and 'naevus' both stand"
    ):
        read_records(manifest, ["naevus", "other"])


def test_what_is_called_like_an_image_and_is_none_is_counted(folder):
    (folder / "cat" / "x.png").mkdir()
    (folder / "cat" / "y.jpg").symlink_to("y.jpg")
    (folder / "cat" / "z.gif").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "again").symlink_to(folder / "again", target_is_directory=True)
    (folder / "cat" / "ok.webp").symlink_to(folder / "dog" / "c.webp")
    (folder / "cat" / "empty.png").write_bytes(b"")
    os.mkfifo(folder / "cat" / "pipe.tif")
    found = read_records(folder)
    assert {one.name: one.reason for one in found.left_out} == {
        "cat/x.png": "a folder, not a file",
        "cat/y.jpg": "too many levels of symbolic links",
        "cat/z.gif": "no such file or directory",
        "cat/pipe.tif": "not a regular file",
    }
    assert [one.name for one in found.records] == [
        "cat/a.png",
        "cat/b.JPG",
        "cat/empty.png",
        "cat/ok.webp",
        "dog/c.webp",
        "dog/d.tiff",
        "dog/e.bmp",
    ]


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        read_records(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="No such file"):
        read_records(tmp_path / "nowhere.csv")
    with pytest.raises(InvalidInput, match="there is no image in"):
        read_records(tmp_path)


def test_the_split_depends_on_the_bytes_alone(folder, tmp_path):
    def split(root):
        return {
            record.path.read_bytes(): is_test(record.path.read_bytes())
            for record in read_records(root).records
        }

    before = split(folder)
    other = tmp_path / "other"
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        if path.suffix != ".txt" and not path.name.startswith("."):
            target = other / "bird" / f"renamed-{number}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    assert split(other) == before


def test_the_split_is_fixed_for_ever():
    # sha256sum of the one-byte files 00 to 0b begins 6e 4b db 08 e5 e7 67 ca be 2b 01 e7; below 40 is a test.
    assert [value for value in range(12) if is_test(bytes([value]))] == [3, 9, 10]


@given(content=st.binary(max_size=40), share=st.floats(0, 1), larger=st.floats(0, 1))
def test_a_larger_test_share_only_adds(content, share, larger):
    low, high = sorted((share, larger))
    assert is_test(content, low) <= is_test(content, high)
    assert not is_test(content, 0.0)
    assert is_test(content, 1.0)


def test_the_test_share_is_about_a_quarter():
    count = sum(is_test(number.to_bytes(4, "big")) for number in range(4000))
    assert abs(count / 4000 - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5
