"""Manifests: what is written is read, columns stand in any order, and every mistake names its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.listing import Listed
from fedapt_secure.learning.data.reading.manifest import read_manifest, write_manifest

NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)


def read(tmp_path: Path, content: bytes | str) -> tuple[Listed, ...]:
    manifest = tmp_path / "list.csv"
    manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(manifest)


@given(
    st.lists(st.tuples(NAMES, NAMES, st.sampled_from([None, "train", "test"])), unique_by=lambda one: one[0]),
    st.booleans(),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, rows, with_domain: bool, with_subject: bool) -> None:
    manifest = tmp_path_factory.getbasetemp() / "round-trip.csv"
    images = [
        Listed(
            Path("/images") / f"{number}{name}".replace("/", "_"),
            label,
            "",
            domain=label if with_domain else None,
            split=split,
            subject=name if with_subject else None,
        )
        for number, (name, label, split) in enumerate(rows)
    ]
    write_manifest(manifest, images)
    found = read_manifest(manifest)
    assert [(one.path, one.class_name, one.domain, one.split, one.subject) for one in found] == [
        (one.path, one.class_name, one.domain, one.split, one.subject) for one in images
    ]


def test_columns_in_any_order_and_from_a_spreadsheet(tmp_path: Path) -> None:
    (one,) = read(tmp_path, b"\xef\xbb\xbfLabel , SPLIT,path\r\n cat,test, a b.png \r\n\r\n")
    assert (one.class_name, one.split, one.name, one.path) == ("cat", "test", "a b.png", tmp_path / "a b.png")
    assert (one.domain, one.subject) == (None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'path'"),
        ("path\n", "no column 'label'"),
        ("path,lable\n", r"unknown column 'lable' \(closest: 'label'\); the columns are path and label"),
        ("path,label,age\n", "unknown column 'age'; the columns are"),
        ("path;label\na;b\n", "separated by commas"),
        ("path,label,label\n", "a column twice"),
        ("path,label\na.png\n", r"line 2 .* has 1 values, not 2 \(PATH,LABEL\)"),
        ("path,label\na.png,cat\nb.png,\n", "line 3 .* has no readable label"),
        ("path,label\n ,cat\n", "line 2 .* has no readable path"),
        ('path,label\n"a\x00b",cat\n', "line 2 .* has no readable path|not a readable manifest"),
        ("path,label\na.png,cat\n./a.png,dog\n", "line 3 .* names './a.png' again"),
        ("path,label,split\na.png,cat,val\n", "line 2 .* has the split 'val': it is train, test or empty"),
        ("path,label,domain\na.png,cat,\n", "line 2 .* has no readable domain"),
        ("path,label,subject\na.png,cat,p1\nb.png,cat,\n", "line 3 .* has no subject"),
        (f"path,label\na.png,{'x' * 257}\n", "line 2 .* more than 256 characters"),
        (b"path,label\n\xff\xfe,cat\n", "not a readable manifest"),
        ('path,label\n"a.png,cat\n', "not a readable manifest"),
    ],
)
def test_every_mistake_is_one_clear_line(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_subject_is_in_no_message(tmp_path: Path) -> None:
    assert "secret" not in repr(read(tmp_path, "path,label,subject\na.png,cat,secret\n"))
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, "path,label,subject\na.png,cat,secret\na.png,cat,secret\n")
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_refused(tmp_path_factory, content: bytes) -> None:
    manifest = tmp_path_factory.getbasetemp() / "any.csv"
    manifest.write_bytes(b"path,label\n" + content)
    try:
        found = read_manifest(manifest)
    except InvalidInput:
        return
    assert all(one.name and one.class_name for one in found)
